"""Which method to ship, by fixed rules that follow paired evidence only.

A row *qualifies* if, on the same examples as the reference,

1. it is shown better in NLL, Brier score or debiased ECE², by the verdicts of `calibench.compare.verdicts`,
   which keep the chance of any false one in the whole table at 5%;
2. it is shown worse in none of these, nor in accuracy, nor in telling examples out of scope; and
3. a loss of more than `ACCURACY_MARGIN` in accuracy is ruled out, by a one-sided 95% bound.

Qualifying rows are gone through from the cheapest to the dearest, costs being equal where their first two
digits are. The first is taken, and left for a dearer one only if that one is shown to have the lower NLL, at
5% divided by the number of pairs that could be compared. More time than the reference's, or than the row's
that was taken so far, is spent only where a gain of `MARGIN` in NLL is not ruled out (one-sided, 95%): on
enough examples a difference that nobody would notice is shown too.

- What this gives among the rows that take up to `AFFORDABLE` times the reference's time is recommended.
- What it gives among all of them is named as what more time buys.
- If none of the affordable rows qualifies, the reference is recommended, unless more time is acceptable.
- If no row qualifies, the reference is.

No estimate decides anything here unless a test shows it; what no test shows is said to be not shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calibench.compare.noninferiority import MARGIN, Bounds, mean_difference, nll_difference
from calibench.compare.verdicts import Difference, Pair, compare_pairs
from calibench.metrics.scoring import correct
from calibench.stats.intervals import LEVEL
from calibench.types import Evaluation

#: Share of the examples: the accuracy that may be lost for better probabilities.
ACCURACY_MARGIN = 0.01
#: Times the reference's time.
AFFORDABLE = 2.0
IMPROVABLE = ("nll", "brier", "ece_debiased")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method that could be shipped.

    Attributes:
        order: position in the section, unique.
        label: name.
        cost: time over the reference's; infinite where it is unknown, and then the row cannot qualify.
        passes: per example.
        evaluation: predictions and labels in scope.
        every: the same with the examples out of scope; None where there are none.
    """

    order: int
    label: str
    cost: float
    passes: float
    evaluation: Evaluation
    every: Evaluation | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """A row against the reference.

    Attributes:
        differences: by metric.
        accuracy_floor: one-sided 95% lower bound of its accuracy less the reference's.
    """

    row: Candidate
    differences: Mapping[str, Difference]
    accuracy_floor: float

    def shown(self, verdict: str) -> list[str]:
        """The metrics in which this verdict was given."""
        return [name for name, difference in self.differences.items() if difference.verdict == verdict]

    @property
    def improved(self) -> list[str]:
        """The metrics that count in which it is shown better."""
        return [name for name in self.shown("better") if name in IMPROVABLE]

    @property
    def keeps_accuracy(self) -> bool:
        """Whether a loss of more than the margin is ruled out."""
        return self.accuracy_floor > -ACCURACY_MARGIN

    @property
    def qualifies(self) -> bool:
        """Rules 1 to 3, and a known cost."""
        fine = bool(self.improved) and not self.shown("worse") and self.keeps_accuracy
        return fine and math.isfinite(self.row.cost)


@dataclass(frozen=True, eq=False)
class Decision:
    """What the rules say.

    Attributes:
        reference: what all were compared with.
        judged: every other row, in the order it was given.
        pick: the affordable row to use, or None for the reference.
        more: the row that more time buys, or None where none is shown to be worth it.
        alike: qualifying rows whose NLL is not shown to differ from that of the row that is named first.
        slight: qualifying rows that take more time than the reference for a gain that is shown to be slight.
    """

    reference: Candidate
    judged: tuple[Judged, ...]
    pick: Judged | None
    more: Judged | None
    alike: tuple[Judged, ...]
    slight: tuple[Judged, ...]


def decide(reference: Candidate, rows: Sequence[Candidate], *, seed: int = 0) -> Decision:
    """Apply the rules of this module to rows about the same examples."""
    base = reference.evaluation
    every = reference.every or base
    pairs = [Pair(str(row.order), every, row.every or row.evaluation) for row in rows]
    # Verdicts do not depend on the resamples, which are for intervals that are not looked at here.
    found = compare_pairs(pairs, resamples=100, seed=seed)
    judged = []
    for row in rows:
        own = {item.metric: item for item in found if item.method == str(row.order)}
        judged.append(Judged(row, own, mean_difference(correct(row.evaluation) - correct(base)).low))
    fit = sorted((item for item in judged if item.qualifies), key=_cheapest_first)
    slight = [item for item in fit if not _worth_its_time(item.row, reference)]
    fit = [item for item in fit if item not in slight]
    affordable = [item for item in fit if item.row.cost <= AFFORDABLE]
    alpha = _alpha(len(fit))
    pick = _climb(None, affordable, alpha)
    top = _climb(pick, [item for item in fit if item not in affordable], alpha)
    first = pick or top
    alike = [item for item in fit if item is not first and first and not _shown_different(item, first, alpha)]
    more = None if top is pick else top
    return Decision(reference, tuple(judged), pick, more, tuple(alike), tuple(slight))


def pair_alpha(decision: Decision) -> float:
    """The level at which two qualifying rows were compared: 5%, divided by the number of their pairs."""
    return _alpha(sum(item.qualifies and item not in decision.slight for item in decision.judged))


def _alpha(qualifying: int) -> float:
    return (1.0 - LEVEL) / max(1, qualifying * (qualifying - 1) // 2)


def _digits(cost: float) -> float:
    return float(f"{cost:.2g}")


def _cheapest_first(item: Judged) -> tuple[float, float]:
    return _digits(item.row.cost), item.row.passes


def _worth_its_time(row: Candidate, than: Candidate) -> bool:
    """Whether it takes no more time, or a gain of the margin is not ruled out."""
    if _digits(row.cost) <= _digits(than.cost):
        return True
    return nll_difference(than.evaluation, row.evaluation).verdict(MARGIN) != "no worse"


def _climb(start: Judged | None, dearer: Iterable[Judged], alpha: float) -> Judged | None:
    for item in dearer:
        if start is None or (_shown_lower(item, start, alpha) and _worth_its_time(item.row, start.row)):
            start = item
    return start


def _shown_lower(item: Judged, than: Judged, alpha: float) -> bool:
    return nll_bounds(item, than, alpha).high < 0.0


def _shown_different(item: Judged, than: Judged, alpha: float) -> bool:
    found = nll_bounds(item, than, alpha)
    return found.high < 0.0 or found.low > 0.0


def nll_bounds(item: Judged, than: Judged, alpha: float) -> Bounds:
    """NLL of a row less that of another, with the bounds of a two-sided test at `alpha`."""
    return nll_difference(item.row.evaluation, than.row.evaluation, 1.0 - alpha / 2.0)
