"""Intervals of what clocks measure: trimmed means of paired log ratios, and medians of paired ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from calibench.errors import UsageError
from calibench.stats.intervals import LEVEL, finite, percentile_interval
from calibench.types import FloatArray, Interval

#: Share of the blocks that is cut from each end, rounded up: of twelve, the two dearest and the two cheapest.
TRIMMED = 0.1
#: Fewer blocks than these are all kept: of four, the two in the middle would say next to nothing.
FEWEST_TRIMMED = 5


@dataclass(frozen=True, eq=False)
class TrimmedMean:
    """A mean without the ends of the sample.

    Attributes:
        value: the mean of the `held` values in the middle.
        parts: float64 [n], in the order of the values; the root of the sum of their squares is the standard
            error.
        held: how many values are in the mean; the standard error has `held` - 1 degrees of freedom.
    """

    value: float
    parts: FloatArray
    held: int


def trimmed_mean(values: FloatArray) -> TrimmedMean:
    """Mean of the middle of a sample, with the standard error of Tukey and McLaughlin (1963).

    The ends that are cut count in the error as the values next to them: the variance is that of the
    winsorised sample, and Student's distribution has a degree of freedom less than there are values in the
    middle (Yuen 1974 has the same for a difference). Nothing is cut from fewer than `FEWEST_TRIMMED`
    values, of which this is the mean with its usual error.

    Args:
        values: float64 [n], n at least 1; from a single value no error is had, and its part is 0.
    """
    n = len(values)
    cut = trimmed_count(n)
    ordered = np.sort(values)
    held = n - 2 * cut
    winsorised = np.clip(values, ordered[cut], ordered[n - 1 - cut])
    scale = math.sqrt(held * (held - 1)) if held > 1 else 1.0
    centred = winsorised - winsorised.mean()
    return TrimmedMean(float(ordered[cut : n - cut].mean()), centred / scale, held)


def trimmed_count(n: int) -> int:
    """How many of n values are cut from each end."""
    return math.ceil(TRIMMED * n) if n >= FEWEST_TRIMMED else 0


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The typical ratio over paired blocks: a trimmed mean of logarithms, with its interval; see
    `trimmed_mean`.

    One block in which the machine stalled, on either side, is cut, and moves neither the value nor the ends
    by more than another quiet block would. The ratio of totals that it takes the place of does not survive
    one. Every block counts alike, so blocks should be alike in what they hold, as those of a plan are. Both
    ends are above zero, and the ratio turned round has the ends turned round.

    Args:
        numerators, denominators: float [m], above zero, for instance seconds of a method and of its
        reference.
    """
    above, below = _paired(numerators, denominators)
    m = len(above)
    mean = trimmed_mean(np.log(above / below))
    ratio = math.exp(mean.value)
    if m < 3:
        return Interval(ratio, None, None, f"n too small: {m} blocks, an interval needs 3")
    half = special.stdtrit(mean.held - 1, 0.5 + level / 2.0) * math.sqrt(float((mean.parts**2).sum()))
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def median_ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, *, level: float = LEVEL
) -> Interval:
    """Median of paired ratios, with the order-statistic interval of `percentile_interval`."""
    above, below = _paired(numerators, denominators)
    return percentile_interval(above / below, 50.0, level=level)


def _paired(numerators: ArrayLike, denominators: ArrayLike) -> tuple[FloatArray, FloatArray]:
    above, below = finite(numerators, "numerators"), finite(denominators, "denominators")
    if above.shape != below.shape or not len(above) or not ((above > 0.0) & (below > 0.0)).all():
        raise UsageError(
            f"A ratio got {len(above)} numerators and {len(below)} denominators; expected as many of each, "
            "at least one, and all of them above zero."
        )
    return above, below
