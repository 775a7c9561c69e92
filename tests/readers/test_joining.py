"""Several files about the same rows: matched by place or by id, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import scored_files
from calibench.errors import UsageError
from calibench.readers.classes import MISSING, Names
from calibench.readers.joining import joined
from calibench.readers.scored import Scored

N = 8
PROBS, LABELS = scored_files.predictions(N)
FIRST = Scored("A", "a.csv", PROBS, LABELS, Names(scored_files.NAMES, "columns"), rows=np.arange(N))
IDS = pa.array([f"x{i}" for i in range(N)])


def other(**changes: Any) -> Scored:
    return replace(FIRST, name="B", file="b.csv", **changes)


@given(st.permutations(range(N)), st.permutations(range(N)), st.permutations(range(3)))
def test_order_does_not_matter_with_ids(rows: list[int], again: list[int], classes: list[int]) -> None:
    """Any order of rows and of classes gives the same tables and the same data."""
    plain = joined([replace(FIRST, ids=IDS)])[0]
    moved = replace(FIRST, ids=IDS).take(np.array(rows))
    names = Names(tuple(scored_files.NAMES[i] for i in classes), "columns")
    places = np.argsort(classes)
    turned = other(ids=IDS, probs=PROBS[:, classes], labels=places[LABELS], classes=names)
    first, second = joined([moved, turned.take(np.array(again))])
    for found in (first, second):
        assert_array_equal(found.probs, plain.probs)
        assert_array_equal(found.labels, plain.labels)
        assert found.data_sha256() == plain.data_sha256()
        assert found.sha256() == plain.sha256()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (other().take(np.arange(5)), "'b.csv' has 5 rows and 'a.csv' 8"),
        (other(labels=np.roll(LABELS, 1)), r"differ in . rows of 8, the first in row"),
        (other(classes=Names(("x", "y", "z"), "columns")), "The classes of 'b.csv' are x, y, z"),
        (other(probs=PROBS[:, :1], classes=Names(("answer",), "none")), "has 1 classes and 'a.csv' 3"),
    ],
)
def test_tables_that_do_not_fit_by_row_are_refused(changed: Scored, message: str) -> None:
    """With how many rows miss, or what differs."""
    with pytest.raises(UsageError, match=message):
        joined([FIRST, changed])


def test_ids_that_do_not_fit_are_refused_with_how_many_miss() -> None:
    """In both directions; ids that are there twice, or missing, are refused too."""
    first = replace(FIRST, ids=IDS)
    fewer = other(ids=IDS).take(np.arange(6))
    with pytest.raises(UsageError, match=r"'b.csv' lacks 2 of the 8 ids of 'a.csv', such as 'x6'"):
        joined([first, fewer])
    both = replace(fewer, ids=pa.array(["x0", "x1", "x2", "x3", "x4", "y"]))
    with pytest.raises(
        UsageError, match=r"lacks 3 of .*, and 'a.csv' lacks 1 of the 6 ids of 'b.csv', such as 'y'"
    ):
        joined([first, both])
    with pytest.raises(UsageError, match="'x0' is there more than once"):
        joined([replace(first, ids=pa.array(["x0", *IDS.to_pylist()[:-1]]))])
    with pytest.raises(UsageError, match=r"1 row of 'a.csv' have no id"):
        joined([replace(first, ids=pa.array([None, *IDS.to_pylist()[1:]]))])


def test_rows_that_any_table_lacks_are_left_out_of_all() -> None:
    """Refused until asked for, with how many; counted and noted then."""
    labels, probs = LABELS.copy(), PROBS.copy()
    labels[1], probs[4, 0] = MISSING, np.nan
    tables = [replace(FIRST, labels=labels), other(probs=probs)]
    with pytest.raises(UsageError, match=r"1 row of 8 in 'a.csv' has no label \(the first is row 2\)"):
        joined(tables)
    with pytest.raises(UsageError, match=r"no probability \(the first is row 5\)"):
        joined(tables[1:])
    found = joined(tables, skip_nulls=True)
    kept = [0, 2, 3, 5, 6, 7]
    for table, plain in zip(found, (FIRST, other()), strict=True):
        assert_array_equal(table.rows, kept)
        assert_array_equal(table.probs, plain.probs[kept])
        assert table.left_out == 2
        assert table.notes == ("2 rows that lack a value were left out.",)
    assert found[0].data_sha256() == found[1].data_sha256() != FIRST.data_sha256()


def test_answers_of_their_own_may_differ_in_what_is_right() -> None:
    """Without classes the labels say which answers were right, and are no part of the data."""
    first = replace(FIRST, probs=PROBS[:, :1], labels=LABELS % 2, classes=Names(("answer",), "none"))
    second = replace(first, name="B", labels=1 - LABELS % 2)
    found = joined([first, second])
    assert found[0].data_sha256() == found[1].data_sha256()
    assert found[0].sha256() != found[1].sha256()
