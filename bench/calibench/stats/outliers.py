"""Times that lie far above the others, whatever the others look like."""

from __future__ import annotations

import numpy as np

from calibench.types import FloatArray

#: How many times as long as the median a time has to be at the least: per token, the blocks of a plan differ
#: by less, as they have the same mix of lengths.
FAR = 2.0
#: How many robust standard deviations above the median, on the log scale: where times scatter, more than
#: `FAR`.
DEVIATIONS = 5.0
#: Of fewer times none is called far: of three, two could be the odd ones.
FEWEST = 4
#: A normal distribution's standard deviation over its median absolute deviation (Hampel 1974).
_NORMAL = 1.4826


def far_above(times: FloatArray) -> FloatArray:
    """How far each time lies above what could be scatter, in factors, float64 [n]; 1 or more is far.

    The bound is the median times `FAR`, or the median and `DEVIATIONS` standard deviations, made from the
    median absolute deviation of the logarithms, where that is more. Half of the times may be odd ones
    before the bound is moved by them.

    Args:
        times: float64 [n], above zero; fewer than `FEWEST` are all near.
    """
    if len(times) < FEWEST:
        return np.zeros(len(times))
    logs = np.log(times)
    beyond = logs - np.median(logs)
    spread = _NORMAL * float(np.median(np.abs(beyond)))
    factors: FloatArray = np.exp(beyond - max(np.log(FAR), DEVIATIONS * spread))
    return factors
