"""A metric as a function of the number of passes, with its intervals, all from one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibench.errors import UsageError
from calibench.stats.bootstrap import bootstrap_interval
from calibench.stats.intervals import LEVEL, quantiles
from calibench.stats.resampling import blocks
from calibench.types import Evaluation, FloatArray, IntArray, Interval, Metric


@dataclass(frozen=True)
class PassPoint:
    """A metric of the mean over k passes.

    Attributes:
        passes: k.
        value: the metric of the first k passes, with its interval over examples.
        band: mean and interval of the metric over k fresh passes on the same examples.
    """

    passes: int
    value: Interval
    band: Interval


def running_means(samples: NDArray[np.float32], passes: Sequence[int]) -> FloatArray:
    """Means of the first k passes for each k in `passes`, float64 [len(passes), N, C].

    Args:
        samples: [S, N, C], the probabilities of each pass.
        passes: numbers of passes, each from 1 to S.
    """
    _check_passes(passes, len(samples))
    means = np.empty((len(passes), *samples.shape[1:]))
    total = np.zeros(samples.shape[1:])
    for k, sample in enumerate(samples, start=1):
        total += sample
        for at in np.flatnonzero(np.asarray(passes) == k):
            means[at] = total / k
    return means


def pass_curve(
    metric: Metric,
    samples: NDArray[np.float32],
    labels: IntArray,
    passes: Sequence[int],
    *,
    resamples: int = 1000,
    orders: int = 200,
    level: float = LEVEL,
    seed: int,
    posterior: FloatArray | None = None,
) -> tuple[PassPoint, ...]:
    """The metric as a function of the number of passes, all from one run of S passes.

    Args:
        samples: [S, N, C], the probabilities of each pass.
        labels: int64 [N].
        passes: the k to evaluate at.
        resamples: of the examples, for the interval of each value.
        orders: subsets of passes drawn for each band.
        posterior: float64 [N, C], for metrics that need it.

    The band says how the metric of k fresh passes varies on the same examples. It is made from random
    subsets of k of the S passes. A mean of k drawn from S without replacement has 1 - k / S times the
    variance that a mean of k fresh ones has, so deviations are divided by the square root of that; at k = S
    nothing is left to scale, and there is no band.
    """
    points = []
    total = len(samples)
    for k, mean in zip(passes, running_means(samples, passes), strict=True):
        evaluation = Evaluation(mean, labels, posterior)
        value = bootstrap_interval(metric, evaluation, resamples=resamples, level=level, seed=seed)
        if k == total:
            band = Interval(None, None, None, f"all {total} passes used: no order left to vary")
        else:
            values = _subset_values(metric, samples, evaluation, k, orders, np.random.default_rng(seed))
            band = _scaled_band(metric, values, 1.0 - k / total, level)
        points.append(PassPoint(k, value, band))
    return tuple(points)


def _subset_values(
    metric: Metric,
    samples: NDArray[np.float32],
    evaluation: Evaluation,
    k: int,
    orders: int,
    rng: np.random.Generator,
) -> FloatArray:
    total, n, classes = samples.shape
    flat = samples.reshape(total, n * classes)
    values = []
    for count in blocks(orders, n * classes):
        chosen = np.argsort(rng.random((count, total)), axis=1)[:, :k]
        weights = np.zeros((count, total))
        np.put_along_axis(weights, chosen, 1.0 / k, axis=1)
        means = (weights @ flat).reshape(count, n, classes)
        values += [metric.evaluate(Evaluation(m, evaluation.labels, evaluation.posterior)) for m in means]
    return np.array(values)


def _scaled_band(metric: Metric, values: FloatArray, remaining: float, level: float) -> Interval:
    if not np.isfinite(values).all():
        return Interval(None, None, None, f"{metric.name} is undefined for some subsets of the passes")
    centre = values.mean()
    return Interval(float(centre), *quantiles(centre + (values - centre) / np.sqrt(remaining), level))


def _check_passes(passes: Sequence[int], total: int) -> None:
    for k in passes:
        if not 1 <= k <= total:
            raise UsageError(
                f"A point at {k} passes was asked for, but the run has {total}; ask for 1 to {total} passes."
            )
