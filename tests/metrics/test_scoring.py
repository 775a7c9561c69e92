"""Scoring rules: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.metrics.scoring import NLL, NLL_FLOOR
from calibench.types import Evaluation


def test_a_true_class_of_probability_zero_costs_the_floor() -> None:
    """The logarithm is clipped at the documented float64 floor, and nowhere else."""
    probs = np.array([[1.0, 0.0], [1.0 - 1e-30, 1e-30]])
    assert NLL.evaluate(Evaluation(probs[:1], np.array([1]))) == pytest.approx(-np.log(NLL_FLOOR))
    assert NLL.evaluate(Evaluation(probs[1:], np.array([1]))) == pytest.approx(30 * np.log(10))
