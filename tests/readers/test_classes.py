"""Labels as indices of classes: by name, by number, or refused with the option that settles it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from calibench.errors import UsageError
from calibench.readers.classes import MISSING, Names, coded

WORDS = Names(("neg", "neu", "pos"), "columns")
NUMBERS = Names(("3", "1", "2"), "columns")


def labels(values: list[Any] | pa.Array, classes: Names) -> list[int]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    found: list[int] = coded(pa.chunked_array([column]), classes, "a.csv", "label").labels.tolist()
    return found


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        (["neg", "POS", " neu "], WORDS, [0, 2, 1]),
        (["neg", None, "", "pos"], WORDS, [0, MISSING, MISSING, 2]),
        (pa.array(["pos", "neg"]).dictionary_encode(), WORDS, [2, 0]),
        ([1, 2, 3], NUMBERS, [1, 2, 0]),
        (["1", "2.0", "LABEL_3"], NUMBERS, [1, 2, 0]),
        ([0, 2, None], Names.numbered(3), [0, 2, MISSING]),
        ([0.0, 2.0, float("nan")], Names.numbered(3), [0, 2, MISSING]),
        (["0", "2"], Names.numbered(3), [0, 2]),
        ([True, False], Names.numbered(2), [1, 0]),
        (["true", "False"], Names.numbered(2), [1, 0]),
        ([True, False], Names(("False", "True"), "columns"), [1, 0]),
        (["a", "A"], Names(("A", "a"), "columns"), [1, 0]),
    ],
)
def test_labels_that_say_which_class_they_are(values: Any, classes: Names, expected: list[int]) -> None:
    """Names whatever their case unless that tells two apart, numbers where classes are numbers."""
    assert labels(values, classes) == expected


def test_numbers_count_names_only_in_an_order_that_somebody_gave() -> None:
    """With `--classes` by position and a note; with the names of columns refused."""
    asked = Names(WORDS.names, "asked")
    found = coded(pa.array([0, 2]), asked, "a.csv", "label")
    assert found.labels.tolist() == [0, 2]
    assert found.notes == (
        "Labels are numbers and were matched by position, counted from 0: 0 = neg, 1 = neu, 2 = pos.",
    )
    with pytest.raises(UsageError, match="in the order of these numbers with --classes"):
        labels([0, 2], WORDS)


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        (["pos", "other"], WORDS, "The label 'other' of 'a.csv' is no class"),
        (["neg"], Names.numbered(2), "its 2 classes have no names"),
        ([1, 2], Names.numbered(2), "The label 2 .* counted from 0"),
        ([-1, 0], Names.numbered(2), "The label -1 .* is no class"),
        ([1, 2], Names(("1 star", "2 stars", "3 stars"), "asked"), "may be the class '1 star' or"),
        ([0, 1], NUMBERS, "The label '0' of 'a.csv' is no class"),
        ([[0], [1]], WORDS, "holds lists"),
        ([0.5], Names.numbered(2), "are words"),
    ],
)
def test_labels_that_do_not(values: Any, classes: Names, message: str) -> None:
    """One sentence, with the option that settles it."""
    with pytest.raises(UsageError, match=message):
        labels(values, classes)


def test_no_label_is_taken_for_another_in_any_order_of_batches() -> None:
    """Known answer over chunks whose dictionaries differ."""
    chunks = pa.chunked_array([pa.array(["pos", "neg"]), pa.array(["neu", "pos", None])])
    assert coded(chunks, WORDS, "a.csv", "label").labels.tolist() == [2, 0, 1, 2, MISSING]
