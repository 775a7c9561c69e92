"""Clocks: what is timed, from where to where, on which device.

Throughput comes from blocks of batches and latency from single sentences; neither is derived from the other.
Both start at raw texts and end when the probabilities are on the host.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from calibench.method import Method
from calibench.models.devices import synchronise
from calibench.models.plan import Planner
from calibench.models.sharing import charges
from calibench.types import IntArray, Plan, Predictive


@dataclass(frozen=True)
class Timed:
    """Seconds of one timed section.

    Attributes:
        end_to_end_s: from raw texts to probabilities on the host.
        tokenise_s: tokenising, padding and copying to the device; None for a peer that does its own.
        forward_s: inside forward calls of the method's modules; None where the device has no clock for it.
    """

    end_to_end_s: float
    tokenise_s: float | None
    forward_s: float | None


class ForwardTimer:
    """Adds up the time inside forward calls of some modules.

    On CPU by the host's clock; on CUDA by pairs of events, which add no synchronisation to what is measured;
    elsewhere `seconds` is None.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self._modules = modules
        self._device = device
        self._total = 0.0
        self._starts: list[Any] = []
        self._events: list[tuple[Any, Any]] = []

    def _start(self, *_: Any) -> None:
        if self._device.type == "cuda":
            self._starts.append(self._event())
        else:
            self._starts.append(time.perf_counter())

    def _stop(self, *_: Any) -> None:
        started = self._starts.pop()
        if self._device.type == "cuda":
            self._events.append((started, self._event()))
        else:
            self._total += time.perf_counter() - started

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call] # torch leaves it untyped
        event.record()
        return event

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Count forward calls made inside the block."""
        handles = []
        for module in self._modules:
            handles.append(module.register_forward_pre_hook(self._start, prepend=True))
            handles.append(module.register_forward_hook(self._stop, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def seconds(self) -> float | None:
        """Seconds so far; on CUDA only after the device has been synchronised."""
        if self._device.type == "cpu":
            return self._total
        if self._device.type == "cuda":
            return float(sum(start.elapsed_time(stop) for start, stop in self._events)) / 1000
        return None


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Take what exists out of the garbage collector's sight, so that collecting between sections is short.

    The libraries alone leave a million objects, half a second to walk.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's cyclic garbage collector out of a timed section, as `timeit` does."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def time_prediction(
    method: Method, planner: Planner, plan: Plan, groups: Sequence[IntArray], *, seed: int
) -> tuple[Predictive, Timed]:
    """Predict some batches of `plan` with `method` and time it from text to probabilities.

    A method that tokenises for itself gets a plan made outside the timed section, with its texts in data set
    order, and is charged for its own tokenising inside it. A forward pass that another method has made in its
    place is charged too; see `calibench.models.sharing`.

    Args:
        groups: the batches, each an array of positions in `plan`.

    Returns:
        The prediction, in the order of the whole plan, and its time.
    """
    device = planner.device
    timer = ForwardTimer(method.modules, device)
    tokenise_s: float | None = None
    prepared = planner.assemble(plan.texts, plan.rows, groups) if method.tokenises else None
    with _no_collection(), timer.attached(), charges() as charged:
        synchronise(device)
        start = time.perf_counter()
        if prepared is None:
            chosen = planner.assemble(plan.texts, plan.rows, groups)
            tokenise_s = time.perf_counter() - start
        else:
            chosen = prepared
        predictive = method.predict(chosen, seed=seed)
        synchronise(device)
        end_to_end_s = time.perf_counter() - start
    forward_s = None if timer.seconds is None else timer.seconds + charged.seconds
    return predictive, Timed(end_to_end_s + charged.seconds, tokenise_s, forward_s)
