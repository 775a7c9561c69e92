"""Columns of labels: what the values are called, whether an order is declared, and what is no class."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Value
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.classes import classes_of, number_of
from calibench.errors import UsageError

TEXT, WHOLE, REAL, TRUTH = Value("string"), Value("int64"), Value("float64"), Value("bool")


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (WHOLE, [2, 0, 1, 2]),
        (REAL, [2.0, 0.0, 1.0, 2.0]),
        (Value("decimal128(5, 1)"), [Decimal("2.0"), Decimal(0), Decimal(1), Decimal("2.0")]),
        (TEXT, ["2", "0", "1", "2"]),
        (TEXT, ["2.0", "0.0", "1.0", "2.0"]),
        (TEXT, ["LABEL_2", "label_0", "LABEL_1", "LABEL_2"]),
        (TEXT, [" 2", "0", "01", "+2"]),
    ],
)
def test_numbers_are_ids_however_they_are_spelt(feature: Any, values: list[Any]) -> None:
    """As they are, as text, as real numbers that are whole, as the default names of transformers."""
    found = classes_of(feature, values, "label")
    assert found.order == "ids"
    assert found.names == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert found.labels.tolist() == [2, 0, 1, 2]


@pytest.mark.parametrize(("feature", "values"), [(TRUTH, [True, False]), (TEXT, ["True", "false"])])
def test_truth_is_one_and_falsehood_zero(feature: Any, values: list[Any]) -> None:
    """As scikit-learn takes them."""
    found = classes_of(feature, values, "label")
    assert (found.order, found.labels.tolist()) == ("ids", [1, 0])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_digits_as_text_are_the_same_ids(ids: list[int]) -> None:
    """Text that sorts "10" before "2" is no other order."""
    as_text, as_numbers = classes_of(TEXT, list(map(str, ids)), "x"), classes_of(WHOLE, ids, "x")
    assert as_text.names == as_numbers.names
    np.testing.assert_array_equal(as_text.labels, ids)
    np.testing.assert_array_equal(as_numbers.labels, ids)


def test_words_have_no_order() -> None:
    """They are sorted so that the same file reads the same, which says nothing of any model."""
    found = classes_of(TEXT, ["joy", "anger", "10 out of 10", "joy"], "label")
    assert (found.order, found.names) == ("none", ("10 out of 10", "anger", "joy"))
    assert found.labels.tolist() == [2, 1, 0, 2]


def test_a_class_label_declares_its_order() -> None:
    """Rows with the id -1 have no label."""
    found = classes_of(ClassLabel(names=["sad", "glad"]), [1, -1, None, 0], "label")
    assert (found.order, found.names) == ("declared", ("sad", "glad"))
    assert (found.rows.tolist(), found.labels.tolist()) == ([0, 3], [1, 0])


def test_missing_values_are_left_out() -> None:
    """Null, and what a real number says in its place."""
    found = classes_of(REAL, [1.0, None, float("nan"), 0.0], "label")
    assert (found.rows.tolist(), found.labels.tolist()) == ([0, 3], [1, 0])
    blank = classes_of(TEXT, ["pos", "", "  ", "neg"], "label")
    assert (blank.rows.tolist(), blank.names) == ([0, 3], ("neg", "pos"))


def test_negative_ids_come_last_under_their_own_names() -> None:
    """So that the others keep their places."""
    found = classes_of(WHOLE, [-1, 0, 2, -2], "label")
    assert found.names == ("LABEL_0", "LABEL_1", "LABEL_2", "-1", "-2")
    assert found.labels.tolist() == [3, 0, 2, 4]
    assert found.is_labelled
    assert not classes_of(WHOLE, [-1, -1], "label").is_labelled
    assert not classes_of(WHOLE, [None], "label").is_labelled


@pytest.mark.parametrize(
    ("feature", "values", "message"),
    [(REAL, [0.5, 1.0], "it holds 0.5"), (WHOLE, [0, 10**12], "holds 1000000000000, which is no class")],
)
def test_what_is_no_class_is_refused(feature: Any, values: list[Any], message: str) -> None:
    """Scores and identifiers are other columns."""
    with pytest.raises(UsageError, match=message):
        classes_of(feature, values, "score")


@pytest.mark.parametrize("text", ["1e3", "0x1", "1_000", "1.5", "one", "", "LABEL_", "\u0661"])
def test_what_is_no_plain_number_is_a_word(text: str) -> None:
    """Python would read some of these."""
    assert number_of(text) is None
