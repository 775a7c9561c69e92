"""Sentences on what a record says beside its numbers."""

from __future__ import annotations

import pytest

from calibench.report.writing.words import _stalls


@pytest.mark.parametrize(
    ("marked", "repeated", "left", "says"),
    [
        (0, 0, 0, None),
        (0, 0, 2, "2 timing blocks are far from this row's others"),
        (0, 0, 1, "1 timing block is far"),
        (1, 1, 0, "1 timing block took far longer"),
        (3, 2, 1, "timed once more: 2, far from the others still: 1"),
    ],
)
def test_stalls_are_said_where_there_are_any(marked: int, repeated: int, left: int, says: str | None) -> None:
    """Also where no block of a row was marked, and some are far from its others all the same."""
    record = {"timing": {"stalls": {"marked": marked, "repeated": repeated, "left": left}}}
    found = _stalls(record)
    assert (found == []) if says is None else (says in found[0])
