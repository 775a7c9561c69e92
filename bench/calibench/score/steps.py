"""A post-hoc step after its fit to labelled predictions, and what a record says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from calibench.compare.verdicts import FAMILY
from calibench.metrics.calibration import ECE_DEBIASED
from calibench.posthoc import cross_fit, log_of
from calibench.score.apart import ContainedStep
from calibench.seeds import derived_seed
from calibench.types import Evaluation, FloatArray, IntArray, Metric


@dataclass(frozen=True, eq=False)
class FittedStep:
    """A post-hoc step after its fit.

    Attributes:
        fields: `fit` of the record.
        calibrators: the fitted step, or of a cross-fit that of each fold.
        before: float64 [N, C], the probabilities it was applied to.
        fold: int64 [N], of a cross-fit the fold in which each example was held out; else None.
    """

    fields: dict[str, Any]
    calibrators: tuple[ContainedStep, ...]
    before: FloatArray
    fold: IntArray | None = None

    @property
    def calibrator(self) -> ContainedStep:
        """The fitted step; of a cross-fit the first fold's."""
        return self.calibrators[0]

    def optimism(
        self,
        before: FloatArray,
        evaluation: Evaluation,
        metrics: Iterable[Metric],
        of: IntArray | None = None,
    ) -> dict[str, float]:
        """What cross-fitting hides from each metric: `Evaluation.optimism`; empty of a fit on another split.

        Args:
            before: float64 [N, C], what the step was applied to.
            evaluation: what it made of that, examples out of scope included.
            of: int64 [N], the scored example that each is made from; None for the scored ones.
        """
        if self.fold is None:
            return {}
        inside = evaluation.labels >= 0
        log_probs, scored = log_of(before[inside]), evaluation.in_scope()
        fold = (self.fold if of is None else self.fold[of])[inside]
        refits = [np.empty_like(log_probs) for _ in self.calibrators]
        for held_out in np.unique(fold):
            # By folds, as they were scored: a step that can do those can do these.
            part = fold == held_out
            for refit, calibrator in zip(refits, self.calibrators, strict=True):
                refit[part] = calibrator.transform(log_probs[part])
        return {
            metric.name: metric.optimism(scored, refits)
            for metric in metrics
            if metric.optimism is not None and (self.calibrator.smooth or metric is not ECE_DEBIASED)
        }

    def on_other(self, probs: FloatArray, of: IntArray | None) -> FloatArray:
        """What the step makes of examples that are not the scored ones, float64 [M, C].

        Of a cross-fit the mean over its folds; for what is made from a scored example, the fit that did not
        see that example's label.

        Args:
            of: int64 [M], the scored example that each is made from; None for others.
        """
        mapped = np.stack([calibrator.transform(log_of(probs)) for calibrator in self.calibrators])
        if self.fold is not None and of is not None:
            held_out: FloatArray = mapped[self.fold[of], np.arange(len(probs))]
            return held_out
        mean: FloatArray = mapped.mean(axis=0)
        return mean


def cross_fitted(
    step: str,
    probs: FloatArray,
    labels: IntArray,
    *,
    split: str | None,
    folds: int,
    seed: int,
    seconds: float | None = None,
) -> tuple[FloatArray, FittedStep]:
    """What a registered step makes of probabilities, each example by the fit to the other folds.

    Args:
        probs: float64 [N, C].
        labels: int64 [N]; -1 for examples out of scope.
        split: where the examples come from, for the record.
        seed: of the cell.
        seconds: how long each call of the step may take; None for as long as it likes.

    Returns:
        float64 [N, C], and the step.

    Raises:
        RefusedError: the step does not apply.
        CalibenchError: it could not be fitted.
    """
    folding = derived_seed(seed, "folds")
    found = cross_fit(partial(ContainedStep, step, seconds), probs, labels, folds=folds, seed=folding)
    fields = {
        "seconds": found.fit_s,
        "examples": found.examples,
        "folds": folds,
        "split": split,
        "unseen": None,
        "parameters": found.parameters,
    }
    return found.probs, FittedStep(fields, found.calibrators, probs, found.fold)


def read_later(metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics of a record, and those of verdicts, which are made later of what is stored."""
    return list({metric.name: metric for metric in (*metrics, *FAMILY)}.values())


def note_of(step: str, where: str, parameters: dict[str, list[Any]]) -> str:
    """How a step was fitted, what it learnt where that is one number, and what the intervals leave out."""
    numbers = [value for values in parameters.values() for value in values]
    learnt = ""
    if len(parameters) == 1 and all(isinstance(value, int | float) for value in numbers):
        learnt = f" ({next(iter(parameters))} {', '.join(f'{value:.3g}' for value in numbers)})"
    return f"{step} was fitted on {where}{learnt}; intervals do not refit it on resamples."


def across(fields: dict[str, Any], named: str) -> str:
    """Where a cross-fitted step was fitted, in words."""
    return (
        f"{fields['examples']} examples of {named} in {fields['folds']} folds, each example scored by the "
        "fit to the other folds; calibration errors hold what cross-fitting hides from them"
    )
