"""Scoring rules: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.metrics.scoring import BRIER, BRIER_CONFIDENCE, NLL, NLL_FLOOR
from calibench.stats.bootstrap import bootstrap_interval
from calibench.types import Evaluation


def test_a_true_class_of_probability_zero_costs_the_floor() -> None:
    """The logarithm is clipped at the documented float64 floor, and nowhere else."""
    probs = np.array([[1.0, 0.0], [1.0 - 1e-30, 1e-30]])
    assert NLL.evaluate(Evaluation(probs[:1], np.array([1]))) == pytest.approx(-np.log(NLL_FLOOR))
    assert NLL.evaluate(Evaluation(probs[1:], np.array([1]))) == pytest.approx(30 * np.log(10))


def test_the_interval_of_the_log_loss_has_room_for_confident_errors_that_were_not_seen() -> None:
    """60% of the confidences above .999 and 99% of them right: of 400 samples of 100, 2.5% may miss above.

    Without room for what was not seen, about 9% do. At a true 2.5% more than 20 have a probability of .002.
    """
    rng = np.random.default_rng(5)
    surest = rng.random(20_000) < 0.6
    confidence = np.where(
        surest, 1.0 - 10.0 ** rng.uniform(-6, -3, 20_000), 0.5 + 0.49 * rng.beta(1.5, 1, 20_000)
    )
    right = np.where(surest, 0.99, 0.5 + 0.8 * (confidence - 0.5))
    truth = float(-(right * np.log(confidence) + (1.0 - right) * np.log(1.0 - confidence)).mean())
    missed = 0
    for seed in range(400):
        drawn = np.random.default_rng([1, seed])
        at = drawn.integers(0, 20_000, size=100)
        labels = (drawn.random(100) > right[at]).astype(np.int64)
        probs = np.stack([confidence[at], 1.0 - confidence[at]], axis=1)
        interval = bootstrap_interval(NLL, Evaluation(probs, labels), resamples=100, seed=seed)
        missed += interval.high is not None and truth > interval.high
    assert missed <= 20


def test_nearly_perfect_answers_have_a_loss_without_an_upper_end() -> None:
    """50 right answers that are all very sure: what an error would cost is not known to be rare enough."""
    probs = np.tile([1.0 - 1e-6, 1e-6], (50, 1))
    interval = bootstrap_interval(NLL, Evaluation(probs, np.zeros(50, dtype=np.int64)), seed=0)
    assert interval.value == pytest.approx(1e-6, rel=1e-3)
    assert interval.high is None
    assert "too few errors" in str(interval.reason)


def test_the_brier_score_of_the_confidence_is_that_of_being_right() -> None:
    """Known answer; for two classes half of the Brier score."""
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    evaluation = Evaluation(probs, np.array([0, 0, 1]))
    assert BRIER_CONFIDENCE.evaluate(evaluation) == pytest.approx((0.1**2 + 0.6**2 + 0.7**2) / 3)
    assert BRIER_CONFIDENCE.evaluate(evaluation) == pytest.approx(BRIER.evaluate(evaluation) / 2)
