"""Selective prediction: what is gained by leaving the least certain examples to someone else.

Every number comes from a score, higher where the model is less certain, and the errors of the predicted
class. Examples with equal scores are kept in every order equally often: the curve is the mean over orders, so
that it does not depend on the order of the data set.

A metric under its plain name goes by the score by which the method ranks texts: its own, or the largest
probability where it names none. By any other score the name of the score is part of the metric's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError
from calibench.metrics.decomposition import entropy
from calibench.metrics.inputs import checked, top_label
from calibench.types import Evaluation, FloatArray, Metric

#: The score of a method that names none: one minus the largest probability.
MAX_PROBABILITY = "max_probability"
ENTROPY = "entropy"


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Errors among the k most certain of N examples, for k = 1 ... N.

    Attributes:
        coverage: float64 [N], k / N.
        errors: float64 [N], expected number of errors among the k.
        threshold: bool [N], whether a threshold on the score keeps exactly these k.
    """

    coverage: FloatArray
    errors: FloatArray
    threshold: NDArray[np.bool_]

    @property
    def risk(self) -> FloatArray:
        """Error rate among the k, float64 [N]."""
        return self.errors / np.arange(1.0, len(self.errors) + 1.0)


def own_score(evaluation: Evaluation) -> str:
    """The name of the score by which the method ranks texts."""
    return evaluation.score or MAX_PROBABILITY


def uncertainty(evaluation: Evaluation, score: str | None = None) -> FloatArray:
    """A score by name, float64 [N]: one of the method's, the largest probability or the entropy.

    Args:
        score: None for the one by which the method ranks texts.

    Raises:
        CalibenchError: where the method gives no such score, naming those there are, or one that is not N
            finite numbers.
    """
    score = score or own_score(evaluation)
    if score in evaluation.scores:
        values = evaluation.scores[score]
        if values.shape != (len(evaluation),) or not np.isfinite(values).all():
            raise CalibenchError(
                f"The score {score!r} has shape {values.shape}; expected {len(evaluation)} finite numbers, "
                "one for each example."
            )
        return values
    if score == MAX_PROBABILITY:
        return 1.0 - top_label(checked(evaluation))[0]
    if score == ENTROPY:
        return entropy(evaluation)
    known = ", ".join(sorted({MAX_PROBABILITY, ENTROPY, *evaluation.scores}))
    raise CalibenchError(f"The score {score!r} is not among those of this method; choose from {known}.")


def risk_coverage(uncertain: FloatArray, wrong: FloatArray) -> RiskCoverage:
    """The risk-coverage curve (El-Yaniv and Wiener 2010).

    Args:
        uncertain: float64 [N], higher means less certain.
        wrong: float64 [N], 1 for an error and 0 otherwise.
    """
    n = len(wrong)
    _, place, sizes = np.unique(uncertain, return_inverse=True, return_counts=True)
    per_group = np.bincount(place, weights=wrong, minlength=len(sizes))
    ends = np.cumsum(sizes)
    kept = np.arange(1.0, n + 1.0)
    errors = np.interp(kept, np.concatenate([[0], ends]), np.concatenate([[0.0], np.cumsum(per_group)]))
    threshold = np.zeros(n, dtype=np.bool_)
    threshold[ends - 1] = True
    return RiskCoverage(kept / n, errors, threshold)


def aurc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """Mean over k of the error rate among the k most certain (Geifman et al. 2019)."""
    return float(risk_coverage(uncertain, wrong).risk.mean())


def augrc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """Area under errors among the kept over all examples, against coverage (Traub et al. 2024).

    The trapezoid from coverage 0: exactly (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 for an accuracy a.
    """
    errors = risk_coverage(uncertain, wrong).errors
    return float((errors.sum() - errors[-1] / 2.0) / len(errors) ** 2)


def accuracy_at_coverage(uncertain: FloatArray, wrong: FloatArray, coverage: float = 0.8) -> float:
    """Accuracy on the most certain share `coverage` of the examples, a fraction of one among them."""
    curve = risk_coverage(uncertain, wrong)
    kept = coverage * len(wrong)
    errors = np.interp(kept, np.arange(len(wrong) + 1.0), np.concatenate([[0.0], curve.errors]))
    return float(1.0 - errors / kept)


def coverage_at_risk(uncertain: FloatArray, wrong: FloatArray, risk: float = 0.05) -> float:
    """Largest share of examples a threshold can keep with an error rate of `risk` at most; 0 if none."""
    curve = risk_coverage(uncertain, wrong)
    allowed = curve.threshold & (curve.risk <= risk)
    return float(curve.coverage[allowed].max(initial=0.0))


def error_auroc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """P(an error scores higher than a right answer) + P(they tie) / 2; NaN without one of the two."""
    errors = wrong.sum()
    right = len(wrong) - errors
    if not errors or not right:
        return float("nan")
    _, place, sizes = np.unique(uncertain, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(sizes) - (sizes - 1.0) / 2.0
    return float((middle_rank[place] @ wrong - errors * (errors + 1.0) / 2.0) / (errors * right))


@dataclass(frozen=True)
class _Kind:
    name: str
    title: str
    better: Literal["lower", "higher"]
    compute: Callable[[FloatArray, FloatArray], float]
    no_interval: str | None = None


KINDS = (
    _Kind("aurc", "AURC", "lower", aurc),
    _Kind("augrc", "AUGRC", "lower", augrc),
    _Kind("accuracy_at_80", "accuracy at 80% coverage", "higher", accuracy_at_coverage),
    _Kind(
        "coverage_at_5_risk",
        "coverage at 5% risk",
        "higher",
        coverage_at_risk,
        "it jumps where the curve crosses 5% more than once: no bootstrap of it covers",
    ),
    _Kind("error_auroc", "AUROC of errors", "higher", error_auroc),
)


def selective_metric(kind: str, score: str | None = None) -> Metric:
    """One of `KINDS` by the score by which the method ranks texts, or by the one named, as `KIND.SCORE`."""
    chosen = next(item for item in KINDS if item.name == kind)

    def evaluate(evaluation: Evaluation) -> float:
        confidence, correct = top_label(checked(evaluation))
        name = score or own_score(evaluation)
        plain = name == MAX_PROBABILITY and name not in evaluation.scores
        uncertain = 1.0 - confidence if plain else uncertainty(evaluation, name)
        return chosen.compute(uncertain, 1.0 - correct)

    return Metric(
        name=chosen.name if score is None else f"{chosen.name}.{score}",
        title=chosen.title if score is None else f"{chosen.title} ({score.replace('_', ' ')})",
        better=chosen.better,
        evaluate=evaluate,
        definition={"score": score, "ties": "mean over their orders"},
        no_interval=chosen.no_interval,
    )


def by_largest_probability(metric: Metric, evaluation: Evaluation) -> tuple[Metric, ...]:
    """A metric of `KINDS` by the largest probability, where the method ranks texts by another score."""
    if own_score(evaluation) == MAX_PROBABILITY or metric.name not in {kind.name for kind in KINDS}:
        return ()
    return (selective_metric(metric.name, MAX_PROBABILITY),)


AURC = selective_metric("aurc")
AUGRC = selective_metric("augrc")
ACCURACY_AT_80 = selective_metric("accuracy_at_80")
COVERAGE_AT_5_RISK = selective_metric("coverage_at_5_risk")
ERROR_AUROC = selective_metric("error_auroc")
