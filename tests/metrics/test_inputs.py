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
