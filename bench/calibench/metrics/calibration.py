"""Calibration errors of the predicted class and of every class, and the data of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibench.metrics.binning import (
    EVERY_CLASS,
    FEWEST_ERRORS,
    SMALL_BINS,
    binned_metric,
    debiased_squared_l2,
    equal_mass,
    equal_width,
    l1,
    maximum,
    sums_by_bin,
)
from calibench.metrics.inputs import checked, top_label
from calibench.types import Evaluation, FloatArray, IntArray

#: Bins of the metrics that are not the study's, as in Guo et al. (2017).
BINS = 15


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """What a reliability diagram shows (Guo et al. 2017).

    Attributes:
        edges: float64 [bins + 1], from 0 to 1.
        count: int64 [bins], examples in each bin.
        confidence, accuracy: float64 [bins], means over the bin's examples; NaN in an empty bin.
    """

    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def reliability(probs: FloatArray, labels: IntArray, bins: int = BINS) -> ReliabilityCurve:
    """Accuracy against confidence of the predicted class in equal-width bins.

    Args:
        probs: float64 [N, C], rows sum to 1.
        labels: int64 [N].
        bins: number of bins on [0, 1], left-closed, the last one closed.

    Raises:
        CalibenchError: where the rows are not probabilities or the labels not classes.
    """
    confidence, correct = top_label(checked(Evaluation(probs, labels)))
    assigned = equal_width(bins).assign(confidence)
    held, certain, right = sums_by_bin((np.ones_like(correct), confidence, correct), assigned, bins)
    empty = held == 0.0
    divisor = np.where(empty, 1.0, held)
    return ReliabilityCurve(
        edges=np.linspace(0.0, 1.0, bins + 1),
        count=held.astype(np.int64),
        confidence=np.where(empty, np.nan, certain / divisor),
        accuracy=np.where(empty, np.nan, right / divisor),
    )


#: Errors of the predicted class from which on a plug-in error of small bins has an interval.
FEWEST_ERRORS_SMALL_BINS = 2 * BINS

ECE = binned_metric("ece", "ECE", equal_width(10), l1(), fewest_errors=FEWEST_ERRORS)
ECE_15 = binned_metric("ece_15", "ECE (15 bins)", equal_width(BINS), l1(), fewest_errors=FEWEST_ERRORS)
ECE_EQUAL_MASS = binned_metric(
    "ece_equal_mass",
    "ECE (equal mass)",
    equal_mass(BINS),
    l1(),
    outcome=SMALL_BINS,
    fewest_errors=FEWEST_ERRORS_SMALL_BINS,
)
ECE_DEBIASED = binned_metric("ece_debiased", "debiased ECE²", equal_width(BINS), debiased_squared_l2())
MCE = binned_metric("mce", "MCE", equal_width(BINS), maximum(), fewest_errors=FEWEST_ERRORS_SMALL_BINS)
#: Kull et al. (2019): the mean over classes c of the l1 error of p_c against 1[label = c], binned by p_c.
ECE_CLASSWISE = binned_metric(
    "ece_classwise",
    "classwise ECE",
    equal_width(BINS),
    l1(),
    outcome=EVERY_CLASS,
    fewest_errors=FEWEST_ERRORS,
    definition={"over": "all classes, equally weighted"},
    needs_classes=True,
)
