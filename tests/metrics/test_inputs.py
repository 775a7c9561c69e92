"""What no metric is computed on."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.errors import CalibenchError
from calibench.metrics.scoring import ACCURACY, NLL
from calibench.types import Evaluation


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    """A hidden test label of -1 must not silently count as the last class."""
    with pytest.raises(CalibenchError, match=r"label of row 1 is"):
        ACCURACY.evaluate(Evaluation(np.full((2, 2), 0.5), np.array([0, label])))


def test_no_examples_are_refused() -> None:
    """A mean over nothing is an error, not a NaN."""
    with pytest.raises(CalibenchError, match="at least one example"):
        NLL.evaluate(Evaluation(np.empty((0, 2)), np.empty(0, dtype=np.int64)))


def test_confidences_alone_are_checked_as_such() -> None:
    """With one column nothing need sum to 1, labels are right or wrong, and what is no probability is "
    "refused."""
    confidence = np.array([[0.9], [0.2], [0.6]])
    assert ACCURACY.evaluate(Evaluation(confidence, np.array([0, 1, 0]))) == pytest.approx(2 / 3)
    with pytest.raises(CalibenchError, match="label of row 2 is 2"):
        ACCURACY.evaluate(Evaluation(confidence, np.array([0, 1, 2])))
    for wrong in (1.2, -0.1, np.nan):
        with pytest.raises(CalibenchError, match="confidence of row 1"):
            ACCURACY.evaluate(Evaluation(np.array([[0.9], [wrong]]), np.array([0, 1])))
