"""The Brier score taken apart, and sharpness: how much is calibration and how much is knowing more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibench.metrics.inputs import checked
from calibench.metrics.scoring import brier, mean_metric
from calibench.types import Evaluation, FloatArray, IntArray, Metric


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
    from sklearn.isotonic import IsotonicRegression

    evaluation = checked(Evaluation(probs, labels))
    recalibrated_score = uncertainty = 0.0
    for index in range(probs.shape[1]):
        is_label = (labels == index).astype(np.float64)
        recalibrated = IsotonicRegression().fit_transform(probs[:, index], is_label)
        recalibrated_score += float(((recalibrated - is_label) ** 2).mean())
        uncertainty += float(is_label.mean() * (1.0 - is_label.mean()))
    return BrierDecomposition(
        miscalibration=float(brier(evaluation).mean()) - recalibrated_score,
        discrimination=uncertainty - recalibrated_score,
        uncertainty=uncertainty,
    )


def entropy(evaluation: Evaluation) -> FloatArray:
    """-sum_c p_c log p_c in nats, float64 [N]; 0 log 0 is 0."""
    probs = checked(evaluation).probs
    terms = np.log(probs, out=np.zeros_like(probs), where=probs > 0.0)
    values: FloatArray = -(probs * terms).sum(axis=1)
    return values


_DEFINITION = {"decomposition": "CORP: isotonic recalibration of each class against the rest"}
BRIER_MISCALIBRATION = Metric(
    name="brier_miscalibration",
    title="Brier miscalibration",
    better="lower",
    evaluate=lambda e: brier_decomposition(e.probs, e.labels).miscalibration,
    definition=_DEFINITION,
    no_interval="isotonic regression fits a resample's repeats: no bootstrap of it covers",
    needs_classes=True,
)
BRIER_DISCRIMINATION = Metric(
    name="brier_discrimination",
    title="Brier discrimination",
    better="higher",
    evaluate=lambda e: brier_decomposition(e.probs, e.labels).discrimination,
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
