"""Intervals: over examples, over redrawn labels, over timing blocks and over the order of passes.

Every function returns an `Interval`, whose missing numbers come with the reason; none returns NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from calibench.errors import UsageError
from calibench.intervals import quantiles
from calibench.resampling import EXACT_EXAMPLES, blocks, resampled_together, self_drawn_values
from calibench.types import Evaluation, FloatArray, IntArray, Metric, Moments


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; what could not be had is None, and `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """The four fields, as in a record."""
        return asdict(self)


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


def bootstrap_interval(
    metric: Metric, evaluation: Evaluation, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """`bootstrap_intervals` of one metric."""
    (interval,) = bootstrap_intervals([metric], evaluation, resamples=resamples, level=level, seed=seed)
    return interval


def bootstrap_intervals(
    metrics: Sequence[Metric],
    evaluation: Evaluation,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> list[Interval]:
    """The metrics, each with an interval for its value over the distribution that the examples come from.

    The percentile bootstrap over examples (Efron 1979), or what the metric's moments name in its place where
    that does not cover; see `calibench.intervals`. A metric may bring a bootstrap of its own. Where no
    interval holds, the metric says why. One seed
    gives the same resamples to every metric of as many examples. A metric without moments is evaluated on
    each resample, which takes time in proportion to N * resamples.
    """
    values = [metric.evaluate(evaluation) for metric in metrics]
    forms = [
        None if metric.moments is None or metric.no_interval is not None else metric.moments(evaluation)
        for metric in metrics
    ]
    n = len(evaluation)
    drawn = _Drawn([form for form in forms if form is not None], n, resamples, seed)
    intervals = []
    for metric, value, form in zip(metrics, values, forms, strict=True):
        if not np.isfinite(value):
            reason = f"{metric.name} is undefined on these examples"
            intervals.append(Interval(None, None, None, reason))
        elif metric.no_interval is not None:
            intervals.append(Interval(value, None, None, metric.no_interval))
        elif metric.bootstrap is not None:
            samples = metric.bootstrap(evaluation, resamples, np.random.default_rng(seed))
            intervals.append(_with_spread(_by_quantiles(metric, value, samples, level)))
        elif form is None:
            samples = _one_by_one(metric, evaluation, resamples, seed)
            intervals.append(_by_quantiles(metric, value, samples, level))
        elif form.interval is None:
            intervals.append(_by_quantiles(metric, value, form.finish(drawn.sums(form), n), level))
        else:
            total = np.asarray(form.features.sum(axis=0)).ravel()
            ends = form.interval(total, n, level, partial(drawn.sums, form))
            intervals.append(Interval(value, *ends))
    return intervals


class _Drawn:
    """Sums over resamples, drawn once for all forms and only if one asks for them."""

    def __init__(self, forms: Sequence[Moments], n: int, resamples: int, seed: int) -> None:
        self._forms, self._resamples, self._seed = forms, resamples, seed
        self._sums: dict[int, FloatArray] = {}
        # Of many examples the features of one metric after the other fit into memory, not all at once.
        self._together = n <= EXACT_EXAMPLES

    def sums(self, form: Moments) -> FloatArray:
        if not self._together:
            return self._drawn([form])[0]
        if not self._sums:
            drawn = self._drawn(self._forms)
            self._sums = {id(one): sums for one, sums in zip(self._forms, drawn, strict=True)}
        return self._sums[id(form)]

    def _drawn(self, forms: Sequence[Moments]) -> list[FloatArray]:
        rng = np.random.default_rng(self._seed)
        return resampled_together([form.features for form in forms], self._resamples, rng)


def _one_by_one(metric: Metric, evaluation: Evaluation, resamples: int, seed: int) -> FloatArray:
    rng, n = np.random.default_rng(seed), len(evaluation)
    return np.array([metric.evaluate(evaluation.take(rng.integers(0, n, size=n))) for _ in range(resamples)])


def _by_quantiles(metric: Metric, value: float, samples: FloatArray, level: float) -> Interval:
    undefined = int(np.count_nonzero(~np.isfinite(samples)))
    if undefined > (1.0 - level) / 10.0 * len(samples):
        reason = f"{metric.name} is undefined in {undefined} of {len(samples)} resamples"
        return Interval(value, None, None, reason)
    return Interval(value, *quantiles(samples[np.isfinite(samples)], level))


def _with_spread(interval: Interval) -> Interval:
    """Without ends where they fall together: resamples of perfect examples are perfect too."""
    if interval.low is None or interval.low != interval.high:
        return interval
    return Interval(interval.value, None, None, "all resamples agree: no interval from them")


def noise_floor(metric: Metric, probs: FloatArray, *, draws: int = 1000, seed: int) -> Interval:
    """What the metric reads on a perfectly calibrated model with these probabilities.

    Mean, and 2.5% and 97.5% quantiles, over `draws` sets of labels drawn from probs, float64 [N, C]: the
    consistency resampling of Broecker and Smith (2007).
    """
    values = self_drawn_values(metric, probs, draws, np.random.default_rng(seed))
    if not np.isfinite(values).all():
        return Interval(None, None, None, f"{metric.name} is undefined for some of the drawn labels")
    return Interval(float(values.mean()), *quantiles(values, 0.95))


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, *, level: float = 0.95) -> Interval:
    """Ratio of totals over paired blocks, with a Student-t interval on the linearised residuals.

    With R = sum a / sum b over m blocks, the residuals (a - R b) / mean(b) have the variance of the ratio
    estimator (Cochran 1977, section 6.3); the interval has m - 1 degrees of freedom.

    Args:
        numerators, denominators: float [m], for instance seconds of a method and of its reference.
    """
    above, below = _paired(numerators, denominators)
    m = len(above)
    ratio = float(above.sum() / below.sum())
    if m < 3:
        return Interval(ratio, None, None, f"n too small: {m} blocks, an interval needs 3")
    residuals = (above - ratio * below) / below.mean()
    half = special.stdtrit(m - 1, 0.5 + level / 2.0) * np.sqrt((residuals**2).sum() / (m - 1) / m)
    return Interval(ratio, ratio - float(half), ratio + float(half))


def percentile_interval(samples: ArrayLike, q: float, *, level: float = 0.95) -> Interval:
    """The q-th percentile (0 < q < 100) of independent samples, with distribution-free bounds.

    The bounds are order statistics X_(l) and X_(u): of n samples, a binomial(n, q / 100) number lies below
    the percentile, and each bound errs with probability at most (1 - level) / 2 (David and Nagaraja 2003,
    section 7.1). Where n is too small for one of them the value is withheld too.
    """
    if not 0.0 < q < 100.0:
        raise UsageError(f"A percentile of {q} was asked for; expected a number between 0 and 100.")
    ordered = np.sort(_finite(samples, "samples"))
    n, tail = len(ordered), (1.0 - level) / 2.0
    at_most = special.bdtr(np.arange(n), n, q / 100.0)  # P(k of the samples or fewer lie below)
    lower = int(np.searchsorted(at_most, tail, side="right"))
    upper = int(np.searchsorted(at_most, 1.0 - tail, side="left")) + 1
    if lower < 1 or upper > n:
        return Interval(None, None, None, f"n too small: {n} samples do not bound the {q:g}% point")
    value = float(np.percentile(ordered, q))
    return Interval(value, float(ordered[lower - 1]), float(ordered[upper - 1]))


def median_ratio_interval(numerators: ArrayLike, denominators: ArrayLike, *, level: float = 0.95) -> Interval:
    """Median of paired ratios, with the order-statistic interval of `percentile_interval`."""
    above, below = _paired(numerators, denominators)
    return percentile_interval(above / below, 50.0, level=level)


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
    level: float = 0.95,
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


def _paired(numerators: ArrayLike, denominators: ArrayLike) -> tuple[FloatArray, FloatArray]:
    above, below = _finite(numerators, "numerators"), _finite(denominators, "denominators")
    if above.shape != below.shape or not len(above) or not (below > 0.0).all():
        raise UsageError(
            f"A ratio got {len(above)} numerators and {len(below)} denominators; expected as many of each, "
            "at least one, and denominators above zero."
        )
    return above, below


def _finite(values: Any, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UsageError(f"The {what} have shape {array.shape}; expected one dimension of finite numbers.")
    return array
