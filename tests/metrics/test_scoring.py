"""Scoring rules: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.metrics.scoring import BRIER, BRIER_CONFIDENCE, NLL, NLL_FLOOR
from calibench.types import Evaluation


def test_a_true_class_of_probability_zero_costs_the_floor() -> None:
    """The logarithm is clipped at the documented float64 floor, and nowhere else."""
    probs = np.array([[1.0, 0.0], [1.0 - 1e-30, 1e-30]])
    assert NLL.evaluate(Evaluation(probs[:1], np.array([1]))) == pytest.approx(-np.log(NLL_FLOOR))
    assert NLL.evaluate(Evaluation(probs[1:], np.array([1]))) == pytest.approx(30 * np.log(10))


def test_the_brier_score_of_the_confidence_is_that_of_being_right() -> None:
    """Known answer; for two classes half of the Brier score."""
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    evaluation = Evaluation(probs, np.array([0, 0, 1]))
    assert BRIER_CONFIDENCE.evaluate(evaluation) == pytest.approx((0.1**2 + 0.6**2 + 0.7**2) / 3)
    assert BRIER_CONFIDENCE.evaluate(evaluation) == pytest.approx(BRIER.evaluate(evaluation) / 2)
