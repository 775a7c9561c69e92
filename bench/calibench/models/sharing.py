"""One forward pass for all methods that need the same, and the seconds that each is charged for it.

A method alone would make the pass itself. Where several are measured side by side, it is made before the
first of them, so that none of their own work slows it, and its time is kept; all take the result, and the
time is added to theirs. What a method did not spend itself is counted by `charges`, which every timed section
adds to the clock.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from calibench.models.devices import synchronise

#: Bytes of results that are kept; what comes after is computed by every method for itself.
MOST_BYTES = 512 * 2**20

#: By the size of an element, the integers that its bits are.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(eq=False)
class _Kept:
    results: dict[bytes, tuple[Any, float]] = field(default_factory=dict)
    #: Held, so that no later module has the identity of one that is gone.
    modules: list[nn.Module] = field(default_factory=list)
    #: What tells whether a result has been written to.
    sums: dict[bytes, list[int]] = field(default_factory=dict)
    bytes: int = 0


@dataclass(eq=False)
class Charges:
    """Seconds of work that a section had the benefit of and did not do itself."""

    seconds: float = 0.0


_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)
_CHARGES: ContextVar[Charges | None] = ContextVar("charges", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let methods share forward passes until the block ends; outside such a block nothing is kept."""
    token = _KEPT.set(_Kept())
    try:
        yield
    finally:
        _KEPT.reset(token)


@contextmanager
def alone() -> Iterator[None]:
    """Neither give nor take a pass inside the block: for what all others are compared with."""
    token = _KEPT.set(None)
    try:
        yield
    finally:
        _KEPT.reset(token)


@contextmanager
def charges() -> Iterator[Charges]:
    """Count what is charged inside the block."""
    found = Charges()
    token = _CHARGES.set(found)
    try:
        yield found
    finally:
        _CHARGES.reset(token)


def charge(seconds: float) -> None:
    """Add seconds to what the enclosing `charges` counts; nothing happens where nobody counts."""
    found = _CHARGES.get()
    if found is not None:
        found.seconds += seconds


def counted() -> bool:
    """Whether anybody counts what is charged."""
    return _CHARGES.get() is not None


def shared(
    module: nn.Module, inputs: Mapping[str, Tensor], device: torch.device, compute: Callable[[], Any]
) -> Any:
    """`compute()`, or inside `sharing` what it gave for the same module and inputs.

    Args:
        module: what computes; methods share only what one and the same module made.
        inputs: its keyword arguments, tensors [B, L]; told apart by content.
        device: where it runs; waited for before and after a pass that is kept, so that its time is its own.
        compute: without side effects; returns tensors, in any nesting.
    """
    kept = _KEPT.get()
    if kept is None:
        return compute()
    key = _key(module, inputs)
    if key in kept.results:
        result, seconds = kept.results[key]
        charge(seconds)
        return result
    synchronise(device)
    start = time.perf_counter()
    result = compute()
    synchronise(device)
    seconds = time.perf_counter() - start
    size = _bytes(result)
    if kept.bytes + size <= MOST_BYTES:
        kept.results[key] = (result, seconds)
        kept.sums[key] = _sums(result)
        kept.modules.append(module)
        kept.bytes += size
    return result


def forget_written() -> bool:
    """Forget the results that whoever took them has written to; whether there were any."""
    kept = _KEPT.get()
    if kept is None:
        return False
    written = [key for key, (result, _) in kept.results.items() if _sums(result) != kept.sums[key]]
    for key in written:
        del kept.results[key]
    return bool(written)


def _key(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(str(id(module)).encode(), digest_size=16)
    for name in sorted(inputs):
        digest.update(f"{name} {tuple(inputs[name].shape)}".encode())
        digest.update(inputs[name].cpu().contiguous().numpy().data)
    return digest.digest()


def _bytes(result: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(result))


def _sums(result: Any) -> list[int]:
    """A sum over the bits of every tensor, weighted by place, which another order changes too."""
    found: list[int] = []
    for tensor in _tensors(result):
        bits = tensor.detach().contiguous().view(-1).view(_BITS[tensor.element_size()])
        found.append(int((bits * torch.arange(1, len(bits) + 1, device=bits.device)).sum()))
    return found


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, tuple | list):
        for value in result:
            yield from _tensors(value)
    elif hasattr(result, "__dict__"):
        yield from _tensors(vars(result))
