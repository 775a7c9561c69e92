"""The metrics against independent implementations, known answers and the properties that define them."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.errors import CalibenchError
from calibench.metrics.calibration import (
    ECE,
    ECE_15,
    ECE_CLASSWISE,
    ECE_DEBIASED,
    ECE_EQUAL_MASS,
    MCE,
    reliability,
)
from calibench.metrics.scoring import ACCURACY, BRIER, NLL, NLL_FLOOR
from calibench.metrics.truth import ECE_TRUE, POSTERIOR_ERROR
from calibench.types import Evaluation, Metric
from simulated import simulated

REGISTERED: list[Metric] = [
    point.load()
    for point in entry_points(group="calibench.metrics")
    if point.dist is not None and point.dist.name == "calibench"
]
BINNED = [ECE, ECE_15, ECE_EQUAL_MASS, MCE, ECE_CLASSWISE]


def ece_by_loop(evaluation: Evaluation, bins: int) -> float:
    """The definition of Guo et al. (2017), one example at a time, with left-closed bins."""
    gap = np.zeros(bins)
    for row, label in zip(evaluation.probs, evaluation.labels, strict=True):
        gap[min(int(row.max() * bins), bins - 1)] += float(row.argmax() == label) - row.max()
    return float(np.abs(gap).sum() / len(evaluation))


def test_every_metric_of_the_package_is_registered_under_its_own_name() -> None:
    """An entry point's name is the name that records use."""
    for point in entry_points(group="calibench.metrics"):
        assert point.load().name == point.name
    assert {"accuracy", "nll", "brier", "ece", "ece_debiased"} <= {metric.name for metric in REGISTERED}


@pytest.mark.parametrize(
    "metric", [metric for metric in REGISTERED if metric.moments is not None], ids=lambda metric: metric.name
)
@pytest.mark.parametrize("classes", [2, 5])
def test_the_moments_form_is_the_metric(metric: Metric, classes: int) -> None:
    """Sums over examples, finished, are the direct value."""
    evaluation = simulated(1, 500, classes, tilt=1.7)
    assert metric.moments is not None
    moments = metric.moments(evaluation)
    sums = np.asarray(moments.features.sum(axis=0)).reshape(1, -1)
    assert moments.finish(sums, len(evaluation)) == pytest.approx([metric.evaluate(evaluation)], abs=1e-12)


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), classes=st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_the_order_of_examples_does_not_matter(metric: Metric, seed: int, n: int, classes: int) -> None:
    """A metric is a function of the set of examples."""
    evaluation = simulated(seed, n, classes)
    order = np.random.default_rng(seed).permutation(n)
    before, after = metric.evaluate(evaluation), metric.evaluate(evaluation.take(order))
    assert after == pytest.approx(before, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "metric", [ACCURACY, NLL, BRIER, *BINNED, POSTERIOR_ERROR, ECE_TRUE], ids=lambda metric: metric.name
)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_seeing_every_example_twice_changes_no_plug_in_metric(metric: Metric, seed: int, n: int) -> None:
    """Plug-in metrics are functions of the empirical distribution; the debiased one is not."""
    evaluation = simulated(seed, n, 3)
    twice = evaluation.take(np.tile(np.arange(n), 2))
    assert metric.evaluate(twice) == pytest.approx(metric.evaluate(evaluation), abs=1e-12)


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


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_certainty_is_a_legal_prediction(metric: Metric) -> None:
    """Confidence exactly 1, all right, leaves no error of any kind."""
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    evaluation = Evaluation(probs, np.array([0, 1, 0]), probs, {"random": np.array([0.0, 0.1, 0.2])})
    value = metric.evaluate(evaluation)
    if metric.name in {"nll", "brier", "posterior_error"} or metric.name.startswith(("ece", "mce")):
        assert value == 0.0


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


def test_a_true_class_of_probability_zero_costs_the_floor() -> None:
    """The logarithm is clipped at the documented float64 floor, and nowhere else."""
    probs = np.array([[1.0, 0.0], [1.0 - 1e-30, 1e-30]])
    assert NLL.evaluate(Evaluation(probs[:1], np.array([1]))) == pytest.approx(-np.log(NLL_FLOOR))
    assert NLL.evaluate(Evaluation(probs[1:], np.array([1]))) == pytest.approx(30 * np.log(10))


def test_the_truth_metrics_read_zero_on_the_truth() -> None:
    """A model that returns the posterior has no posterior error and no true ECE, whatever the labels."""
    evaluation = simulated(6, 300, 3)
    assert POSTERIOR_ERROR.evaluate(evaluation) == 0.0
    assert ECE_TRUE.evaluate(evaluation) == pytest.approx(0.0, abs=1e-15)
    assert ECE.evaluate(evaluation) > 0.0


def test_posterior_error_of_two_classes_is_the_distance_of_one_probability() -> None:
    """Total variation is |P(1 | x) - p(1 | x)| for two classes."""
    evaluation = simulated(7, 200, tilt=2.0)
    assert evaluation.posterior is not None
    expected = np.abs(evaluation.posterior[:, 1] - evaluation.probs[:, 1]).mean()
    assert POSTERIOR_ERROR.evaluate(evaluation) == pytest.approx(expected)


def test_true_ece_is_the_limit_of_ece() -> None:
    """With 10^6 examples label noise is gone: ECE and true ECE agree within .002."""
    evaluation = simulated(8, 1_000_000, tilt=1.5)
    assert ECE_TRUE.evaluate(evaluation) == pytest.approx(ECE.evaluate(evaluation), abs=0.002)


@pytest.mark.parametrize("metric", [POSTERIOR_ERROR, ECE_TRUE], ids=lambda metric: metric.name)
def test_the_truth_metrics_need_the_truth(metric: Metric) -> None:
    """Without a posterior they refuse, and say which data set has one."""
    evaluation = simulated(9, 10)
    with pytest.raises(CalibenchError, match="true posterior"):
        metric.evaluate(Evaluation(evaluation.probs, evaluation.labels))
    assert metric.needs_posterior


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    "row", [[np.nan, 0.5], [np.inf, 0.0], [3.2, -1.1], [0.5, 0.49], [1.2, -0.2]], ids=str
)
def test_what_is_no_distribution_is_refused_by_row(metric: Metric, row: list[float]) -> None:
    """Logits, NaN and bad sums are never repaired: the first bad row is named."""
    probs = np.array([[0.5, 0.5], [0.4, 0.6], row, row])
    posterior = np.full((4, 2), 0.5)
    evaluation = Evaluation(probs, np.array([0, 1, 1, 0]), posterior, {"random": np.zeros(4)})
    with pytest.raises(CalibenchError, match=r"Row 2 of the probabilities"):
        metric.evaluate(evaluation)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    """A hidden test label of -1 must not silently count as the last class."""
    with pytest.raises(CalibenchError, match=r"label of row 1 is"):
        ACCURACY.evaluate(Evaluation(np.full((2, 2), 0.5), np.array([0, label])))


def test_no_examples_are_refused() -> None:
    """A mean over nothing is an error, not a NaN."""
    with pytest.raises(CalibenchError, match="at least one example"):
        NLL.evaluate(Evaluation(np.empty((0, 2)), np.empty(0, dtype=np.int64)))
