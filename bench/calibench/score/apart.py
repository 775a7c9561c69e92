"""A post-hoc step, which may be anybody's code: what it does and returns costs its own rows alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from calibench.containment import contained
from calibench.errors import CalibenchError
from calibench.posthoc import Calibrator, log_of
from calibench.registry import POSTHOC
from calibench.store.records import to_json
from calibench.types import FloatArray, IntArray

if TYPE_CHECKING:
    from calibench.measure.setting import Setting

T = TypeVar("T")


def apart(name: str, call: Callable[[], T], seconds: float | None = None) -> T:
    """As `contained`, and what it changes about the process is put back.

    Raises:
        CalibenchError: besides, that it did.
    """
    if "torch" not in sys.modules:
        # Where predictions are scored from a file there are no rows of a model to protect.
        return contained(name, call, seconds)
    from calibench.measure.watch import ProcessWatch

    watch = ProcessWatch()
    try:
        found = contained(name, call, seconds)
    finally:
        changed = watch.put_back()
    if changed is not None:
        raise CalibenchError(
            f"{name} changed {changed}, which all rows share; expected it to leave the process as it is."
        )
    return found


class ContainedStep(Calibrator):
    """The registered step `name`, kept apart: it is given copies, and its answers are looked at.

    Args:
        seconds: how long each call may take; None for as long as it likes.

    Raises:
        CalibenchError: here and in every method, what it returned is no answer, it wanted to end the process,
            it took too long, or it changed a setting of the process, which is put back.
        Exception: as the step raises it.
    """

    def __init__(self, name: str, seconds: float | None = None) -> None:
        self._name = name
        self._seconds = seconds
        self._inner: Calibrator = self._apart(lambda: POSTHOC.load(name)())
        self.smooth = bool(self._inner.smooth)

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        """As of the step."""
        given = log_probs.copy(), labels.copy()
        self._apart(lambda: self._inner.fit(*given))

    def transform(self, log_probs: FloatArray) -> FloatArray:
        """As of the step."""
        given = log_probs.copy()
        found = self._apart(lambda: np.array(self._inner.transform(given), dtype=np.float64))
        if found.shape != log_probs.shape:
            raise CalibenchError(
                f"{self._name} returned probabilities of shape {found.shape}; expected {log_probs.shape}, "
                "a row per example and a column per class."
            )
        return found

    @property
    def parameters(self) -> Mapping[str, Any]:
        """As of the step, in the form that a record gives back."""

        def plain() -> Any:
            return json.loads(to_json(dict(self._inner.parameters)))

        found: dict[str, Any] = self._apart(plain)
        return found

    def time_transform(self, probs: FloatArray) -> float:
        """Seconds that it takes from probabilities, float64 [N, C], to probabilities."""

        def timed() -> float:
            start = time.perf_counter()
            self._inner.transform(log_of(probs))
            return time.perf_counter() - start

        return self._apart(timed)

    def _apart(self, call: Callable[[], T]) -> T:
        return apart(self._name, call, self._seconds)


def step_factory(name: str, setting: Setting) -> Callable[[], ContainedStep]:
    """What makes a step that has learnt nothing."""
    return partial(ContainedStep, name, seconds_allowed(setting))


def seconds_allowed(setting: Setting) -> float | None:
    """A step may take as long as a method may to set itself up; None for as long as it likes."""
    limit = setting.suite.timing.timeout_per_block
    return None if limit is None else limit * len(setting.blocks)
