"""SmoothECE and the kernel reliability diagram (Blasiok and Nakkiran 2023, arXiv:2309.12236): no bins.

Residuals of the predicted class are smoothed over its confidence with a Gaussian kernel, reflected at 0 and
1. On a grid of cells that is a product with the kernel's cosine transform, so that resamples are smoothed
together. The authors' own package, relplot, puts its grid points on the boundary and so counts a confidence
of 1 half; away from it the two agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from calibench.metrics.binning import FEWEST_ERRORS, Prepared, Rows, of_predicted, sums_by_bin
from calibench.metrics.crossfitting import optimism
from calibench.metrics.inputs import checked, top_label
from calibench.stats.intervals import LEVEL, Direction, inverted_norm, quantiles
from calibench.stats.resampling import resampled_sums
from calibench.types import Evaluation, FloatArray, IntArray, Metric, Moments

#: Cells on [0, 1]; confidences are split between the two nearest centres.
CELLS = 1024
#: Smallest bandwidth, two cells; a smaller SmoothECE is read at this one.
SMALLEST_BANDWIDTH = 2.0 / CELLS
#: Halvings of [0, 1] in the search for the bandwidth, to 1e-6.
HALVINGS = 20


@dataclass(frozen=True, eq=False)
class KernelReliability:
    """What a kernel reliability diagram shows.

    Attributes:
        confidence: float64 [P], where the curve is evaluated.
        accuracy: float64 [P], kernel-smoothed accuracy there; NaN where almost no examples are near.
        low, high: float64 [P], ends of a pointwise bootstrap interval of the accuracy.
        density: float64 [P], of the confidences, integrating to 1.
        bandwidth: of the kernel, the SmoothECE unless chosen.
    """

    confidence: FloatArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    density: FloatArray
    bandwidth: float


def smoothed(cells: FloatArray, bandwidth: FloatArray) -> FloatArray:
    """Cell masses [R, CELLS] smoothed with a reflected Gaussian of standard deviation bandwidth [R]."""
    frequency = np.pi * np.arange(cells.shape[1])
    kernel = np.exp(-0.5 * (bandwidth[:, None] * frequency) ** 2)
    values: FloatArray = fft.idct(fft.dct(cells, axis=1) * kernel, axis=1)
    return values


def smooth_errors(residual: FloatArray, n: FloatArray) -> FloatArray:
    """SmoothECE of residual sums by cell, float64 [R, CELLS], over n examples, [R]: float64 [R].

    The error at bandwidth s, the integral of |smoothed residuals|, falls as s grows; SmoothECE is the s at
    which it equals s.
    """
    low = np.full(len(residual), SMALLEST_BANDWIDTH)
    high = np.ones(len(residual))
    spectrum = fft.dct(residual / n[:, None], axis=1)
    frequency = np.pi * np.arange(residual.shape[1])

    def error(bandwidth: FloatArray) -> FloatArray:
        kernel = np.exp(-0.5 * (bandwidth[:, None] * frequency) ** 2)
        total: FloatArray = np.abs(fft.idct(spectrum * kernel, axis=1)).sum(axis=1)
        return total

    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        below = error(middle) > middle
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return error(high)


def _cells(confidence: FloatArray) -> tuple[IntArray, FloatArray]:
    # The two nearest cell centres, int64 [N, 2], and the share of each, float64 [N, 2].
    place = np.clip(confidence * CELLS - 0.5, 0.0, CELLS - 1.0)
    left = np.minimum(place.astype(np.int64), CELLS - 2)
    right_share = place - left
    return np.stack([left, left + 1], axis=1), np.stack([1.0 - right_share, right_share], axis=1)


def _prepared(evaluation: Evaluation) -> Rows:
    confidence, correct = top_label(checked(evaluation))

    def of_rows(rows: slice) -> Prepared:
        cells, shares = _cells(confidence[rows])
        residual = shares * (correct[rows] - confidence[rows])[:, None]
        return Prepared((residual, shares), cells, confidence[rows, None])

    return Rows(of_rows, len(evaluation), 2, CELLS)


def _evaluate(evaluation: Evaluation) -> float:
    residual, held = _prepared(evaluation).sums()
    return float(smooth_errors(residual[None], held.sum(keepdims=True))[0]) + _hidden(evaluation)


def _hidden(evaluation: Evaluation) -> float:
    return evaluation.optimism.get("smooth_ece", 0.0)


def _optimism(evaluation: Evaluation, refits: Sequence[FloatArray]) -> float:
    prepared = _prepared(evaluation).of(slice(None))
    (residual, shares), cells = prepared.columns, prepared.bins
    sums = sums_by_bin([residual], cells, CELLS)[0]
    given = [sums_by_bin([shares * of_predicted(evaluation, probs)], cells, CELLS)[0] for probs in refits]
    n = float(len(evaluation))
    return optimism(sums, np.stack(given), lambda drawn: smooth_errors(drawn, np.full(len(drawn), n)))


def _moments(evaluation: Evaluation) -> Moments:
    hidden, errors = _hidden(evaluation), np.count_nonzero(top_label(evaluation)[1] == 0.0)

    def finish(sums: FloatArray, n: int) -> FloatArray:
        return smooth_errors(sums[:, :CELLS], np.full(len(sums), float(n))) + hidden

    def interval(
        sums: FloatArray, n: int, level: float, resampled: Callable[[], FloatArray]
    ) -> tuple[float, float]:
        if errors < FEWEST_ERRORS:
            return -np.inf, np.inf
        return _interval(sums.reshape(2, CELLS), n, hidden, level, resampled().reshape(-1, 2, CELLS))

    return Moments(_prepared(evaluation).features(), finish, interval)


def _interval(
    sums: FloatArray, n: int, hidden: float, level: float, drawn: FloatArray
) -> tuple[float, float]:
    # SmoothECE is at least s exactly where the error at bandwidth s is: the test is made at the observed
    # bandwidth, where smoothing is linear, on points two to a bandwidth. A truth whose error at this
    # bandwidth is t has a SmoothECE between t and the bandwidth, so that ends at t are on the safe side.
    residual, held = sums
    observed = float(smooth_errors(residual[None], np.array([float(n)]))[0]) + hidden
    bandwidth = max(observed, SMALLEST_BANDWIDTH)
    step = max(1, int(bandwidth * CELLS / 2.0))

    def at_points(cells: FloatArray) -> FloatArray:
        fine = smoothed(cells, np.full(len(cells), bandwidth))
        return fine[:, step // 2 :: step] * step / n

    def norm(values: FloatArray) -> FloatArray:
        total: FloatArray = np.abs(values).sum(axis=1)
        return total

    curve, near = smoothed(sums, np.full(2, bandwidth))
    gap = curve / np.maximum(near, 1e-12)
    noise = at_points(drawn[:, 0] - residual - gap * (drawn[:, 1] - held))
    directions = []
    for pattern in (gap, np.where(gap < 0.0, -1.0, 1.0)):
        unit = float(norm(at_points((pattern * held)[None]))[0])
        if unit > 0.0:
            directions.append(Direction(noise, at_points(pattern / unit * drawn[:, 1])))
    low, high = inverted_norm(directions, norm, observed, level)
    return low, min(high, 1.0)


def kernel_reliability(
    probs: FloatArray,
    labels: IntArray,
    *,
    bandwidth: float | None = None,
    resamples: int = 1000,
    level: float = LEVEL,
    seed: int,
) -> KernelReliability:
    """The kernel reliability diagram of the predicted class.

    Args:
        probs: float64 [N, C], rows sum to 1.
        labels: int64 [N].
        bandwidth: of the kernel; None for the SmoothECE, as its authors do.
        resamples: bootstrap resamples of the examples for the interval.
    """
    evaluation = checked(Evaluation(probs, labels))
    confidence, correct = top_label(evaluation)
    chosen = max(_evaluate(evaluation), SMALLEST_BANDWIDTH) if bandwidth is None else bandwidth
    every = CELLS // 256

    def of_rows(rows: slice) -> Prepared:
        cells, shares = _cells(confidence[rows])
        return Prepared((shares * correct[rows, None], shares), cells, confidence[rows, None])

    features = Rows(of_rows, len(evaluation), 2, CELLS).features()

    def curves(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        both = smoothed(sums.reshape(-1, CELLS), np.full(2 * len(sums), chosen))
        right, near = both.reshape(-1, 2, CELLS)[:, :, every // 2 :: every].transpose(1, 0, 2)
        # Less than one example within about a bandwidth says nothing about accuracy.
        told = near * chosen * CELLS >= 0.5
        return np.where(told, right / np.maximum(near, 1e-12), np.nan), near

    total: Any = np.asarray(features.sum(axis=0)).reshape(1, -1)
    accuracy, near = curves(total)
    drawn, _ = curves(resampled_sums(features, resamples, np.random.default_rng(seed)))
    known = np.isfinite(accuracy[0])
    low, high = np.full((2, accuracy.shape[1]), np.nan)
    for point in np.flatnonzero(known):
        low[point], high[point] = quantiles(drawn[np.isfinite(drawn[:, point]), point], level)
    points = (np.arange(CELLS) + 0.5)[every // 2 :: every] / CELLS
    return KernelReliability(
        points, np.clip(accuracy[0], 0.0, 1.0), low, high, near[0] * CELLS / len(evaluation), float(chosen)
    )


SMOOTH_ECE = Metric(
    name="smooth_ece",
    title="SmoothECE",
    better="lower",
    evaluate=_evaluate,
    moments=_moments,
    optimism=_optimism,
    definition={
        "kernel": "Gaussian, reflected at 0 and 1",
        "bandwidth": "fixed point",
        "smallest_bandwidth": SMALLEST_BANDWIDTH,
        "interval": "bootstrap test, inverted",
    },
)
