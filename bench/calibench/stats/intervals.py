"""Ends of a confidence interval, each for the kind of statistic on which it holds its coverage.

The percentile bootstrap does not cover where a statistic is bounded, skewed or folded at zero: for a plug-in
ECE near zero it never does. `results/validity.md` shows how often each of these covers instead.

Percentiles of a sample, as of latencies, have order statistics for ends.

Arguments are shared: `level` is the nominal coverage, n the number of examples, sums are over examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from calibench.errors import UsageError
from calibench.types import FloatArray, Interval

Ends = tuple[float, float]

#: Of every interval in records and reports; one minus it is the error rate of a family of tests.
LEVEL = 0.95

#: How many times as wide an interval of a mean loss may be with unseen errors as without.
UNSEEN_SHARE = 3.0


def two_sided(level: float) -> float:
    """The standard normal quantile that leaves (1 - level) / 2 above it."""
    return float(special.ndtri(0.5 + level / 2.0))


def quantiles(samples: FloatArray, level: float) -> Ends:
    """Equal-tailed quantiles of resampled values, float64 [R] (Efron 1979)."""
    low, high = np.quantile(samples, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return float(low), float(high)


def wilson(successes: int, n: int, level: float) -> Ends:
    """For a share of successes: the score interval of Wilson (1927), as scipy has it."""
    # Where it is used: scipy.stats takes longer to import than most of what asks for no interval.
    from scipy.stats import binomtest

    low, high = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(low), float(high)


def paired_shares(gained: int, lost: int, n: int, level: float) -> Ends:
    """For a difference of two shares of the same examples: the score interval of Tango (1998).

    It inverts `mcnemar_p_value`, and keeps its coverage with few discordant examples, also with none.

    Args:
        gained: examples that count for the second share only.
        lost: those that count for the first only.
    """
    z = two_sided(level)
    estimate = (gained - lost) / n

    def beyond(delta: float, side: float) -> float:
        # Distance of gained - lost from its expectation, less z standard deviations, under the likeliest
        # shares that differ by delta.
        b = (2 * n - gained + lost) * delta - gained - lost
        share = (np.sqrt(max(b * b + 8.0 * n * lost * delta * (1.0 - delta), 0.0)) - b) / (4.0 * n)
        spread = np.sqrt(max(n * (2.0 * share + delta * (1.0 - delta)), 0.0))
        # Without discordant examples the spread at the estimate is zero, and so is not beyond it either.
        return -1.0 if delta == estimate else float(side * (gained - lost - n * delta) - z * spread)

    low = -1.0 if estimate == -1.0 else optimize.brentq(beyond, -1.0, estimate, args=(1.0,), xtol=1e-12)
    high = 1.0 if estimate == 1.0 else optimize.brentq(beyond, estimate, 1.0, args=(-1.0,), xtol=1e-12)
    return float(low), float(high)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided p-value of as many gained as lost, without continuity correction (McNemar 1947)."""
    discordant = gained + lost
    return float(2.0 * special.ndtr(-abs(gained - lost) / np.sqrt(discordant))) if discordant else 1.0


def skew_corrected(power_sums: FloatArray, n: int, level: float) -> Ends:
    """For a mean: Student's interval, corrected for skewness by the cubic transformation of Hall (1992).

    The transform of T = (mean - mu) / se is g(T) = T + G T^2 / 3 + G^2 T^3 / 27 + G / 6, with G the sample's
    skewness over the square root of n; it is monotone, so the interval is g's inverse of the normal one. A
    bootstrap-t corrects the same term, but explodes where a resample may lack the few examples with a loss.

    Args:
        power_sums: float64 [3], sums of the per-example values, their squares and their cubes.
    """
    mean, spread, skew = mean_spread_skew(power_sums, n)
    z = two_sided(level)
    ends = [mean - spread * hall_inverse(quantile, skew) for quantile in (z, -z)]
    return float(ends[0]), float(ends[1])


def with_unseen_losses(ends: Ends, resampled: FloatArray, n: int, cost: float, level: float) -> Ends:
    """For a mean loss: its interval, with room above for errors among the surest answers.

    What such an error would cost is known, and how often one happens is not: half an error is added to
    the sample, as Jeffreys' prior does, with the weight of a gamma draw beside the bootstrap's. Where that
    decides the interval, `UNSEEN_SHARE` times as wide as without, there is no upper end: infinity.

    Args:
        ends: without that room.
        resampled: float64 [R], sums of the losses over bootstrap resamples.
        cost: mean loss of an error among those answers.
    """
    weight = np.random.default_rng(0).standard_gamma(0.5, size=len(resampled))
    high = max(ends[1], quantiles((resampled + weight * cost) / (n + weight), level)[1])
    return ends[0], high if high - ends[0] <= UNSEEN_SHARE * (ends[1] - ends[0]) else np.inf


