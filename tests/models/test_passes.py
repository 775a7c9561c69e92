"""From logits to a predictive distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibench.errors import CalibenchError, UsageError
from calibench.models.passes import at_least, checked_softmax, predict_passes, standard_error
from calibench.types import Batch
from tiny_models import plan_of, sentences, tiny_checkpoint

ROWS = np.array([105, 103, 104])
LOGITS = hnp.arrays(np.float32, (4, 3, 5), elements=st.floats(-1e4, 1e4, width=32))


@given(logits=LOGITS)
def test_softmax_is_a_distribution_that_ignores_shifts(logits: np.ndarray) -> None:
    """Rows sum to 1 for logits of any size, and a constant added to all logits of a row changes nothing."""
    probs = checked_softmax(torch.from_numpy(logits), ROWS)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=0, atol=1e-12)
    shifted = checked_softmax(torch.from_numpy(logits).double() + 7, ROWS)
    np.testing.assert_allclose(shifted, probs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_softmax_of_low_precision_logits_does_not_round_to_one(dtype: torch.dtype) -> None:
    """A logit margin of 8 leaves 3.4e-4 for the other class, which half precision would round away."""
    probs = checked_softmax(torch.tensor([[[0, 8]]], dtype=dtype), ROWS[:1])
    np.testing.assert_allclose(probs[0, 0, 0], 1 / (1 + np.exp(8)), rtol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_not_finite_logits_name_the_row(bad: float, column: int) -> None:
    """One bad logit in one pass is an error that names the row of the data set."""
    logits = torch.zeros(4, 3, 5)
    logits[2, column, 3] = bad
    with pytest.raises(CalibenchError, match=f"not finite for row {ROWS[column]} of the data set"):
        checked_softmax(logits, ROWS)


def test_first_row_is_named() -> None:
    """Of several bad examples the first in the data set is named, not the first in the batch."""
    with pytest.raises(CalibenchError, match="row 103 "):
        checked_softmax(torch.full((1, 3, 2), torch.nan), ROWS)


@given(logits=LOGITS)
def test_standard_error_is_that_of_the_mean(logits: np.ndarray) -> None:
    """It is the sample standard deviation of the predicted class's probability over the root of T."""
    probs = checked_softmax(torch.from_numpy(logits), ROWS)
    mean = probs.mean(axis=0)
    predicted = probs[:, np.arange(3), mean.argmax(axis=1)]
    actual = standard_error(mean, probs.var(axis=0), 4)
    np.testing.assert_allclose(actual, predicted.std(axis=0, ddof=1) / 2, rtol=1e-9, atol=1e-15)


def test_results_are_in_plan_order() -> None:
    """Batches are sorted by length; probabilities, samples and errors come back in the order of the texts."""
    plan = plan_of(tiny_checkpoint(), [*sentences(20)])
    assert [*np.concatenate([batch.index for batch in plan.batches])] != [*range(20)]

    def logits(batch: Batch) -> torch.Tensor:
        first = torch.from_numpy(batch.index).double()
        return torch.stack([torch.stack([first * scale, -first], dim=1) for scale in (0.1, 0.2)])

    predictive = predict_passes(plan, logits, notes=("a note",))
    expected = 1 / (1 + np.exp(-np.outer([1.1, 1.2], np.arange(20))))
    assert predictive.samples is not None
    np.testing.assert_allclose(predictive.samples[:, :, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(predictive.probs[:, 0], expected.mean(axis=0), rtol=1e-12)
    assert predictive.notes == ("a note",)
    assert (predictive.passes == 2).all()


@given(minimum=st.integers(), value=st.integers())
def test_at_least(minimum: int, value: int) -> None:
    """A value below the minimum is a usage error; any other is returned."""
    if value < minimum:
        with pytest.raises(UsageError, match=f"passes is {value}, but must be at least {minimum}"):
            at_least(minimum, "passes", value)
    else:
        assert at_least(minimum, "passes", value) == value
