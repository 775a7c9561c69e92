"""Letting the stochastic sites of a model draw at prediction, from a seed that no other generator feels."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from calibench.errors import CalibenchError
from calibench.types import DropoutSite


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block after `torch.manual_seed(seed)` and leave the caller's generators as they were.

    NumPy's and Python's own generators, which a model may draw from too, are seeded and put back with it.

    Args:
        seed: for every generator, -2**63 to 2**64 - 1; NumPy takes its lower 32 bits.
        device: where the block draws, besides the CPU.
    """
    with forked_generators(device):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the one that models draw from
        random.seed(seed)
        yield


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Put every generator that a model may draw from back to where it was when the block ends."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with _forked_torch(device):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _forked_torch(device: torch.device) -> AbstractContextManager[None]:
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    # `manual_seed` reseeds every device of this type, so every one of them is put back.
    count = torch.get_device_module(device).device_count()
    return torch.random.fork_rng(devices=range(count), device_type=device.type)


def torch_states(device: torch.device) -> tuple[bytes, ...]:
    """Where torch's generators stand, of the CPU and the device, to be compared with an earlier answer."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return tuple(state.numpy().tobytes() for state in states)


def host_states() -> tuple[object, ...]:
    """The same of NumPy's generator and Python's own."""
    state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    inner = state["state"]
    return inner["key"].tobytes(), inner["pos"], state["gauss"], random.getstate()


class LiveDropout:
    """Forward hooks that let the given sites draw while everything else stays in its own mode.

    Around each call of a site, its own `training` flag, and no other module's, is True; afterwards it is
    what it was, also when the call raises. One seed gives bit for bit what `module.train()` gives, but
    BatchNorm keeps its running statistics, and a later `module.eval()` changes nothing.

    Use it as a context manager, or call `remove`.

    Args:
        module: the model.
        sites: names of its modules, as `find_sites` reports them.

    Raises:
        CalibenchError: a site is not a module of this model.
    """

    def __init__(self, module: nn.Module, sites: Iterable[DropoutSite]) -> None:
        modules = dict(module.named_modules())
        # A module that draws in two ways is two sites and is switched on once.
        names = list(dict.fromkeys(site.name for site in sites))
        for name in names:
            if name not in modules:
                raise CalibenchError(f"{type(module).__name__} has no module {name!r}; find its sites again.")
        self._sites: list[tuple[nn.Module, list[bool]]] = []
        self._handles: list[RemovableHandle] = []
        for name in names:
            self._install(modules[name])

    def _install(self, site: nn.Module) -> None:
        before: list[bool] = []

        def switch_on(module: nn.Module, _: Any) -> None:
            before.append(module.training)
            module.training = True

        def restore(module: nn.Module, *_: Any) -> None:
            # Empty if another pre-hook raised before ours ran.
            if before:
                module.training = before.pop()

        self._sites.append((site, before))
        self._handles.append(site.register_forward_pre_hook(switch_on))
        self._handles.append(site.register_forward_hook(restore, always_call=True))

    def remove(self) -> None:
        """Take the hooks off again; safe to call twice."""
        for handle in self._handles:
            handle.remove()
        for site, before in self._sites:
            # torch runs `always_call` hooks on Exception only: an interrupted pass leaves the flag set.
            if before:
                site.training = before[0]
                before.clear()

    def __enter__(self) -> LiveDropout:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()
