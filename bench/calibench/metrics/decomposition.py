"""The Brier score taken apart, and sharpness: how much is calibration and how much is knowing more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibench.metrics.inputs import checked, remembered, row_by_row
from calibench.metrics.scoring import brier, mean_metric
from calibench.stats.mapped import columns_of
from calibench.types import BoolArray, Evaluation, FloatArray, IntArray, Metric


@dataclass(frozen=True)
class BrierDecomposition:
    """Brier = miscalibration - discrimination + uncertainty, each at least zero.

    Attributes:
        miscalibration: what recalibrating each class's probability would save.
        discrimination: what the recalibrated probabilities save over the class frequencies.
        uncertainty: the score of the class frequencies, a property of the labels alone.
    """

    miscalibration: float
    discrimination: float
    uncertainty: float


def brier_decomposition(probs: FloatArray, labels: IntArray) -> BrierDecomposition:
    """The CORP decomposition (Dimitriadis, Gneiting and Jordan 2021), summed over classes against the rest.

    Each class's probability is recalibrated by isotonic regression on the examples themselves: no bins, and
    for two classes the parts are twice those of one class's probability. Isotonic regression fits noise too,
    so that miscalibration reads more than zero on a calibrated model, as every plug-in error does.

    Args:
        probs: float64 [N, C], rows sum to 1.
        labels: int64 [N].
    """
    evaluation = checked(Evaluation(probs, labels))
    recalibrated_score = uncertainty = 0.0
    for index, given in enumerate(columns_of(probs)):
        share = float((labels == index).mean())
        # The squared error of a level m for a share m of ones is m (1 - m).
        level, held = recalibrated(given, labels == index)
        recalibrated_score += float(held @ (level * (1.0 - level))) / len(labels)
        uncertainty += share * (1.0 - share)
    return BrierDecomposition(
        miscalibration=float(brier(evaluation).mean()) - recalibrated_score,
        discrimination=uncertainty - recalibrated_score,
        uncertainty=uncertainty,
    )


def recalibrated(probability: FloatArray, is_label: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Isotonic regression of what came on what was said, equals together.

    Args:
        probability: float64 [N].
        is_label: bool [N].

    Returns:
        levels, float64 [B], from the lowest probability on, and how many examples have each, float64 [B].
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf) > 0.0)
    held = np.diff(np.append(starts, len(order))).astype(np.float64)
    came = np.add.reduceat(is_label[order].astype(np.float64), starts)
    fitted = isotonic_regression(came / held, weights=held)
    blocks = fitted.blocks
    return fitted.x[blocks[:-1]], np.add.reduceat(held, blocks[:-1])


@remembered
def _decomposed(evaluation: Evaluation) -> BrierDecomposition:
    return brier_decomposition(evaluation.probs, evaluation.labels)


@row_by_row
def entropy(evaluation: Evaluation) -> FloatArray:
    """-sum_c p_c log p_c in nats, float64 [N]; 0 log 0 is 0."""
    probs = evaluation.probs
    terms = np.log(probs, out=np.zeros_like(probs), where=probs > 0.0)
    values: FloatArray = -(probs * terms).sum(axis=1)
    return values


_DEFINITION = {"decomposition": "CORP: isotonic recalibration of each class against the rest"}
BRIER_MISCALIBRATION = Metric(
    name="brier_miscalibration",
    title="Brier miscalibration",
    better="lower",
    evaluate=lambda e: _decomposed(e).miscalibration,
    definition=_DEFINITION,
    no_interval="isotonic regression fits a resample's repeats: no bootstrap of it covers",
    needs_classes=True,
)
BRIER_DISCRIMINATION = Metric(
    name="brier_discrimination",
    title="Brier discrimination",
    better="higher",
    evaluate=lambda e: _decomposed(e).discrimination,
    definition=_DEFINITION,
    no_interval=BRIER_MISCALIBRATION.no_interval,
    needs_classes=True,
)
SHARPNESS = mean_metric(
    "sharpness",
    "mean entropy",
    "lower",
    entropy,
    {"unit": "nats", "note": "good only if calibrated"},
    needs_classes=True,
)
