"""Blocks that took far longer than their method's others: which to time once more, and which times count.

A suspended machine, swapping, or another job adds seconds to whatever is being timed, a hundredfold maybe.
A block in which that happened to any method is timed once more with all of them, so that its ratios stay
paired; the new times count in the place of the old, whatever they are. What was predicted does not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibench.stats.outliers import FEWEST, far_above
from calibench.store.journal import Entries

#: Share of the timed blocks that may be timed once more, rounded up: a machine that is never at rest costs no
#: run more than a quarter of its time.
BUDGET = 0.25

#: The kind of a journal's entries of blocks that were timed once more.
AGAIN = "block again"

Entry = Mapping[str, Any]
#: Repetition and block.
Place = tuple[int, int]


@dataclass(frozen=True)
class Stalls:
    """Blocks of one cell, counted.

    Attributes:
        marked: those that took far longer than its others.
        repeated: those of them that were timed once more.
        left: those that still do, among the times that count.
    """

    marked: int
    repeated: int
    left: int


def place_of(entry: Entry) -> Place:
    """Which repetition of which block an entry is of."""
    return entry["repetition"], entry["block"]


def counted_blocks(journal: Entries) -> list[dict[str, Any]]:
    """The block entries whose times count, each block in its place: the second one where there are two."""
    again = {place_of(entry): entry for entry in journal.of_kind(AGAIN)}
    return [again.get(place_of(entry), entry) for entry in journal.of_kind("block")]


def stalls_of(journal: Entries, key: str) -> Stalls:
    """How many blocks of a cell were marked, timed once more, and are as odd as before."""
    marked = _far(journal.of_kind("block"), key).keys()
    again = {place_of(entry) for entry in journal.of_kind(AGAIN)}
    return Stalls(len(marked), len(marked & again), len(_far(counted_blocks(journal), key)))


def to_time_again(journal: Entries) -> list[Place]:
    """The blocks that any method marks, the worst first, as many as the budget has."""
    entries = journal.of_kind("block")
    worst: dict[Place, float] = {}
    for key in dict.fromkeys(key for entry in entries for key in entry["cells"]):
        for place, factor in _far(entries, key).items():
            worst[place] = max(factor, worst.get(place, 0.0))
    ordered = sorted(worst, key=lambda place: (-worst[place], place))
    return ordered[: math.ceil(BUDGET * len(entries))]


def _far(entries: Sequence[Entry], key: str) -> dict[Place, float]:
    """The blocks that took a cell far longer than its others, and by what factor beyond the bound.

    A block is compared with its own repetitions where these are enough, as the same texts; else with the
    other blocks, by the time per token.
    """
    own = [entry for entry in entries if key in entry["cells"]]
    repetitions = len({entry["repetition"] for entry in own})
    groups: dict[int, list[Entry]] = {}
    for entry in own:
        groups.setdefault(entry["block"] if repetitions >= FEWEST else 0, []).append(entry)
    found: dict[Place, float] = {}
    for group in groups.values():
        times = np.array([entry["cells"][key]["end_to_end_s"] / entry["tokens"] for entry in group])
        factors = zip(map(place_of, group), far_above(times).tolist(), strict=True)
        found |= {place: factor for place, factor in factors if factor >= 1.0}
    return found