def cautious_mean(power_sums: FloatArray, n: int, level: float) -> Ends:
    """For a mean, far out: all that Student's or the skew-corrected interval holds.

    The sample's skewness follows the sample's mean: where the mean is extreme the correction overshoots, in
    the direction that makes it significant. So it is only allowed to widen. `cautious_p_value` is the test
    that this interval inverts.
    """
    mean, spread, skew = mean_spread_skew(power_sums, n)
    quantile = float(special.stdtrit(n - 1, 0.5 + level / 2.0))
    low = max(quantile, hall_inverse(quantile, skew))
    high = min(-quantile, hall_inverse(-quantile, skew))
    return mean - spread * low, mean - spread * high


def cautious_p_value(power_sums: FloatArray, n: int) -> float:
    """Two-sided p-value of a mean of zero: the larger of Student's and the skew-corrected one."""
    mean, spread, skew = mean_spread_skew(power_sums, n)
    if spread == 0.0:
        # The same difference n times: no test that may flip signs falls below this.
        return 1.0 if mean == 0.0 else float(2.0 ** (1 - n))
    t = mean / spread
    return float(2.0 * special.stdtr(n - 1, -min(abs(t), abs(hall_transform(t, skew)))))


def accelerated(samples: FloatArray, value: float, skew: float, level: float) -> Ends:
    """For a mean: the bias-corrected and accelerated bootstrap (BCa, Efron 1987).

    Args:
        samples: float64 [R], resampled means.
        value: the mean.
        skew: skewness of the per-example values over the square root of n.
    """
    below = np.mean(samples < value) + 0.5 * np.mean(samples == value)
    shift = special.ndtri(np.clip(below, 1.0 / len(samples), 1.0 - 1.0 / len(samples)))
    z = shift + two_sided(level) * np.array([-1.0, 1.0])
    low, high = np.quantile(samples, special.ndtr(shift + z / (1.0 - skew / 6.0 * z)))
    return float(low), float(high)


def mean_spread_skew(power_sums: FloatArray, n: int) -> tuple[float, float, float]:
    """Mean, its standard error, and skewness over the square root of n; the last two 0 for a constant."""
    first, second, third = (power_sums / n).tolist()
    variance = second - first**2
    if n < 2 or variance <= 1e-14 * second:  # rounding of a constant
        return first, 0.0, 0.0
    skewness = (third - 3.0 * first * second + 2.0 * first**3) / variance**1.5
    return first, float(np.sqrt(variance / (n - 1))), float(skewness / np.sqrt(n))


def hall_transform(t: float, skew: float) -> float:
    """g of `skew_corrected`: about standard normal where t is the t-statistic of a skewed sample."""
    return t + skew * t**2 / 3.0 + skew**2 * t**3 / 27.0 + skew / 6.0


def hall_inverse(value: float, skew: float) -> float:
    """The t whose `hall_transform` is `value`."""
    if abs(skew) < 1e-9:
        return value
    return float(3.0 / skew * (np.cbrt(1.0 + skew * (value - skew / 6.0)) - 1.0))


def squared_norm(
    estimate: float, per_unit: tuple[float, float], constant: tuple[float, float], level: float
) -> Ends:
    """For an unbiased estimate of a squared norm: the score interval, with skewness.

    At a true value theta >= 0 the estimate has a variance and a third cumulant that are theta * per_unit +
    constant: proportional to theta where the norm is large, and what is left where it is zero, a sum of
    squares less their expectation, which is skewed. The interval holds the theta under which the estimate is
    not in the upper tail of the gamma distribution with these three moments (Pearson's type III), nor in the
    normal's lower one: the gamma's is shorter, and hangs on variances that a few right answers show too
    small. Below zero only the constants are left, so that the lower end of a small estimate may be negative,
    like the estimate.

    Args:
        per_unit, constant: of the variance and of the third cumulant.
    """
    tail = (1.0 - level) / 2.0

    def beyond(theta: float, probability: float) -> float:
        known = max(theta, 0.0)
        variance, third = (known * slope + start for slope, start in zip(per_unit, constant, strict=True))
        skewness = third / variance**1.5 if probability > 0.5 else 0.0
        return float(estimate - theta - np.sqrt(variance) * pearson_quantile(probability, skewness))

    if constant[0] <= 0.0 and max(estimate, 0.0) * per_unit[0] <= 0.0:
        return estimate, estimate
    scale = abs(estimate) + np.sqrt(constant[0]) + per_unit[0]
    ends = []
    for probability, side in ((1.0 - tail, -1.0), (tail, 1.0)):
        far = scale
        while side * beyond(estimate + side * far, probability) > 0.0:
            far *= 2.0
        found = optimize.brentq(beyond, estimate, estimate + side * far, args=(probability,), xtol=1e-12)
        ends.append(float(found))
    return ends[0], ends[1]


