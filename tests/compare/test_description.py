"""Descriptions of differences: intervals that no verdict goes by."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.compare.description import describe, joint_values
from calibench.compare.verdicts import Pair
from calibench.metrics.calibration import ECE, ECE_DEBIASED
from calibench.metrics.goodness import CALIBRATION_KS_P
from calibench.metrics.scoring import ACCURACY, NLL
from calibench.metrics.selective import AURC, ERROR_AUROC
from calibench.metrics.smooth import SMOOTH_ECE
from calibench.metrics.truth import ECE_TRUE
from calibench.types import Evaluation
from simulated import jittered, simulated


def test_descriptions_are_centred_on_the_observed_difference() -> None:
    """Intervals of plug-in differences hold the difference, and undefined ones say so."""
    evaluation = simulated(8, 300)
    probs = jittered(evaluation, 1)
    new = Evaluation(probs, evaluation.labels)
    described = describe([ECE, NLL], [Pair("a", evaluation, new)], seed=1)
    for metric in (ECE, NLL):
        interval = described["a", metric.name]
        expected = metric.evaluate(new) - metric.evaluate(evaluation)
        assert interval.value == pytest.approx(expected)
        assert interval.low < interval.value < interval.high  # type: ignore[operator]
    certain = Evaluation(np.eye(2)[evaluation.labels], evaluation.labels)
    nothing = describe([ERROR_AUROC], [Pair("a", certain, certain)], resamples=5, seed=1)
    assert nothing["a", "error_auroc"].value is None
    assert "undefined" in str(nothing["a", "error_auroc"].reason)


def test_joint_values_are_paired_across_methods_and_metrics() -> None:
    """One method under two names gets equal values, and a metric's mean is near its value."""
    evaluation = simulated(9, 300)
    methods = {"a": evaluation, "b": evaluation}
    values = joint_values([ACCURACY, ECE_DEBIASED], methods, resamples=500, seed=1)
    for metric in (ACCURACY, ECE_DEBIASED):
        assert (values["a", metric.name] == values["b", metric.name]).all()
    assert values["a", "accuracy"].mean() == pytest.approx(ACCURACY.evaluate(evaluation), abs=0.01)


def test_a_metric_without_an_interval_says_why() -> None:
    """Its difference is shown all the same, and nothing is resampled."""
    evaluation = simulated(13, 100, tilt=2.0)
    pair = Pair("m", evaluation, Evaluation(jittered(evaluation, 1), evaluation.labels))
    found = describe([CALIBRATION_KS_P], [pair], seed=1)["m", "calibration_ks_p"]
    assert found.value is not None
    assert (found.low, found.reason) == (None, CALIBRATION_KS_P.no_interval)


def test_slow_metrics_are_described_too() -> None:
    """One without moments, and one with thousands of sums."""
    evaluation = simulated(14, 60, tilt=2.0)
    pair = Pair("m", evaluation, Evaluation(jittered(evaluation, 1), evaluation.labels))
    described = describe([AURC, SMOOTH_ECE], [pair], resamples=30, seed=1)
    for interval in described.values():
        assert interval.low <= interval.value <= interval.high  # type: ignore[operator]


def test_turned_intervals_cover_where_the_plug_in_error_is_biased() -> None:
    """Calibrated against overconfident: three in four at the least hold the true difference in ECE."""
    truth = simulated(15, 200_000, tilt=3.0)
    assert truth.posterior is not None
    expected = ECE_TRUE.evaluate(
        Evaluation(truth.posterior, truth.labels, truth.posterior)
    ) - ECE_TRUE.evaluate(truth)
    covered = []
    for seed in range(100):
        sample = simulated(seed, 300, tilt=3.0)
        assert sample.posterior is not None
        pair = Pair("m", sample, Evaluation(sample.posterior, sample.labels))
        interval = describe([ECE], [pair], resamples=200, seed=1)["m", "ece"]
        covered.append(interval.low <= expected <= interval.high)  # type: ignore[operator]
    assert np.mean(covered) >= 0.75
