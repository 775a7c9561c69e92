"""Metrics against the true posterior: zero on the truth, and the limits of their estimates."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.errors import CalibenchError
from calibench.metrics.calibration import ECE
from calibench.metrics.truth import ECE_TRUE, POSTERIOR_ERROR
from calibench.types import Evaluation, Metric
from simulated import simulated


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
