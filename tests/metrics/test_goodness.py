"""Tests of calibration: peers, known answers and error rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from calibench.metrics.goodness import CalibrationTest, kolmogorov_smirnov, kuiper, spiegelhalter
from calibench.metrics.inputs import top_label
from calibench.types import FloatArray, IntArray
from simulated import simulated

Test = Callable[[FloatArray, IntArray], CalibrationTest]
TESTS: list[Test] = [kolmogorov_smirnov, kuiper, spiegelhalter]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_a_calibrated_model_is_rejected_at_the_stated_rate(test: Test, sharpness: float) -> None:
    """Of 1,000 calibrated samples of 872, at most 7.5% have p < .05 (false alarm below 1 in 2,000)."""
    samples = (simulated(seed, 872, sharpness=sharpness) for seed in range(1000))
    rejected = np.mean([test(e.probs, e.labels).p_value < 0.05 for e in samples])
    assert 0.015 <= rejected <= 0.075


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_an_overconfident_model_is_rejected(test: Test) -> None:
    """Twice too sharp on 872 examples leaves no doubt."""
    evaluation = simulated(1, 872, sharpness=2.0, tilt=2.0)
    assert test(evaluation.probs, evaluation.labels).p_value < 1e-4


def test_spiegelhalter_says_in_which_direction() -> None:
    """Overconfidence is positive, underconfidence negative."""
    over, under = simulated(2, 2000, tilt=2.0), simulated(2, 2000, tilt=0.5)
    assert spiegelhalter(over.probs, over.labels).statistic > 2.0
    assert spiegelhalter(under.probs, under.labels).statistic < -2.0


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_certainty_leaves_nothing_to_test(test: Test) -> None:
    """With every confidence at 1 a calibrated model has no chance in it."""
    result = test(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
    assert isinstance(result, CalibrationTest)
    assert np.isnan(result.p_value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mapie", "ignore::FutureWarning:mapie")
def test_the_tests_are_those_of_mapie() -> None:
    """Statistics and p-values agree where confidences are distinct; its Kuiper range leaves out the start."""
    peer = pytest.importorskip("mapie.metrics.calibration")
    for seed in range(20):
        evaluation = simulated(seed, 400, tilt=1.2)
        confidence, correct = top_label(evaluation)
        ours = [test(evaluation.probs, evaluation.labels) for test in TESTS]
        assert ours[0].statistic == pytest.approx(peer.kolmogorov_smirnov_statistic(correct, confidence))
        assert ours[0].p_value == pytest.approx(peer.kolmogorov_smirnov_p_value(correct, confidence))
        assert ours[1].statistic == pytest.approx(peer.kuiper_statistic(correct, confidence), abs=0.2)
        assert ours[1].p_value == pytest.approx(1.0 - peer.kuiper_cdf(ours[1].statistic))
        assert ours[2].statistic == pytest.approx(peer.spiegelhalter_statistic(correct, confidence))
