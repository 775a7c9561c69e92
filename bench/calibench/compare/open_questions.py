"""What the examples of a decision leave open, and about how many more of them would settle it.

A test of a mean over N examples shows a true difference four times in five where it is as large as the
half-width of the test's interval times 1 + z(.8) / z; the half-width shrinks with the root of N. So were what
is seen the truth, N (detectable / seen)² examples would settle it (Cohen 1988, with normal quantiles).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scipy import special

from calibench.compare.noninferiority import BOUND_LEVEL
from calibench.compare.recommendation import (
    ACCURACY_MARGIN,
    IMPROVABLE,
    Candidate,
    Decision,
    Judged,
    nll_bounds,
    pair_alpha,
)
from calibench.compare.verdicts import Pair
from calibench.stats.intervals import two_sided

#: How often the examples would settle it.
POWER = 0.8
Kind = Literal["first", "reference", "accuracy"]


@dataclass(frozen=True)
class Question:
    """Something that no test decides.

    Attributes:
        row: label of the method it is about.
        kind: "first": whether its NLL is that of the row that is named first; "reference": whether it differs
            from the reference; "accuracy": whether it keeps the reference's accuracy.
        more: about how many more labelled examples settle it; infinite where no difference is seen.
    """

    row: str
    kind: Kind
    more: float


def open_questions(decision: Decision) -> list[Question]:
    """The questions that the decision leaves open, those that are settled first in front."""
    return sorted(_questions(decision), key=lambda question: question.more)


def _questions(decision: Decision) -> Iterator[Question]:
    n = len(decision.reference.evaluation)
    first = decision.pick or decision.more
    for item in decision.alike:
        assert first is not None
        if not _same(item.row, first.row):
            yield Question(item.row.label, "first", _more(n, _against_first(decision, item, first)))
    for item in decision.judged:
        if not item.shown("better") and not item.shown("worse"):
            if not _same(item.row, decision.reference):
                yield Question(item.row.label, "reference", _more(n, _against_reference(item)))
        elif item.improved and not item.shown("worse") and not item.keeps_accuracy:
            yield Question(item.row.label, "accuracy", _more(n, _accuracy(item)))


def _same(row: Candidate, than: Candidate) -> bool:
    """Whether the two say the same, and no example will tell them apart."""
    return Pair(row.label, than.evaluation, row.evaluation).same


def _more(n: int, factor: float) -> float:
    return n * max(factor - 1.0, 0.0)


def _share(detectable: float, seen: float) -> float:
    """Times the examples there are."""
    return math.inf if seen == 0.0 else (detectable / seen) ** 2


def _against_first(decision: Decision, item: Judged, first: Judged) -> float:
    alpha = pair_alpha(decision)
    found = nll_bounds(item, first, alpha)
    return _share((found.high - found.low) / 2.0 * _room(two_sided(1.0 - alpha)), found.value)


def _against_reference(item: Judged) -> float:
    """In whichever metric it is settled first."""
    differences = [item.differences[name] for name in IMPROVABLE]
    return min(
        (
            _share(one.detectable, one.difference.value)
            for one in differences
            if one.detectable is not None and one.difference.value is not None
        ),
        default=math.inf,
    )


def _accuracy(item: Judged) -> float:
    seen = item.differences["accuracy"].difference.value
    assert seen is not None
    half = seen - item.accuracy_floor
    return _share(half * _room(float(special.ndtri(BOUND_LEVEL))), seen + ACCURACY_MARGIN)


def _room(quantile: float) -> float:
    return 1.0 + float(special.ndtri(POWER)) / quantile
