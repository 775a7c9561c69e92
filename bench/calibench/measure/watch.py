"""What all methods share, the checkpoint and the process: looked at around each of them, and put back."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from calibench.errors import CalibenchError
from calibench.hashing import weights_sha256
from calibench.models.checkpoint import Checkpoint

#: Values of each tensor that are compared at every look, evenly spread.
_PROBED = 16
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
_TOKENIZER = ("padding_side", "truncation_side", "model_max_length", "model_input_names")
#: Attributes of a module that are compared, such as drop probabilities; a model may keep counts for itself.
_PLAIN = (bool, float)


@dataclass(frozen=True, eq=False)
class _Item:
    """One thing that stays as it is.

    Attributes:
        what: as a message names it.
        read: gives what is compared.
        restore: puts it back as it was when the item was made.
        stored: "weights" or "vocabulary" where the files must be read again for that.
    """

    what: str
    read: Callable[[], Any]
    restore: Callable[[], None]
    stored: str | None = None


class Watch:
    """The shared checkpoint and the settings of the process, as they are now and are to stay.

    A look takes some microseconds per module and per tensor. It sees tensors, modules, hooks, modes and
    settings that were replaced, tensors that torch knows to have been written to, and writes behind torch's
    back that reach one of a few values of each tensor; `verify_weights` sees those that do not.

    Args:
        checkpoint: what the methods are given.
        load: loads the same checkpoint anew, for what was written over.
    """

    def __init__(self, checkpoint: Checkpoint, load: Callable[[], Checkpoint]) -> None:
        self._checkpoint = checkpoint
        self._load = load
        self._sha256 = weights_sha256(checkpoint.module.state_dict())
        self._items = [*_process(), *_tokenizer(checkpoint.tokenizer), *_model(checkpoint.module)]
        self._before = [item.read() for item in self._items]

    def put_back(self) -> str | None:
        """What has changed since the last look, which is put back; None where nothing has.

        Raises:
            CalibenchError: it could not be put back.
        """
        changed = self._changed()
        if not changed:
            return None
        for item in changed:
            item.restore()
        stored = {item.stored for item in changed}
        if stored != {None}:
            self._read_again(stored)
        left = self._changed()
        if left or ("weights" in stored and not self._weights_are_kept()):
            raise CalibenchError(
                f"A method changed {_listed(left or changed)}, which all methods share, and it could not be "
                "put back; run again without that method, and finished blocks are kept."
            )
        return _listed(changed)

    def verify_weights(self) -> None:
        """Compare every weight with what it was.

        Raises:
            CalibenchError: one has changed.
        """
        if not self._weights_are_kept():
            raise CalibenchError(
                "A method changed the model's weights, and it could not be told which: no number of this run "
                "is kept; run its methods in smaller groups to find it."
            )

    def _weights_are_kept(self) -> bool:
        return weights_sha256(self._checkpoint.module.state_dict()) == self._sha256

    def _changed(self) -> list[_Item]:
        return _unlike(self._items, self._before)

    def _read_again(self, stored: set[str | None]) -> None:
        """Write what the files hold over what is there, in place: all who share it have it then."""
        fresh = self._load()
        if "vocabulary" in stored:
            vars(self._checkpoint.tokenizer)["_tokenizer"] = vars(fresh.tokenizer).get("_tokenizer")
        if "weights" in stored:
            values = _tensors(fresh.module)
            with torch.no_grad():
                for name, tensor in _tensors(self._checkpoint.module).items():
                    if name in values and values[name].shape == tensor.shape:
                        tensor.detach().copy_(values[name])
            for number, item in enumerate(self._items):
                if item.stored == "weights":  # by its version, written to; by its values, as before
                    self._before[number] = item.read()


class ProcessWatch:
    """The settings of the process alone, for code that is not given the checkpoint."""

    def __init__(self) -> None:
        self._items = list(_process())
        self._before = [item.read() for item in self._items]

    def put_back(self) -> str | None:
        """What has changed, which is put back; None where nothing has."""
        changed = _unlike(self._items, self._before)
        for item in changed:
            item.restore()
        return _listed(changed) if changed else None


def _unlike(items: Sequence[_Item], before: Sequence[Any]) -> list[_Item]:
    return [item for item, value in zip(items, before, strict=True) if item.read() != value]


def _listed(items: Sequence[_Item]) -> str:
    named = list(dict.fromkeys(item.what for item in items))
    more = f" and {len(named) - 2} more" if len(named) > 3 else ""
    return ", ".join(named[: 2 if more else 3]) + more


def _setting(what: str, read: Callable[[], Any], write: Callable[[Any], Any]) -> _Item:
    value = read()
    return _Item(what, read, lambda: write(value))


def _attribute(what: str, owner: Any, name: str) -> _Item:
    return _setting(what, lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _process() -> Iterator[_Item]:
    """Settings of the process that change numbers or times, or how it ends."""
    yield _setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield _setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _setting("torch's default device", torch.get_default_device, _set_default_device)
    yield _setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield _setting(
        "torch's deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    )
    yield _setting(
        "torch's matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    )
    for device in ("cpu", "cuda"):
        yield _setting(
            f"torch's autocast on {device}",
            partial(torch.is_autocast_enabled, device),
            partial(torch.set_autocast_enabled, device),
        )
    for name in ("enabled", "benchmark", "deterministic"):
        yield _attribute(f"torch.backends.cudnn.{name}", torch.backends.cudnn, name)
    for name in _GLOBAL_HOOKS:
        yield _dictionary("the hooks of all modules", torch_module.__dict__, name)
    yield _setting("NumPy's treatment of floating-point errors", np.geterr, lambda value: np.seterr(**value))
    yield _setting("Python's garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield _setting("the working directory", os.getcwd, os.chdir)
    if threading.current_thread() is threading.main_thread():
        yield _setting(
            "what Ctrl-C does",
            lambda: signal.getsignal(signal.SIGINT),
            lambda handler: signal.signal(signal.SIGINT, handler),
        )


def _set_default_device(device: torch.device) -> None:
    # None, and not the CPU by name, for what torch has from the start: a name costs every call something.
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _tokenizer(tokenizer: Any) -> Iterator[_Item]:
    for name in _TOKENIZER:
        if hasattr(tokenizer, name):
            yield _attribute(f"the tokenizer's {name}", tokenizer, name)
    yield _dictionary("the tokenizer's special tokens", vars(tokenizer), "_special_tokens_map")
    yield _Item("the tokenizer's vocabulary", lambda: len(tokenizer), lambda: None, "vocabulary")


def _model(module: nn.Module) -> Iterator[_Item]:
    configs = {id(config): config for config in _configs(module)}
    for config in configs.values():
        yield _plain("the model's config", vars(config), (bool, int, float, str, type(None)))
    for path, child in module.named_modules():
        yield from _module(path or "the model", child)
    tensors = _tensors(module)
    for name, tensor in tensors.items():
        yield _attribute(f"requires_grad of {name}", tensor, "requires_grad")
        yield _written(name, tensor)
    yield _Item("the values of the weights", _probe(tensors.values()), lambda: None, "weights")


def _configs(module: Any) -> Iterator[Any]:
    config = getattr(module, "config", None)
    if config is not None:
        yield config
        yield config.get_text_config()


def _module(path: str, module: nn.Module) -> Iterator[_Item]:
    attributes = vars(module)
    yield _attribute(f"the training mode of {path}", module, "training")
    yield _dictionary(f"the modules of {path}", attributes, "_modules")
    yield _dictionary(f"the parameters of {path}", attributes, "_parameters")
    # Others a model may make anew for itself, as those of rotary embeddings.
    passing = frozenset(module._non_persistent_buffers_set)
    yield _dictionary(f"the buffers of {path}", attributes, "_buffers", passing)
    for name in _HOOKS:
        yield _dictionary(f"a hook on {path}", attributes, name)
    yield _plain(f"the settings of {path}", attributes, _PLAIN, skip=("training",))
    yield _forward(path, module)


def _dictionary(what: str, owner: Any, name: str, without: frozenset[str] = frozenset()) -> _Item:
    """The entries of a dictionary, by identity, but for those `without`."""
    mapping = owner.get(name, {})
    entries = {key: value for key, value in mapping.items() if key not in without}

    def read() -> Any:
        return [(key, id(value)) for key, value in owner.get(name, {}).items() if key not in without]

    def restore() -> None:
        others = {key: value for key, value in mapping.items() if key in without}
        mapping.clear()
        mapping.update(entries | others)
        owner[name] = mapping

    return _Item(what, read, restore)


def _plain(what: str, owner: dict[str, Any], kinds: tuple[type, ...], skip: Sequence[str] = ()) -> _Item:
    """The values of these types in a dictionary."""

    def read() -> dict[str, Any]:
        return {key: value for key, value in owner.items() if type(value) in kinds and key not in skip}

    before = read()

    def restore() -> None:
        for key in read().keys() - before.keys():
            del owner[key]
        owner.update(before)

    return _Item(what, read, restore)


def _forward(path: str, module: nn.Module) -> _Item:
    """The class of a module, and what stands in for its `forward`, if anything does."""
    kind, own = type(module), vars(module).get("forward")

    def restore() -> None:
        module.__class__ = kind
        vars(module).pop("forward", None)
        if own is not None:
            vars(module)["forward"] = own

    return _Item(f"the forward of {path}", lambda: (type(module), vars(module).get("forward")), restore)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _written(name: str, tensor: Tensor) -> _Item:
    """Where a tensor's values are, and how often torch has seen them written."""
    values = tensor.detach()

    def read() -> tuple[int, int]:
        return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version

    def restore() -> None:
        tensor.data = values

    return _Item(f"the weights {name}", read, restore, "weights")


def _probe(tensors: Any) -> Callable[[], Any]:
    """What gives a few values of every tensor, by dtype, as bytes."""
    views: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.is_contiguous() and tensor.numel():
            step = max(1, tensor.numel() // _PROBED)
            views.setdefault(tensor.dtype, []).append(tensor.detach().view(-1)[::step])

    def read() -> list[bytes]:
        joined = [torch.cat(group).cpu().view(torch.uint8) for group in views.values()]
        return [values.numpy().tobytes() for values in joined]

    return read
