"""Stalled blocks: which are marked, within what budget they are timed again, and which times count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibench.measure.stalls import AGAIN, Stalls, counted_blocks, stalls_of, to_time_again


class Entries:
    """A journal of block entries, in memory."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.entries = list(entries)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["kind"] == kind]


def entry(block: int, repetition: int = 0, kind: str = "block", tokens: int = 100, **seconds: float) -> Any:
    cells = {key: {"end_to_end_s": value} for key, value in seconds.items()}
    return {"kind": kind, "repetition": repetition, "block": block, "tokens": tokens, "cells": cells}


def quiet(count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Blocks of two methods on a machine that nothing disturbs."""
    noise = np.random.default_rng(seed).lognormal(0.0, 0.03, (count, 2))
    return [entry(block, a=float(x), b=3.0 * float(y)) for block, (x, y) in enumerate(noise)]


def stalled(entries: list[dict[str, Any]], *which: int, key: str = "b", by: float = 20.0) -> None:
    for at in which:
        entries[at]["cells"][key]["end_to_end_s"] *= by


def test_nothing_is_marked_on_a_quiet_machine() -> None:
    """And nothing is timed again."""
    journal = Entries(*quiet())
    assert to_time_again(journal) == []
    assert stalls_of(journal, "a") == Stalls(0, 0, 0)


def test_a_stall_is_its_methods_own() -> None:
    """The block is timed again for all; it counts for the method that it befell."""
    entries = quiet()
    stalled(entries, 4)
    assert to_time_again(Entries(*entries)) == [(0, 4)]
    journal = Entries(*entries, entry(4, kind=AGAIN, a=1.0, b=3.0))
    assert stalls_of(journal, "b") == Stalls(1, 1, 0)
    assert stalls_of(journal, "a") == Stalls(0, 0, 0)


def test_a_stall_of_all_methods_is_seen() -> None:
    """A suspended machine leaves the ratios of a block as they are, and no absolute time."""
    entries = quiet()
    for key in "ab":
        stalled(entries, 7, key=key)
    assert to_time_again(Entries(*entries)) == [(0, 7)]
    assert [stalls_of(Entries(*entries), key) for key in "ab"] == [Stalls(1, 0, 1)] * 2


def test_long_texts_are_no_stall() -> None:
    """Ten times the tokens in ten times the seconds."""
    entries = quiet()
    entries[2] = entry(2, tokens=1000, a=10.0, b=30.0)
    assert to_time_again(Entries(*entries)) == []


def test_a_block_is_compared_with_its_own_repetitions() -> None:
    """Where there are four: a text mix that is dear every time is none, one that is dear once is."""
    noise = np.random.default_rng(1).lognormal(0.0, 0.03, (4, 6))
    entries = [
        entry(block, repetition, a=float(noise[repetition, block]) * (9.0 if block == 5 else 1.0))
        for repetition in range(4)
        for block in range(6)
    ]
    assert to_time_again(Entries(*entries)) == []
    stalled(entries, 11, key="a", by=5.0)
    assert to_time_again(Entries(*entries)) == [(1, 5)]


def test_the_budget_goes_to_the_worst() -> None:
    """Of twelve blocks three, by how far they are off, in whichever method."""
    entries = quiet()
    for at, by in ((1, 3.0), (3, 50.0), (5, 10.0), (8, 5.0)):
        stalled(entries, at, key="ab"[at % 2 and at > 3], by=by)
    assert to_time_again(Entries(*entries)) == [(0, 3), (0, 5), (0, 8)]
    assert len(to_time_again(Entries(*entries))) == 3


def test_second_times_count_whatever_they_are() -> None:
    """In the place of the first, in the order of the first; a second stall is left, and said."""
    entries = quiet()
    stalled(entries, 0, 6)
    again = [entry(6, kind=AGAIN, a=1.0, b=90.0), entry(0, kind=AGAIN, a=1.0, b=3.1)]
    journal = Entries(*entries, *again)
    counted = counted_blocks(journal)
    assert [item["block"] for item in counted] == list(range(12))
    assert [counted[at]["cells"]["b"]["end_to_end_s"] for at in (0, 6)] == [3.1, 90.0]
    assert counted[1] is entries[1]
    assert stalls_of(journal, "b") == Stalls(2, 2, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_blocks_say_nothing(count: int) -> None:
    """Of three blocks none is called the odd one."""
    entries = quiet(count)
    stalled(entries, 0)
    assert to_time_again(Entries(*entries)) == []


def test_what_is_marked_does_not_depend_on_what_was_timed_again() -> None:
    """A run that is killed in between goes on with the rest of the same blocks."""
    entries = quiet()
    stalled(entries, 2, 9)
    first = to_time_again(Entries(*entries))
    assert to_time_again(Entries(*entries, entry(2, kind=AGAIN, a=1.0, b=3.0))) == first
