"""Intervals of what clocks measure: ratios of totals over paired blocks, and medians of paired ratios."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from calibench.errors import UsageError
from calibench.stats.intervals import LEVEL, finite, percentile_interval
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


def median_ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, *, level: float = LEVEL
) -> Interval:
    """Median of paired ratios, with the order-statistic interval of `percentile_interval`."""
    above, below = _paired(numerators, denominators)
    return percentile_interval(above / below, 50.0, level=level)


def _paired(numerators: ArrayLike, denominators: ArrayLike) -> tuple[FloatArray, FloatArray]:
    above, below = finite(numerators, "numerators"), finite(denominators, "denominators")
    if above.shape != below.shape or not len(above) or not (below > 0.0).all():
        raise UsageError(
            f"A ratio got {len(above)} numerators and {len(below)} denominators; expected as many of each, "
            "at least one, and denominators above zero."
        )
    return above, below
