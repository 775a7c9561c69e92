"""What every registered metric keeps to."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.errors import CalibenchError
from calibench.metrics.calibration import ECE, ECE_15, ECE_CLASSWISE, ECE_EQUAL_MASS, MCE
from calibench.metrics.scoring import ACCURACY, BRIER, NLL
from calibench.metrics.select import select_metrics
from calibench.metrics.truth import ECE_TRUE, POSTERIOR_ERROR
from calibench.types import Evaluation, Metric
from simulated import simulated

REGISTERED: list[Metric] = [
    point.load()
    for point in entry_points(group="calibench.metrics")
    if point.dist is not None and point.dist.name == "calibench"
]
BINNED = [ECE, ECE_15, ECE_EQUAL_MASS, MCE, ECE_CLASSWISE]


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


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_certainty_is_a_legal_prediction(metric: Metric) -> None:
    """Confidence exactly 1, all right, leaves no error of any kind."""
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    evaluation = Evaluation(probs, np.array([0, 1, 0]), probs, {"random": np.array([0.0, 0.1, 0.2])})
    value = metric.evaluate(evaluation)
    if metric.name in {"nll", "brier", "posterior_error"} or metric.name.startswith(("ece", "mce")):
        assert value == 0.0


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


@pytest.mark.parametrize(
    "metric",
    select_metrics([], posterior_known=False, classes_known=False),
    ids=lambda metric: metric.name,
)
def test_what_needs_no_classes_is_the_same_without_them(metric: Metric) -> None:
    """Value and sums from confidence and correctness alone are those from all classes."""
    full = simulated(7, 200, 4, tilt=1.4)
    wrong = full.probs.argmax(axis=1) != full.labels
    alone = Evaluation(full.probs.max(axis=1)[:, None], wrong.astype(np.int64))
    assert metric.evaluate(alone) == pytest.approx(metric.evaluate(full), abs=1e-12)
    if metric.moments is not None:
        ours, theirs = (np.asarray(metric.moments(e).features.sum(axis=0)) for e in (alone, full))
        assert ours == pytest.approx(theirs)
