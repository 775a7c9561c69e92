"""Intervals of what clocks measure: ratios over paired blocks, percentiles, medians of paired ratios."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from calibench.errors import UsageError
from calibench.stats.intervals import LEVEL
from calibench.types import FloatArray, Interval


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, *, level: float = LEVEL) -> Interval:
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


def percentile_interval(samples: ArrayLike, q: float, *, level: float = LEVEL) -> Interval:
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


def median_ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, *, level: float = LEVEL
) -> Interval:
    """Median of paired ratios, with the order-statistic interval of `percentile_interval`."""
    above, below = _paired(numerators, denominators)
    return percentile_interval(above / below, 50.0, level=level)


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
