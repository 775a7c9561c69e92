"""Calibration tests, the Brier decomposition and SmoothECE: peers, identities and error rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.metrics.decomposition import SHARPNESS, brier_decomposition
from calibench.metrics.goodness import CalibrationTest, kolmogorov_smirnov, kuiper, spiegelhalter
from calibench.metrics.inputs import top_label
from calibench.metrics.scoring import BRIER
from calibench.metrics.smooth import SMOOTH_ECE, kernel_reliability
from calibench.stats import bootstrap
from calibench.types import Evaluation, FloatArray, IntArray
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


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), classes=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_the_brier_score_is_the_sum_of_its_parts(seed: int, n: int, classes: int) -> None:
    """Miscalibration - discrimination + uncertainty, none of them negative."""
    evaluation = simulated(seed, n, classes, tilt=1.5)
    parts = brier_decomposition(evaluation.probs, evaluation.labels)
    assert min(parts.miscalibration, parts.discrimination, parts.uncertainty) >= -1e-12
    whole = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert whole == pytest.approx(BRIER.evaluate(evaluation), abs=1e-12)


def test_recalibration_is_what_the_miscalibration_term_measures() -> None:
    """Temperature changes miscalibration, not discrimination, of two classes: the order stays."""
    plain = brier_decomposition(*_pair(simulated(3, 5000)))
    sharp = brier_decomposition(*_pair(simulated(3, 5000, tilt=2.0)))
    assert sharp.discrimination == pytest.approx(plain.discrimination)
    assert sharp.miscalibration > plain.miscalibration + 0.01


def _pair(evaluation: Evaluation) -> tuple[FloatArray, IntArray]:
    return evaluation.probs, evaluation.labels


def test_sharpness_is_the_mean_entropy() -> None:
    """log C for ignorance, 0 for certainty."""
    labels = np.array([0, 1])
    assert SHARPNESS.evaluate(Evaluation(np.full((2, 4), 0.25), labels)) == pytest.approx(np.log(4.0))
    assert SHARPNESS.evaluate(Evaluation(np.eye(4)[:2], labels)) == 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:relplot")
@pytest.mark.parametrize(("sharpness", "tilt"), [(0.5, 1.0), (0.7, 2.0), (1.0, 1.5)])
def test_smooth_ece_is_that_of_its_authors(sharpness: float, tilt: float) -> None:
    """Within relplot's search step of .001, where no confidence is near 1: it counts those half."""
    peer = pytest.importorskip("relplot.metrics")
    whole = simulated(4, 3000, sharpness=sharpness, tilt=tilt)
    evaluation = whole.take(np.flatnonzero(whole.probs.max(axis=1) < 0.95))
    confidence, correct = top_label(evaluation)
    assert SMOOTH_ECE.evaluate(evaluation) == pytest.approx(peer.smECE(confidence, correct), abs=0.0015)


def test_smooth_ece_counts_certain_predictions_in_full() -> None:
    """All at confidence 1 and a fifth wrong: the error is .2, also at the boundary."""
    probs = np.tile([0.0, 1.0], (100, 1))
    labels = (np.arange(100) >= 20).astype(np.int64)
    assert SMOOTH_ECE.evaluate(Evaluation(probs, labels)) == pytest.approx(0.2)


def test_smooth_ece_intervals_cover_a_calibrated_model() -> None:
    """A true error of zero is inside in at least 94% of 300 intervals (right ones fail 1 in 1,000)."""
    intervals = [
        bootstrap.bootstrap_interval(SMOOTH_ECE, simulated(seed, 300), resamples=200, seed=seed)
        for seed in range(300)
    ]
    assert np.mean([interval.low == 0.0 for interval in intervals]) >= 0.935


def test_the_kernel_diagram_shows_the_accuracy_there_is() -> None:
    """With 200,000 examples the curve is the true accuracy within .02, wherever examples are not rare."""
    evaluation = simulated(5, 200_000, tilt=2.0)
    curve = kernel_reliability(evaluation.probs, evaluation.labels, bandwidth=0.01, resamples=100, seed=1)
    inner = (curve.confidence > 0.55) & (curve.confidence < 0.9)
    # The log-odds of the truth are half the model's.
    truth = 1.0 / (1.0 + np.sqrt(1.0 / curve.confidence[inner] - 1.0))
    assert curve.accuracy[inner] == pytest.approx(truth, abs=0.02)
    assert (curve.low[inner] <= curve.high[inner]).all()
    assert curve.density.mean() == pytest.approx(1.0, abs=0.05)
    assert np.isnan(curve.accuracy[curve.confidence < 0.3]).all()
