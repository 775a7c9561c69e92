"""Does a method do worse for some examples than for the others? Each subgroup against all that are not in it.

Subgroups hold different examples, so that nothing is paired: means over examples, or over jackknife
pseudo-values as in `calibench.compare.verdicts`, are compared by Welch's (1947) test, and shares of right
answers by the score test, whose spread does not vanish where a group has no error; their interval is
Newcombe's (1998). P-values are adjusted by Holm's procedure over all groups and metrics of a method: with 95%
probability none of its verdicts is a false alarm.

A group is refused unless its accuracy would be known to `HALF_WIDTH`, whatever it is: what is said of fewer
examples is said of chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import special

from calibench.compare.verdicts import UNDECIDED, Verdict, contributions, holm, means_of, verdict_of
from calibench.metrics.scoring import ACCURACY
from calibench.stats.intervals import LEVEL, Ends, wilson
from calibench.stats.mapped import examples_at
from calibench.types import Evaluation, FloatArray, IntArray, Interval, Metric

#: Half the 95% interval of an accuracy of one half, at most.
HALF_WIDTH = 0.1


@cache
def fewest() -> int:
    """The fewest examples of a group: those with which Wilson's interval is no wider than twice "
    "`HALF_WIDTH`."""
    n = 1
    while True:
        low, high = wilson(n // 2, n, LEVEL)
        if high - low <= 2.0 * HALF_WIDTH:
            return n
        n += 1


@dataclass(frozen=True)
class GroupDifference:
    """A group less all other examples, in one metric.

    Attributes:
        group: its number.
        difference: with its 95% interval, for this difference alone.
        p_value, adjusted_p: two-sided, of no difference, and the same by Holm's procedure.
        verdict: in words.
    """

    group: int
    metric: Metric
    difference: Interval
    p_value: float
    adjusted_p: float
    verdict: Verdict


def large_enough(groups: IntArray) -> list[int]:
    """The numbers of the groups, int64 [N] by example, that may be compared with the others."""
    numbers, counts = np.unique(groups, return_counts=True)
    enough = (counts >= fewest()) & (len(groups) - counts >= fewest())
    return [int(number) for number in numbers[enough]]


def against_rest(evaluation: Evaluation, groups: IntArray, chosen: Sequence[int]) -> list[GroupDifference]:
    """Each chosen group against all other examples in each metric with verdicts, groups first.

    Args:
        evaluation: N examples in scope.
        groups: int64 [N], the number of each example's group.
        chosen: of `large_enough`.
    """
    found = [
        _difference(number, metric, evaluation, groups == number)
        for number in chosen
        for metric in means_of(evaluation)
    ]
    if not found:
        return []
    adjusted, _ = holm(np.array([item.p_value for item in found]))
    return [
        replace(item, adjusted_p=float(p), verdict=_verdict(item) if p <= 1.0 - LEVEL else UNDECIDED)
        for item, p in zip(found, adjusted, strict=True)
    ]


def _verdict(item: GroupDifference) -> Verdict:
    assert item.difference.value is not None
    return verdict_of(item.metric, item.difference.value)


def _difference(number: int, metric: Metric, evaluation: Evaluation, inside: np.ndarray) -> GroupDifference:
    own, others = (
        contributions(metric, examples_at(evaluation, np.flatnonzero(chosen))) for chosen in (inside, ~inside)
    )
    test = _shares if metric is ACCURACY else _welch
    ends, p_value = test(own, others)
    return GroupDifference(
        number, metric, Interval(float(own.mean() - others.mean()), *ends), p_value, p_value, UNDECIDED
    )


def _welch(own: FloatArray, others: FloatArray) -> tuple[Ends, float]:
    parts = [values.var(ddof=1) / len(values) for values in (own, others)]
    error, difference = float(np.sqrt(sum(parts))), float(own.mean() - others.mean())
    if error == 0.0:
        return (difference, difference), 1.0 if difference == 0.0 else 0.0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (own, others), strict=True)
    )
    half = float(special.stdtrit(freedom, 0.5 + LEVEL / 2.0)) * error
    p_value = 2.0 * float(special.stdtr(freedom, -abs(difference) / error))
    return (difference - half, difference + half), p_value


def _shares(own: FloatArray, others: FloatArray) -> tuple[Ends, float]:
    counts, shares = (len(own), len(others)), (float(own.mean()), float(others.mean()))
    difference = shares[0] - shares[1]
    (low, high), (least, most) = (
        wilson(round(share * n), n, LEVEL) for share, n in zip(shares, counts, strict=True)
    )
    ends = (
        difference - float(np.hypot(shares[0] - low, most - shares[1])),
        difference + float(np.hypot(high - shares[0], shares[1] - least)),
    )
    pooled = (own.sum() + others.sum()) / sum(counts)
    error = float(np.sqrt(pooled * (1.0 - pooled) * (1.0 / counts[0] + 1.0 / counts[1])))
    p_value = 1.0 if error == 0.0 else 2.0 * float(special.ndtr(-abs(difference) / error))
    return ends, p_value
