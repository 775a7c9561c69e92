"""Which places of a model draw random numbers in training.

A site is a module that draws random numbers in its own `forward`, not through a child. Since transformers 5
computes attention dropout as a function gated on the attention module's `training` flag, looking for
`nn.Dropout` children misses it; here the generators are watched while the model runs, so that a site is
whatever draws, however it does so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.types import Coverage, DropoutSite
from calibench_methods.sampling.live import forked_generators

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Draw:
    """One use of a generator: which module, on a tensor of what shape, with what drop probability."""

    site: str
    shape: tuple[int, ...] | None
    p: float | None


class _DrawRecorder(TorchFunctionMode):
    """Records which module is running whenever the state of a generator moves.

    The state is compared after every torch function, which tells the probability and the tensor, and
    whenever a module is entered or left, which catches draws that no torch function shows.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.draws: list[_Draw] = []
        self._module = module
        self._device = device
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> _DrawRecorder:
        for name, child in self._module.named_modules():
            # First in and last out, so that draws of the caller's own hooks count as the module's.
            self._handles.append(child.register_forward_pre_hook(self._entering(name), prepend=True))
            self._handles.append(child.register_forward_hook(self._leaving, always_call=True))
        self._state = self._generator_states()
        super().__enter__()  # type: ignore[no-untyped-call] # torch leaves its modes untyped
        return self

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        shape = next((tuple(tensor.shape) for tensor in tensors), None)
        self._record(shape, _drop_probability(func, args, kwargs))
        return result

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._record(None, None)
            self._running.append(name)

        return hook

    def _leaving(self, *_: Any) -> None:
        self._record(None, None)
        self._running.pop()

    def _record(self, shape: tuple[int, ...] | None, p: float | None) -> None:
        state = self._generator_states()
        if state != self._state and self._running:
            self.draws.append(_Draw(self._running[-1], shape, p))
        self._state = state

    def _generator_states(self) -> tuple[bytes, ...]:
        states = [torch.get_rng_state()]
        if self._device.type != "cpu":
            states.append(torch.get_device_module(self._device).get_rng_state(self._device))
        return tuple(state.numpy().tobytes() for state in states)


def _drop_probability(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> float | None:
    """The drop probability a torch function was called with, or None where it has none."""
    name = getattr(func, "__name__", "")
    if "dropout" in name:
        keyword, position = "p", 1
    elif name == "scaled_dot_product_attention":
        keyword, position = "dropout_p", 4
    else:
        return None
    value = kwargs.get(keyword, args[position] if len(args) > position else None)
    return None if value is None else float(value)


def _draws(module: nn.Module, inputs: Inputs, *, train: bool | None = None) -> list[_Draw]:
    """Run a copy of `module` once and list its draws.

    The copy shares the parameters; buffers (such as BatchNorm's), flags and hooks are its own, so that
    nothing of the caller's is disturbed, even if the forward pass fails.
    """
    probe = copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})
    if train is not None:
        probe.train(train)
    device = next(iter(inputs.values())).device
    with torch.no_grad(), forked_generators(device), _DrawRecorder(probe, device) as recorder:
        probe(**inputs)
    return recorder.draws


def find_sites(module: nn.Module, example_inputs: Inputs) -> tuple[DropoutSite, ...]:
    """The places at which a training pass of `module` draws random numbers, in the order they first do.

    Args:
        module: the model; it is not changed, and neither are the caller's generators.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].

    Returns:
        One site per module, all active.
    """
    modules = dict(module.named_modules())
    first: dict[str, _Draw] = {}
    for draw in _draws(module, example_inputs, train=True):
        first.setdefault(draw.site, draw)
    return tuple(_site(modules[name], draw) for name, draw in first.items())


def _site(module: nn.Module, draw: _Draw) -> DropoutSite:
    kind = type(module).__name__
    if isinstance(module, _DropoutNd):
        kind = "hidden"
    elif "attention" in kind.lower():
        kind = "attention"
    p = getattr(module, "p", None) if draw.p is None else draw.p
    return DropoutSite(draw.site, kind, p, active=True)


def measure_coverage(module: nn.Module, expected: Iterable[DropoutSite], example_inputs: Inputs) -> Coverage:
    """Which of the `expected` sites draw random numbers when `module` runs as it is.

    Args:
        module: the model as a method made it: patched, hooked, in whatever mode.
        expected: what `find_sites` found on the unchanged model; matched by name.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].
    """
    drawing = {draw.site for draw in _draws(module, example_inputs)}
    return Coverage(tuple(DropoutSite(s.name, s.kind, s.p, active=s.name in drawing) for s in expected))


def sites_without_batch_axis(module: nn.Module, example_inputs: Inputs) -> tuple[str, ...]:
    """Names of the sites whose mask all examples of a batch share, such as DeBERTa-v2's `pos_dropout`.

    A draw has a batch axis when the tensor it acts on grows with the batch, which running the examples
    once and twice over tells; a draw whose tensor cannot be seen counts as having none.

    Args:
        module: the model; it is not changed.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].
    """
    doubled = {name: torch.cat([value, value]) for name, value in example_inputs.items()}
    once, twice = _shapes(module, example_inputs), _shapes(module, doubled)
    return tuple(
        site
        for site, shapes in once.items()
        if any(a is None or a == b for a, b in zip_longest(shapes, twice.get(site, [])))
    )


def _shapes(module: nn.Module, inputs: Inputs) -> dict[str, list[tuple[int, ...] | None]]:
    """The shapes each site draws on in a training pass."""
    shapes: dict[str, list[tuple[int, ...] | None]] = {}
    for draw in _draws(module, inputs, train=True):
        shapes.setdefault(draw.site, []).append(draw.shape)
    return shapes


def require_sites(checkpoint: Checkpoint, inputs: Inputs) -> tuple[DropoutSite, ...]:
    """`find_sites` of a checkpoint that has some.

    Raises:
        RefusedError: a training pass draws no random numbers, so that all passes would be equal.
    """
    sites = find_sites(checkpoint.module, inputs)
    if not sites:
        raise RefusedError(
            f"MC-Dropout is deterministic on {checkpoint.name} ({type(checkpoint.module).__name__}): its "
            "dropout probabilities are all 0 (ModernBERT's default), so every pass would be the same; "
            "use a model trained with dropout."
        )
    return sites
