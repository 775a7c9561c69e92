"""Whether intervals cover as often as they say, by simulation."""

from __future__ import annotations

import numpy as np

from calibench.types import Interval

#: Replications of a coverage simulation. A 95% interval covers in 885 or fewer of 960 with probability
#: 1 in 2,000 (lower side, normal limit); `covers_enough` fails below that.
REPLICATIONS = 960


def ends(interval: Interval) -> tuple[float, float]:
    """Both ends, which are there."""
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def covers_enough(intervals: list[Interval], truth: float) -> bool:
    """Whether a nominal 95% coverage is credible; a right interval fails 1 time in 2,000."""
    covered = sum(low <= truth <= high for low, high in map(ends, intervals))
    share = covered / len(intervals)
    return share >= 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / len(intervals))
