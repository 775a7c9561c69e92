"""Which of the scored examples -> their share, with its interval."""

from __future__ import annotations

from calibench.stats.intervals import LEVEL, wilson
from calibench.types import BoolArray, Interval

NOTHING_SCORED = "no such example was scored"


def share(found: BoolArray) -> Interval:
    """How many of these examples, bool [N], with Wilson's interval; of none there is no value."""
    if not len(found):
        return Interval(None, None, None, NOTHING_SCORED)
    return Interval(float(found.mean()), *wilson(int(found.sum()), len(found), LEVEL))