def pearson_quantile(probability: float, skewness: float) -> float:
    """Of the gamma distribution with mean 0, variance 1 and this skewness >= 0; the normal's at none."""
    if skewness < 1e-4:
        return float(special.ndtri(probability))
    shape = 4.0 / skewness**2
    return float((special.gammaincinv(shape, probability) - shape) / np.sqrt(shape))


@dataclass(frozen=True, eq=False)
class Direction:
    """A one-parameter family of truths in which a plug-in norm is tested.

    Attributes:
        noise: floating [R, G], resampled noise of the G numbers whose norm is taken.
        pull: floating [R, G], what a truth of norm 1 adds to them.
    """

    noise: NDArray[np.floating]
    pull: NDArray[np.floating]


def inverted_norm(
    directions: Sequence[Direction],
    norm: Callable[[FloatArray], FloatArray],
    observed: float,
    level: float,
) -> Ends:
    """For a plug-in norm: the bootstrap test, inverted.

    A plug-in norm reads more than the truth, by an amount that depends on the truth: no fixed shift corrects
    it. So the interval holds every truth under which the observed value is not in a tail of norm(noise +
    t * pull); t = 0 is a calibrated model. In which direction the truth lies is unknown; of those given, the
    outer ends are taken. The observed value itself is never left out. One too small even for a calibrated
    model is luck, and is taken for the middle one of a calibrated model's.

    Args:
        norm: maps float64 [R, G] to values, float64 [R].
        observed: the plug-in norm of the sample.
    """
    ends = [observed]
    tail = (1.0 - level) / 2.0
    for direction in directions:
        ends += [_crossing(direction, norm, observed, quantile) for quantile in (1.0 - tail, tail)]
    return min(ends), max(ends)


def _crossing(
    family: Direction, norm: Callable[[FloatArray], FloatArray], observed: float, quantile: float
) -> float:
    """The smallest t >= 0 at which this quantile of norm(noise + t * pull) has risen to what was observed."""

    def above(t: float) -> float:
        return float(np.quantile(norm(family.noise + t * family.pull), quantile)) - goal

    goal = observed
    if above(0.0) >= 0.0:
        if quantile > 0.5:
            return 0.0
        goal = float(np.median(norm(family.noise + 0.0 * family.pull)))
        if above(0.0) >= 0.0:
            return 0.0
    low, high = 0.0, max(observed, 1e-12)
    while above(high) < 0.0:
        low, high = high, 2.0 * high
    return float(optimize.brentq(above, low, high, xtol=1e-4 * high, rtol=1e-4))


def percentile_interval(samples: ArrayLike, q: float, *, level: float = LEVEL) -> Interval:
    """The q-th percentile (0 < q < 100) of independent samples, with distribution-free bounds.

    The bounds are order statistics X_(l) and X_(u): of n samples, a binomial(n, q / 100) number lies below
    the percentile, and each bound errs with probability at most (1 - level) / 2 (David and Nagaraja 2003,
    section 7.1). Where n is too small for one of them the value is withheld too.
    """
    if not 0.0 < q < 100.0:
        raise UsageError(f"A percentile of {q} was asked for; expected a number between 0 and 100.")
    ordered = np.sort(finite(samples, "samples"))
    n, tail = len(ordered), (1.0 - level) / 2.0
    at_most = special.bdtr(np.arange(n), n, q / 100.0)  # P(k of the samples or fewer lie below)
    lower = int(np.searchsorted(at_most, tail, side="right"))
    upper = int(np.searchsorted(at_most, 1.0 - tail, side="left")) + 1
    if lower < 1 or upper > n:
        return Interval(None, None, None, f"n too small: {n} samples do not bound the {q:g}% point")
    value = float(np.percentile(ordered, q))
    return Interval(value, float(ordered[lower - 1]), float(ordered[upper - 1]))


def finite(values: Any, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UsageError(f"The {what} have shape {array.shape}; expected one dimension of finite numbers.")
    return array
