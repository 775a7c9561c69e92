"""Calibration errors against their definitions, known answers and the properties that define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.metrics.calibration import (
    ECE,
    ECE_15,
    ECE_CLASSWISE,
    ECE_DEBIASED,
    ECE_EQUAL_MASS,
    MCE,
    reliability,
)
from calibench.types import Evaluation, Metric
from simulated import simulated

BINNED = [ECE, ECE_15, ECE_EQUAL_MASS, MCE, ECE_CLASSWISE]


def ece_by_loop(evaluation: Evaluation, bins: int) -> float:
    """The definition of Guo et al. (2017), one example at a time, with left-closed bins."""
    gap = np.zeros(bins)
    for row, label in zip(evaluation.probs, evaluation.labels, strict=True):
        gap[min(int(row.max() * bins), bins - 1)] += float(row.argmax() == label) - row.max()
    return float(np.abs(gap).sum() / len(evaluation))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), classes=st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_ece_is_its_definition(seed: int, n: int, classes: int) -> None:
    """Sums by bin agree with a loop over examples."""
    evaluation = simulated(seed, n, classes)
    assert ECE.evaluate(evaluation) == pytest.approx(ece_by_loop(evaluation, 10), abs=1e-12)
    assert ECE_15.evaluate(evaluation) == pytest.approx(ece_by_loop(evaluation, 15), abs=1e-12)


@pytest.mark.parametrize("metric", BINNED, ids=lambda metric: metric.name)
def test_calibration_errors_vanish_on_a_calibrated_model(metric: Metric) -> None:
    """With 10^6 labels drawn from the probabilities themselves, every error is near zero."""
    value = metric.evaluate(simulated(2, 1_000_000, 3, sharpness=1.0))
    assert 0.0 <= value < (0.02 if metric is MCE else 0.004)


def test_the_debiased_error_has_mean_zero_on_calibrated_models_of_any_sharpness() -> None:
    """Means over 4,000 calibrated samples stay within 4 standard errors (false alarm 1 in 8,000 each)."""
    for sharpness in (0.5, 2.0, 6.0):
        values = np.array(
            [ECE_DEBIASED.evaluate(simulated(seed, 100, sharpness=sharpness)) for seed in range(4000)]
        )
        assert abs(values.mean()) < 4.0 * values.std() / np.sqrt(len(values))
        assert (values < 0.0).any()


def test_the_debiased_error_is_unbiased_on_a_miscalibrated_model() -> None:
    """One confidence, one accuracy: the squared gap, within 4 standard errors (1 in 16,000)."""
    rng = np.random.default_rng(3)
    probs = np.tile([0.1, 0.9], (40, 1))
    values = [
        ECE_DEBIASED.evaluate(Evaluation(probs, (rng.random(40) < 0.7).astype(np.int64))) for _ in range(4000)
    ]
    assert np.mean(values) == pytest.approx(0.2**2, abs=4.0 * np.std(values) / np.sqrt(4000))


def test_a_constant_confidence_has_known_errors() -> None:
    """Ten predictions at .8 of which six are right: every top-label error is .2."""
    evaluation = Evaluation(np.tile([0.2, 0.8], (10, 1)), np.array([1] * 6 + [0] * 4))
    for metric in (ECE, ECE_15, ECE_EQUAL_MASS, MCE, ECE_CLASSWISE):
        assert metric.evaluate(evaluation) == pytest.approx(0.2)
    assert ECE_DEBIASED.evaluate(evaluation) == pytest.approx((2.0**2 - (6 * 0.04 + 4 * 0.64)) / (9 * 10))


def test_mce_is_the_worst_bin_and_ignores_empty_ones() -> None:
    """Of two bins in use, .95 always right and .55 always wrong, the second is off by .55."""
    probs = np.array([[0.05, 0.95]] * 5 + [[0.55, 0.45]] * 5)
    assert MCE.evaluate(Evaluation(probs, np.ones(10, dtype=np.int64))) == pytest.approx(0.55)


def test_classwise_ece_averages_over_all_classes() -> None:
    """Three classes, two of which are never given mass nor seen, leave a third of the two-class value."""
    probs = np.tile([0.7, 0.3, 0.0, 0.0], (10, 1))
    labels = np.array([0] * 5 + [1] * 5)
    assert ECE_CLASSWISE.evaluate(Evaluation(probs, labels)) == pytest.approx((0.2 + 0.2) / 4)


def test_equal_mass_bins_keep_ties_together() -> None:
    """All predictions at one confidence are one bin, so opposite errors cancel in any order."""
    probs = np.tile([0.5, 0.5], (30, 1))
    labels = np.array([0, 1] * 15)
    assert ECE_EQUAL_MASS.evaluate(Evaluation(probs, labels)) == pytest.approx(0.0)
    assert ECE_EQUAL_MASS.evaluate(Evaluation(probs, np.sort(labels))) == pytest.approx(0.0)


def test_equal_mass_bins_hold_equally_many_distinct_confidences() -> None:
    """Each of the 15 bins holds ten of 150 distinct confidences: the error is that of the sorted tens."""
    evaluation = simulated(4, 150)
    confidence = evaluation.probs.max(axis=1)
    order = np.argsort(confidence)
    right = evaluation.probs.argmax(axis=1) == evaluation.labels
    tens = (right - confidence)[order].reshape(15, 10).sum(axis=1)
    assert ECE_EQUAL_MASS.evaluate(evaluation) == pytest.approx(np.abs(tens).sum() / 150)


def test_certainty_falls_into_the_last_bin() -> None:
    """A confidence of 1 shares the last bin with .95, and a lower edge belongs to the bin above it."""
    probs = np.array([[1.0, 0.0], [0.95, 0.05], [0.5, 0.5], [0.6, 0.4]])
    curve = reliability(probs, np.array([0, 1, 0, 0]), bins=10)
    assert curve.count.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert curve.accuracy[-1] == 0.5
    assert curve.confidence[-1] == pytest.approx(0.975)
    assert np.isnan(curve.accuracy[:5]).all()
    assert curve.edges.tolist() == pytest.approx([i / 10 for i in range(11)])


def test_ece_is_the_weighted_gap_of_its_reliability_diagram() -> None:
    """The diagram and the number tell one story."""
    evaluation = simulated(5, 1000, 4, tilt=2.0)
    curve = reliability(evaluation.probs, evaluation.labels, bins=10)
    gap = np.nan_to_num(np.abs(curve.accuracy - curve.confidence))
    assert ECE.evaluate(evaluation) == pytest.approx((curve.count * gap).sum() / 1000)
