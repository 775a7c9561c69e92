"""What a method returns is taken as it is where it keeps the contract, and refused by field where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.errors import CalibenchError
from calibench.measure.checks import Expected, check_parameters, check_probabilities, checked
from calibench.types import Predictive

ROWS = np.array([4, 9, 11])
EXPECTED = Expected("mine", ROWS, classes=2)


def prediction(**fields: Any) -> Predictive:
    """Three examples and two classes, with every field."""
    probs = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    whole = Predictive(
        probs=probs,
        passes=np.array([1, 2, 3]),
        samples=np.stack([probs, probs]).astype(np.float32),
        standard_error=np.array([0.0, 0.1, 0.2]),
        scores={"spread": np.array([-1.0, 0.0, 1e9])},
        sets=probs > 0.3,
        notes=("A sentence.",),
    )
    return replace(whole, **fields)


def test_what_keeps_the_contract_is_copied() -> None:
    """Equal in value and dtype, and no memory in common."""
    given = prediction()
    taken = checked(given, EXPECTED)
    for name in ("probs", "passes", "samples", "standard_error", "sets"):
        one, other = getattr(given, name), getattr(taken, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert not np.shares_memory(one, other)
    assert not np.shares_memory(given.scores["spread"], taken.scores["spread"])
    assert taken.notes == given.notes


def test_what_may_be_left_out_may_be_left_out() -> None:
    """Probabilities and passes are enough, of no example too."""
    bare = Predictive(prediction().probs, prediction().passes)
    assert checked(bare, EXPECTED).samples is None
    nothing = Predictive(np.empty((0, 2)), np.empty(0, dtype=np.int64))
    assert checked(nothing, replace(EXPECTED, rows=ROWS[:0])).scores == {}


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ({"scores": frozenset()}, "scores of mine are 'spread', and were none before"),
        ({"scores": frozenset({"a", "spread"})}, "and were 'a', 'spread' before"),
        ({"score": "energy"}, "are 'spread'; expected 'energy' among them"),
        ({"stored": 3}, r"samples of mine are of shape \[2, 3, 2\]; expected .* \[3, 3, 2\]"),
        ({"classes": 3}, r"probs of mine are of shape \[3, 2\]; expected a NumPy array of float64 \[3, 3\]"),
    ],
)
def test_what_was_promised_is_expected(expected: dict[str, Any], says: str) -> None:
    """Scores as before and as declared, as many samples as for other blocks, the checkpoint's classes."""
    with pytest.raises(CalibenchError, match=says):
        checked(prediction(), replace(EXPECTED, **expected))


@given(st.floats(-1.0, 1.0), st.integers(0, 2))
def test_only_probabilities_pass(shift: float, row: int) -> None:
    """What moves mass between classes passes while nothing is below 0; what adds mass does not."""
    moved = np.full((3, 2), 0.5)
    moved[row] += [shift, -shift]
    if abs(shift) <= 0.5:
        check_probabilities(moved, ROWS, "mine")
    else:
        with pytest.raises(CalibenchError, match=f"probs of mine fall to -.* in row {ROWS[row]};"):
            check_probabilities(moved, ROWS, "mine")
    added = np.full((3, 2), 0.5)
    added[row, 0] += abs(shift)
    if abs(shift) > 2e-4:
        with pytest.raises(CalibenchError, match=f"sum to .* in row {ROWS[row]}; expected 1"):
            check_probabilities(added, ROWS, "mine")
    elif abs(shift) < 5e-5:
        check_probabilities(added, ROWS, "mine")


@pytest.mark.parametrize("value", [object(), {1, 2}, float("inf"), np.ones(2)])
def test_a_parameter_that_no_record_can_hold_is_refused(value: Any) -> None:
    """Before anything is measured; numbers, texts and lists of these pass."""
    check_parameters("mine", {"a": 1, "b": ("x", "y"), "c": None, "d": [0.5]})
    with pytest.raises(CalibenchError, match=r"mine has no record for its parameters: record\.a is"):
        check_parameters("mine", {"a": value})
