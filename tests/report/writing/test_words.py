"""Sentences on what a record says beside its numbers."""

from __future__ import annotations

import pytest

from calibench.report.writing.words import _stalls, subject


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


@pytest.mark.parametrize(
    ("suite", "data", "found"),
    [
        ("embedded", {"source": "embedded", "name": "calibench-sentiment"}, "embedded"),
        ("embedded", {"source": "folder", "name": "own.csv"}, "own.csv"),
        ("embedded", {"source": "hub", "name": "who/reviews"}, "who/reviews"),
        ("sst2", {"source": "hub", "name": "nyu-mll/glue"}, "sst2"),
        ("sst2", {"source": "folder", "name": "sst2"}, "sst2"),
        ("sst2", {"source": "folder", "name": "own.csv"}, "own.csv"),
        ("clinc-oos", {"source": "folder", "name": "clinc_oos"}, "clinc-oos"),
        ("mine", {"source": "folder", "name": "own.csv"}, "mine"),
        ("embedded", {"source": "plugin", "name": "rotten", "loader": "rotten-loader"}, "rotten"),
        ("scored", {"source": "file", "name": "preds.csv"}, "scored"),
        ("embedded", None, "embedded"),
    ],
)
def test_a_report_is_called_by_its_data_where_they_are_not_the_suites(
    suite: str, data: dict[str, str] | None, found: str
) -> None:
    """A suite's own data from a folder are its own; a suite of the user's has its name."""
    assert subject({"suite": suite, "data": data}) == found
