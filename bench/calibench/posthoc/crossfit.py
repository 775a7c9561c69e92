"""Calibrating the examples that are scored, each with a calibrator that has not seen it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from calibench.errors import RefusedError
from calibench.posthoc.base import Calibrator, log_of
from calibench.posthoc.folds import stratified_folds
from calibench.types import FloatArray, IntArray

FOLDS = 5

Fitted = TypeVar("Fitted", bound=Calibrator)


@dataclass(frozen=True, eq=False)
class CrossFitted(Generic[Fitted]):
    """Calibrated predictions of N examples over K folds.

    Attributes:
        probs: float64 [N, C].
        fold: int64 [N], the fold in which each example was held out.
        calibrators: K fitted calibrators; number k was fitted on all folds but k, and transformed fold k.
        examples: how many labelled examples took part in the fits.
        fit_s: seconds of all fits together.
        apply_s: seconds of transforming all examples, logarithms included.
    """

    probs: FloatArray
    fold: IntArray
    calibrators: tuple[Fitted, ...]
    examples: int
    fit_s: float
    apply_s: float

    @property
    def parameters(self) -> dict[str, list[Any]]:
        """What was learnt, by name, a value per fold."""
        return by_name([calibrator.parameters for calibrator in self.calibrators])


def by_name(found: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Parameters of several calibrators as one list for each name."""
    return {name: [parameters[name] for parameters in found] for name in found[0]}


def cross_fit(
    factory: Callable[[], Fitted],
    probs: FloatArray,
    labels: IntArray,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    fold: IntArray | None = None,
) -> CrossFitted[Fitted]:
    """Fit on all folds but one and transform that one, for each fold in turn.

    No example is transformed by a calibrator that was fitted on it. Examples out of scope are never fitted
    on, and are transformed like the others of their fold, so that in and out of scope differ in nothing else.

    Args:
        factory: makes a calibrator that has learnt nothing.
        probs: float64 [N, C].
        labels: int64 [N], classes from 0 to C - 1; -1 for examples out of scope.
        folds: how many, at least 2.
        seed: of the assignment by `stratified_folds`.
        fold: int64 [N], an assignment to use instead. With it given, an example's calibrated probabilities do
            not depend on its own label in any way.

    Raises:
        RefusedError: a fold would have no labelled example outside it, or the calibrator does not apply.
    """
    if fold is None:
        fold = stratified_folds(labels, folds, seed=seed)
    in_scope = labels >= 0
    if in_scope.sum() < folds:
        raise RefusedError(
            f"Cross-fitting in {folds} folds needs {folds} labelled examples or more and got "
            f"{in_scope.sum()}; evaluate more examples, or fit on another split with --calibration-split."
        )
    log_probs = log_of(probs)
    calibrated = np.empty_like(log_probs)
    calibrators = []
    fit_s = apply_s = 0.0
    for held_out in range(folds):
        inside, outside = in_scope & (fold != held_out), fold == held_out
        start = time.perf_counter()
        calibrator = factory()
        calibrator.fit(log_probs[inside], labels[inside])
        middle = time.perf_counter()
        calibrated[outside] = calibrator.transform(log_of(probs[outside]))
        apply_s += time.perf_counter() - middle
        fit_s += middle - start
        calibrators.append(calibrator)
    return CrossFitted(calibrated, fold, tuple(calibrators), int(in_scope.sum()), fit_s, apply_s)
