"""Tests of the hypothesis that the predicted class is right as often as its confidence says, with p-values.

All three take confidence c_i and correctness y_i of N examples and ask whether each y_i could be a coin with
probability c_i. A large sample rejects a small miscalibration: a p-value says whether an error is shown, not
how large it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from calibench.metrics.inputs import checked, remembered, top_label
from calibench.types import Evaluation, FloatArray, IntArray, Metric

#: Terms of the alternating and Gaussian series below; they fall off faster than exponentially.
TERMS = 100


@dataclass(frozen=True)
class CalibrationTest:
    """A test's statistic and the probability of one as extreme for a calibrated model.

    Both are NaN where every confidence is 0 or 1, so that a calibrated model leaves nothing to chance.
    """

    statistic: float
    p_value: float


def kolmogorov_smirnov(probs: FloatArray, labels: IntArray) -> CalibrationTest:
    """Largest absolute cumulative residual in the order of confidence, over its scale.

    sup_k |sum_{i <= k} (y_i - c_i)| / sqrt(sum_i c_i (1 - c_i)) is, for a calibrated model and large N, the
    largest absolute value of a Brownian motion on [0, 1] (Arrieta-Ibarra et al. 2022, "Metrics of calibration
    for probabilistic predictions", ECCE-MAD; Tygert 2022). Residuals of equal confidences enter together.

    Args:
        probs: float64 [N, C], rows sum to 1.
        labels: int64 [N].
    """
    return _kolmogorov_smirnov(Evaluation(probs, labels))


def _kolmogorov_smirnov(evaluation: Evaluation) -> CalibrationTest:
    statistic = float(np.abs(_walk(evaluation)).max())
    return CalibrationTest(statistic, _tail(statistic, _largest_of_brownian_motion))


def kuiper(probs: FloatArray, labels: IntArray) -> CalibrationTest:
    """Range of the cumulative residuals in the order of confidence, over its scale.

    As `kolmogorov_smirnov`, with the largest less the smallest partial sum, the empty one included (ECCE-R);
    its limit is the range of a Brownian motion on [0, 1] (Feller 1951). It sees an error that changes sign.
    """
    return _kuiper(Evaluation(probs, labels))


def _kuiper(evaluation: Evaluation) -> CalibrationTest:
    walk = _walk(evaluation)
    statistic = float(walk.max() - walk.min())
    return CalibrationTest(statistic, _tail(statistic, _range_of_brownian_motion))


def spiegelhalter(probs: FloatArray, labels: IntArray) -> CalibrationTest:
    """Brier score of the predicted class against its expectation under calibration (Spiegelhalter 1986).

    z = sum (y_i - c_i)(1 - 2 c_i) / sqrt(sum (1 - 2 c_i)^2 c_i (1 - c_i)) is about standard normal;
    overconfidence makes it positive, underconfidence negative. The p-value is two-sided.
    """
    return _spiegelhalter(Evaluation(probs, labels))


def _spiegelhalter(evaluation: Evaluation) -> CalibrationTest:
    confidence, correct = top_label(checked(evaluation))
    lean = 1.0 - 2.0 * confidence
    variance = float((lean**2 * confidence * (1.0 - confidence)).sum())
    if variance == 0.0:
        return CalibrationTest(float("nan"), float("nan"))
    z = float(((correct - confidence) * lean).sum() / np.sqrt(variance))
    return CalibrationTest(z, float(2.0 * special.ndtr(-abs(z))))


@remembered
def _walk(evaluation: Evaluation) -> FloatArray:
    confidence, correct = top_label(checked(evaluation))
    variance = float((confidence * (1.0 - confidence)).sum())
    if variance == 0.0:
        return np.full(1, np.nan)
    order = np.argsort(confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=-1.0))
    steps = np.add.reduceat((correct - confidence)[order], starts)
    walk: FloatArray = np.concatenate([[0.0], np.cumsum(steps)]) / np.sqrt(variance)
    return walk


def _tail(statistic: float, below: Callable[[float], float]) -> float:
    if np.isnan(statistic) or statistic <= 0.0:
        return statistic if np.isnan(statistic) else 1.0
    return min(1.0, max(0.0, 1.0 - below(statistic)))


def _largest_of_brownian_motion(x: float) -> float:
    # P(sup |B| <= x), Darling and Siegert (1953).
    odd = 2.0 * np.arange(TERMS) + 1.0
    signs = np.where(np.arange(TERMS) % 2 == 0, 1.0, -1.0)
    return float(4.0 / np.pi * (signs / odd * np.exp(-((odd * np.pi / x) ** 2) / 8.0)).sum())


def _range_of_brownian_motion(x: float) -> float:
    # P(sup B - inf B <= x), Feller (1951) in the form of Tygert (2022).
    half = np.arange(TERMS) + 0.5
    weight = 8.0 / x**2 + 2.0 / (half * np.pi) ** 2
    return float((weight * np.exp(-2.0 * (half * np.pi / x) ** 2)).sum())


def _p_value(name: str, title: str, test: Callable[[Evaluation], CalibrationTest]) -> Metric:
    return Metric(
        name=name,
        title=title,
        better="higher",
        evaluate=lambda evaluation: test(evaluation).p_value,
        definition={"null": "correct ~ Bernoulli(confidence), independently", "p_value": "large-sample"},
        no_interval="a p-value is itself a statement about sampling noise",
    )


CALIBRATION_KS_P = _p_value("calibration_ks_p", "calibration p (KS)", _kolmogorov_smirnov)
CALIBRATION_KUIPER_P = _p_value("calibration_kuiper_p", "calibration p (Kuiper)", _kuiper)
CALIBRATION_SPIEGELHALTER_P = _p_value(
    "calibration_spiegelhalter_p", "calibration p (Spiegelhalter)", _spiegelhalter
)
