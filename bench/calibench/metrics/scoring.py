"""Accuracy and the proper scoring rules: means over examples of a per-example loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from calibench.metrics.inputs import checked, row_by_row, top_label
from calibench.stats.intervals import Ends, skew_corrected, wilson, with_unseen_losses
from calibench.stats.mapped import parts_of
from calibench.types import Evaluation, FloatArray, Metric, Moments

#: Smallest probability whose logarithm is taken: the smallest normal float64, so that a true class that was
#: given probability zero costs 708.4 nats instead of infinity. Nothing a float32 softmax returns but zero
#: itself is clipped.
NLL_FLOOR = float(np.finfo(np.float64).tiny)


def correct(evaluation: Evaluation) -> FloatArray:
    """1 where the predicted class is the label, float64 [N]."""
    return top_label(checked(evaluation))[1]


@row_by_row
def negative_log_likelihood(evaluation: Evaluation) -> FloatArray:
    """-log p(label) in nats, float64 [N], with p clipped from below at `NLL_FLOOR`."""
    likelihood = evaluation.probs[np.arange(len(evaluation)), evaluation.labels]
    return -np.log(np.maximum(likelihood, NLL_FLOOR))


@row_by_row
def brier(evaluation: Evaluation) -> FloatArray:
    """Sum over classes of (p_c - 1[label = c])^2, float64 [N], from 0 to 2 (Brier 1950).

    For two classes this is twice the squared error of one class's probability.
    """
    likelihood = evaluation.probs[np.arange(len(evaluation)), evaluation.labels]
    squares = np.einsum("nc,nc->n", evaluation.probs, evaluation.probs)
    loss: FloatArray = squares + 1.0 - 2.0 * likelihood
    return loss


def squared_residual(evaluation: Evaluation) -> FloatArray:
    """(confidence - correct)^2 of the predicted class, float64 [N], from 0 to 1: a Brier score of being "
    "right."""
    confidence, right = top_label(checked(evaluation))
    loss: FloatArray = (confidence - right) ** 2
    return loss


def mean_metric(
    name: str,
    title: str,
    better: Literal["lower", "higher"],
    per_example: Callable[[Evaluation], FloatArray],
    definition: Mapping[str, Any],
    *,
    needs_posterior: bool = False,
    of_labels: bool = False,
    needs_classes: bool = False,
) -> Metric:
    """The metric that is the mean over examples of `per_example`, float64 [N].

    Args:
        of_labels: whether it is a loss, of which an error that the sample does not hold may be a large one.
    """

    def moments(evaluation: Evaluation) -> Moments:
        values = per_example(evaluation)

        def interval(sums: FloatArray, n: int, level: float, resampled: Callable[[], FloatArray]) -> Ends:
            ends = skew_corrected(sums, n, level)
            cost = _unseen_cost(evaluation, per_example) if of_labels else None
            return ends if cost is None else with_unseen_losses(ends, resampled()[:, 0], n, cost, level)

        powers = np.stack([values, values**2, values**3], axis=1)
        return Moments(powers, lambda sums, n: sums[:, 0] / n, interval)

    return Metric(
        name=name,
        title=title,
        better=better,
        evaluate=lambda evaluation: float(per_example(evaluation).mean()),
        moments=moments,
        definition={**definition, "interval": "Student, skewness corrected (Hall 1992)"},
        needs_posterior=needs_posterior,
        needs_classes=needs_classes,
    )


def _unseen_cost(evaluation: Evaluation, per_example: Callable[[Evaluation], FloatArray]) -> float | None:
    """What an error would cost among the answers that are surer than any error, None where there is none."""
    confidence, correct = top_label(evaluation)
    surest = confidence > confidence[correct == 0.0].max(initial=0.0)
    if not surest.any():
        return None
    cost = 0.0
    for rows in parts_of(evaluation.probs):
        sure = evaluation.probs[rows][surest[rows]]
        second = np.argsort(-sure, axis=1, kind="stable")[:, 1]
        cost += float(per_example(Evaluation(sure, second)).sum()) if len(sure) else 0.0
    return cost / int(surest.sum())


ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    better="higher",
    evaluate=lambda evaluation: float(correct(evaluation).mean()),
    moments=lambda evaluation: Moments(
        correct(evaluation)[:, None],
        lambda sums, n: sums[:, 0] / n,
        lambda sums, n, level, _: wilson(round(float(sums[0])), n, level),
    ),
    definition={"ties": "first of equal classes", "interval": "score (Wilson 1927)"},
)
NLL = mean_metric(
    "nll",
    "NLL",
    "lower",
    negative_log_likelihood,
    {"unit": "nats", "smallest_probability": NLL_FLOOR},
    of_labels=True,
    needs_classes=True,
)
BRIER = mean_metric(
    "brier",
    "Brier",
    "lower",
    brier,
    {"form": "sum over all classes, from 0 to 2"},
    of_labels=True,
    needs_classes=True,
)
BRIER_CONFIDENCE = mean_metric(
    "brier_confidence",
    "Brier of the confidence",
    "lower",
    squared_residual,
    {"form": "of the answer being right, from 0 to 1"},
)
