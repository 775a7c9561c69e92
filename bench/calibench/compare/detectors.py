"""Which score to tell texts out of scope by: every method against every other, by DeLong's paired test.

The best is the method with the highest AUROC, and an estimate alone shows nothing: methods that no test
tells apart from it are as good as it, as far as this run can say. Of these and the best itself the cheapest
is to be used, of those whose probabilities lose nothing; only if all of them lose something, of all. Costs
within `front.SAME_COST` of the least are equal; among equals the reference comes first, then what needs no
training, then fewer passes, then the higher AUROC.

Tested are all pairs of methods, adjusted together by Holm's procedure, though only those with the best are
looked at: which method comes out best is itself a matter of chance, so that tests against it alone would give
more false alarms than they promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from calibench.compare.front import SAME_COST
from calibench.compare.verdicts import FEWEST, holm
from calibench.metrics.detection import Placements, paired_auroc
from calibench.stats.intervals import LEVEL, two_sided


@dataclass(frozen=True, eq=False)
class Detector:
    """A method as a detector.

    Attributes:
        order: position in the section, unique.
        cost: time over the reference's; infinite where it is unknown.
        passes: per example.
        trained: whether anything is fitted before it.
        reference: whether costs are relative to it.
        placements: of its score.
        loses: metrics in which its probabilities are shown worse than the reference's.
    """

    order: int
    cost: float
    passes: float
    trained: bool
    reference: bool
    placements: Placements
    loses: tuple[str, ...] = ()


@dataclass(frozen=True)
class AurocDifference:
    """A difference of two AUROCs, with the interval at the level at which Holm's procedure tested it."""

    value: float
    low: float
    high: float
    shown: bool


@dataclass(frozen=True, eq=False)
class Choice:
    """What the tests say.

    Attributes:
        best: the method with the highest AUROC.
        pick: the cheapest of `best` and `alike`, of those that lose nothing if there are any.
        alike: the others that are not told apart from the best, AUROC falling.
        less: by the order of a method, its AUROC less the best's; not of the best.
        pairs: how many were tested.
        passed_over: those of `best` and `alike` that lose something where `pick` does not.
        pick_over_reference: the AUROC of `pick` less the reference's; None where either is the other or there
            is no reference.
    """

    best: Detector
    pick: Detector
    alike: tuple[Detector, ...]
    less: Mapping[int, AurocDifference]
    pairs: int
    passed_over: tuple[Detector, ...]
    pick_over_reference: AurocDifference | None


def choose(detectors: Sequence[Detector]) -> Choice | None:
    """The best, those not told apart from it, and the cheapest of them.

    None with fewer than two detectors, or fewer than `FEWEST` texts of either kind.

    Args:
        detectors: about the same texts.
    """
    if len(detectors) < 2:
        return None
    first = detectors[0].placements
    if min(len(first.beyond), len(first.within)) < FEWEST:
        return None
    differences = _every_pair(detectors)
    best = max(detectors, key=lambda item: (item.placements.auroc, -item.order))
    less = {item.order: differences[item.order, best.order] for item in detectors if item is not best}
    others = sorted(detectors, key=lambda item: -item.placements.auroc)
    alike = tuple(item for item in others if item is not best and not less[item.order].shown)
    good = [best, *alike]
    sound = [item for item in good if not item.loses]
    pick = _cheapest(sound or good)
    passed_over = tuple(item for item in good if item.loses) if sound else ()
    reference = next((item for item in detectors if item.reference), None)
    over = None if reference in (None, pick) else differences[pick.order, reference.order]
    return Choice(best, pick, alike, less, len(differences) // 2, passed_over, over)


def _every_pair(detectors: Sequence[Detector]) -> dict[tuple[int, int], AurocDifference]:
    pairs = list(combinations(detectors, 2))
    found = [paired_auroc(one.placements, other.placements) for one, other in pairs]
    p_values = np.array(
        [1.0 if spread == 0.0 else 2.0 * special.ndtr(-abs(value) / spread) for value, spread in found]
    )
    adjusted, levels = holm(p_values, LEVEL)
    differences = {}
    for (one, other), (value, spread), p, level in zip(pairs, found, adjusted, levels, strict=True):
        half, shown = two_sided(float(level)) * spread, bool(p <= 1.0 - LEVEL)
        differences[one.order, other.order] = AurocDifference(value, value - half, value + half, shown)
        differences[other.order, one.order] = AurocDifference(-value, -value - half, -value + half, shown)
    return differences


def _cheapest(detectors: Sequence[Detector]) -> Detector:
    least = min(item.cost for item in detectors)
    near = [item for item in detectors if item.cost <= least * (1.0 + SAME_COST) or math.isinf(least)]
    return min(near, key=lambda item: (not item.reference, item.trained, item.passes, -item.placements.auroc))
