"""Numbers that are probabilities, logits, rounded, or nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from calibench.errors import UsageError
from calibench.readers.probabilities import ROUNDED, confidences, of_two, probabilities

COLUMNS = ("p_a", "p_b", "p_c")
LOGITS = arrays(np.float64, (5, 3), elements=st.floats(-30, 30))


@given(LOGITS)
def test_logits_log_probabilities_and_probabilities_are_one(logits: np.ndarray) -> None:
    """A softmax of logits, of these less a constant and of log p gives the same, and probabilities stay."""
    probs, _ = probabilities(logits - 40.0, "f", COLUMNS, logits=True)
    shifted, _ = probabilities(logits - 50.0, "f", COLUMNS, logits=True)
    assert_allclose(probs, shifted, atol=1e-12)
    assert_allclose(probs.sum(axis=1), 1.0)
    with np.errstate(divide="ignore"):
        again, _ = probabilities(np.log(probs), "f", COLUMNS, logits=True)
    assert_allclose(again, probs, atol=1e-12)
    assert_array_equal(probabilities(probs.copy(), "f", COLUMNS)[0], probs)


def test_rows_that_lack_a_value_stay_without() -> None:
    """They are neither checked nor made up."""
    values = np.array([[0.2, 0.3, 0.5], [np.nan, 0.9, 0.9]])
    found, _ = probabilities(values, "f", COLUMNS)
    assert_array_equal(np.isnan(found).any(axis=1), [False, True])
    found, _ = probabilities(np.array([[2.0, -1.0, 0.0], [np.nan, 1.0, 1.0]]), "f", COLUMNS, logits=True)
    assert_array_equal(np.isnan(found).any(axis=1), [False, True])


@pytest.mark.parametrize(
    ("row", "logits", "message"),
    [
        ([0.2, 0.3, 0.4], False, "sums to 0.9 over 3 columns .* all classes"),
        ([0.333, 0.333, 0.333], False, "--renormalise where probabilities were rounded"),
        ([1.5, -0.5, 0.0], False, "has 1.5 in 'p_a'.* pass --logits"),
        ([0.2, 0.3, 0.5], True, "leave --logits out"),
        ([np.inf, 0.0, 0.0], False, "infinite"),
        ([np.inf, 0.0, 0.0], True, "infinite"),
        ([-np.inf, -np.inf, -np.inf], True, "infinite"),
    ],
)
def test_what_is_no_distribution_is_refused(row: list[float], logits: bool, message: str) -> None:
    """With the option that helps, where there is one."""
    with pytest.raises(UsageError, match=message):
        probabilities(np.array([row]), "f", COLUMNS, logits=logits)


def test_rounded_rows_are_divided_by_their_sums() -> None:
    """Only where rounding explains the sum, and with a note that says how far it was."""
    found, notes = probabilities(np.array([[0.333, 0.333, 0.333]]), "f", COLUMNS, renormalise=True)
    assert_allclose(found, 1 / 3)
    assert notes == ("Rows were divided by their sums, which were within 0.001 of 1.",)
    with pytest.raises(UsageError, match="further from 1"):
        probabilities(np.array([[0.3, 0.3, 0.4 - 2 * ROUNDED]]), "f", COLUMNS, renormalise=True)


def test_half_precision_is_said_or_refused() -> None:
    """Probabilities in float16 have lost what calibration is about; logits get a note."""
    values = np.array([[0.25, 0.25, 0.5]])
    with pytest.raises(UsageError, match="float16"):
        probabilities(values.copy(), "f", COLUMNS, half=True)
    assert_array_equal(probabilities(values.copy(), "f", COLUMNS, half=True, renormalise=True)[0], values)
    _, notes = probabilities(np.array([[2.0, 1.0, 0.0]]), "f", COLUMNS, logits=True, half=True)
    assert "float16" in notes[0]
    with pytest.raises(UsageError, match="float16"):
        of_two(np.array([0.5]), "f", "p", half=True)


def test_one_column_for_two_classes() -> None:
    """The second class has the column; of logits it is the logistic function."""
    assert_array_equal(of_two(np.array([0.25, np.nan]), "f", "p"), [[0.75, 0.25], [np.nan, np.nan]])
    found = of_two(np.array([0.0, 3.0]), "f", "p", logits=True)
    assert_allclose(found[:, 1], 1.0 / (1.0 + np.exp([-0.0, -3.0])))
    with pytest.raises(UsageError, match="leave --logits out"):
        of_two(np.array([0.1, 0.9]), "f", "p", logits=True)


def test_confidences_are_probabilities() -> None:
    """Percentages are refused."""
    assert_array_equal(confidences(np.array([0.0, 1.0]), "f", "c"), [[0.0], [1.0]])
    with pytest.raises(UsageError, match="divide percentages by 100"):
        confidences(np.array([0.5, 55.0]), "f", "c")
