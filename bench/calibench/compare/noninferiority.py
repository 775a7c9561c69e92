"""Whether predictions are no worse than others by more than a margin, in negative log-likelihood.

Showing no difference is not showing that there is none: a small test set shows no difference between any two
methods. So the burden is turned round: "no worse" is said only where the one-sided 95% bound of the paired
difference lies below the margin, "worse" where the opposite bound lies above it, and else nothing is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from calibench.compare.unseen import Unseen, unseen
from calibench.metrics.scoring import NLL, negative_log_likelihood
from calibench.stats.intervals import mean_spread_skew, skew_corrected
from calibench.types import Evaluation, FloatArray

#: Nats per example: what it costs to say .43 where .50 is right, or .85 where .90 is.
MARGIN = 0.01
#: Of each bound alone; the two of them hold a 90% interval.
BOUND_LEVEL = 0.95

Verdict = Literal["no worse", "worse", "not shown"]


@dataclass(frozen=True)
class Bounds:
    """A mean of paired differences, with its two one-sided bounds."""

    value: float
    low: float
    high: float

    def verdict(self, margin: float) -> Verdict:
        """What the bounds show about a loss of `margin`."""
        if self.high < margin:
            return "no worse"
        return "worse" if self.low > margin else "not shown"


def mean_difference(
    differences: FloatArray, level: float = BOUND_LEVEL, missing: Unseen | None = None
) -> Bounds:
    """The mean of paired differences, float64 [N], with bounds that each hold with probability `level`.

    Student's bounds, which Hall's correction for skewness may widen but not narrow: where a few examples make
    up the whole difference it overshoots.
    """
    n = len(differences)
    sums = np.array([(differences**power).sum() for power in (1, 2, 3)])
    mean, spread, _ = mean_spread_skew(sums, n)
    half = spread * float(special.stdtrit(n - 1, level))
    low, high = skew_corrected(sums, n, 2.0 * level - 1.0)
    ends = (min(low, mean - half), max(high, mean + half))
    if missing is not None:
        ends = missing.widened(ends, 2.0 * level - 1.0)
    return Bounds(mean, *ends)


def nll_difference(new: Evaluation, base: Evaluation, level: float = BOUND_LEVEL) -> Bounds:
    """NLL of `new` minus that of `base`, on the same examples."""
    missing = None if new is base else unseen(NLL, base, new)
    return mean_difference(negative_log_likelihood(new) - negative_log_likelihood(base), level, missing)


def sufficient(differences: Sequence[Bounds], margin: float = MARGIN) -> int | None:
    """Index of the last of `differences` that is shown no worse, all before it being shown so too; or None.

    Sorted from the dearest to the cheapest, this is the fixed-sequence procedure (Maurer et al. 1995): each
    is tested only if all before it passed, in an order that the data did not choose, and so the chance that
    any is wrongly called no worse stays that of a single test.
    """
    found = None
    for index, difference in enumerate(differences):
        if difference.verdict(margin) != "no worse":
            break
        found = index
    return found
