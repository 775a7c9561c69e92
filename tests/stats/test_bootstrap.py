"""Intervals of metrics and noise floors: both forms agree, and intervals cover, by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibench.metrics.calibration import ECE, ECE_CLASSWISE, ECE_DEBIASED, ECE_EQUAL_MASS
from calibench.metrics.scoring import ACCURACY, BRIER
from calibench.metrics.selective import ACCURACY_AT_80, AUGRC, AURC, ERROR_AUROC
from calibench.metrics.smooth import SMOOTH_ECE
from calibench.stats import bootstrap, resampling
from calibench.types import Evaluation, Interval, Metric
from coverage_checks import REPLICATIONS, covers_enough, ends
from simulated import simulated


@pytest.mark.parametrize("metric", [ACCURACY, BRIER, ECE], ids=lambda metric: metric.name)
def test_the_bootstrap_by_moments_is_the_bootstrap_by_resampling(metric: Metric) -> None:
    """Both forms agree on quantiles within their own noise of 4,000 resamples (1 in 10,000)."""
    evaluation = simulated(1, 300, tilt=2.0)
    direct = Metric(metric.name, metric.title, metric.better, metric.evaluate)
    assert metric.moments is not None
    sums = replace(metric.moments(evaluation), interval=None)
    by_quantiles = replace(metric, moments=lambda _: sums)
    fast = bootstrap.bootstrap_interval(by_quantiles, evaluation, resamples=4000, seed=1)
    slow = bootstrap.bootstrap_interval(direct, evaluation, resamples=4000, seed=2)
    assert fast.value == slow.value
    low, high = ends(fast)
    # A 2.5% quantile of 4,000 normal draws has a standard error of .042 standard deviations.
    tolerance = 4.0 * np.sqrt(2.0) * 0.042 * (high - low) / 3.92
    assert slow.low == pytest.approx(low, abs=tolerance)
    assert slow.high == pytest.approx(high, abs=tolerance)


def test_equal_seeds_give_equal_intervals_and_other_seeds_do_not() -> None:
    """An interval is a function of data and seed."""
    evaluation = simulated(2, 200)
    first, again, other = (bootstrap.bootstrap_interval(ECE, evaluation, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_blocks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is held at once is no parameter of the result."""
    evaluation = simulated(3, 100)
    whole = bootstrap.bootstrap_interval(ECE, evaluation, resamples=50, seed=1)
    monkeypatch.setattr(resampling, "BLOCK", 700)
    assert bootstrap.bootstrap_interval(ECE, evaluation, resamples=50, seed=1) == whole


def test_what_is_undefined_is_null_with_a_reason() -> None:
    """A NaN value, or NaN in resamples, never reaches a record."""
    evaluation = simulated(4, 50)
    nan = Metric("gap", "gap", "lower", lambda evaluation: len(evaluation) * float("nan"))
    assert bootstrap.bootstrap_interval(nan, evaluation, seed=1) == Interval(
        None, None, None, "gap is undefined on these examples"
    )
    whole = len(np.unique(evaluation.probs[:, 0]))
    fussy = Metric(
        "fussy", "fussy", "lower", lambda e: 1.0 if len(np.unique(e.probs[:, 0])) == whole else float("nan")
    )
    interval = bootstrap.bootstrap_interval(fussy, evaluation, resamples=20, seed=1)
    assert (interval.value, interval.low, interval.high) == (1.0, None, None)
    assert interval.reason == "fussy is undefined in 20 of 20 resamples"


def test_bootstrap_intervals_of_means_cover() -> None:
    """95% intervals of the Brier score at n = 300 cover its expectation (false alarm 1 in 2,000)."""
    truth = BRIER.evaluate(simulated(5, 2_000_000, tilt=1.5))
    intervals = [
        bootstrap.bootstrap_interval(BRIER, simulated(seed, 300, tilt=1.5), resamples=400, seed=seed)
        for seed in range(REPLICATIONS)
    ]
    assert covers_enough(intervals, truth)


LIMITED = (ECE, ECE_EQUAL_MASS, ECE_CLASSWISE, SMOOTH_ECE, AURC, AUGRC, ACCURACY_AT_80, ERROR_AUROC)


@pytest.mark.parametrize("metric", LIMITED, ids=lambda metric: metric.name)
def test_the_normal_limit_agrees_with_resampling(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above `EXACT_EXAMPLES` the bootstrap draws sums, with ends within a few percent of the width."""
    evaluation = simulated(6, 15_000, 3, tilt=1.5)
    monkeypatch.setattr(resampling, "EXACT_EXAMPLES", 20_000)
    exact = bootstrap.bootstrap_interval(metric, evaluation, resamples=2000, seed=1)
    monkeypatch.setattr(resampling, "EXACT_EXAMPLES", 10_000)
    limit = bootstrap.bootstrap_interval(metric, evaluation, resamples=2000, seed=1)
    low, high = ends(exact)
    assert limit.low == pytest.approx(low, abs=0.09 * (high - low))
    assert limit.high == pytest.approx(high, abs=0.09 * (high - low))
    assert limit != exact


def test_the_noise_floor_is_what_a_calibrated_model_reads() -> None:
    """Labels drawn from the probabilities put ECE's mean at its floor (4 standard errors, 1 in 16,000)."""
    probs = simulated(7, 872).probs
    floor = bootstrap.noise_floor(ECE, probs, draws=2000, seed=1)
    rng = np.random.default_rng(99)
    read = [ECE.evaluate(Evaluation(probs, resampling.draw_labels(probs, rng))) for _ in range(2000)]
    assert floor.value == pytest.approx(np.mean(read), abs=4.0 * np.std(read) * np.sqrt(2 / 2000))
    low, high = ends(floor)
    assert np.mean((np.array(read) < low) | (np.array(read) > high)) == pytest.approx(0.05, abs=0.03)
    assert floor.value > 0.0


def test_the_noise_floor_of_the_debiased_error_is_zero() -> None:
    """Where plug-in ECE has a floor the debiased error has none (4 standard errors, 1 in 16,000)."""
    probs = simulated(8, 872).probs
    floor = bootstrap.noise_floor(ECE_DEBIASED, probs, draws=4000, seed=1)
    low, high = ends(floor)
    assert floor.value == pytest.approx(0.0, abs=4.0 * (high - low) / 3.92 / np.sqrt(4000))


@pytest.mark.parametrize("classes", [2, 4])
def test_noise_floors_agree_in_every_form(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By moments, by evaluation and in the normal limit the floor has one mean and one spread."""
    probs = simulated(9, 3000, classes).probs
    plain = Metric("ece", "ECE", "lower", ECE.evaluate)
    by_moments = bootstrap.noise_floor(ECE, probs, draws=2000, seed=1)
    by_evaluation = bootstrap.noise_floor(plain, probs, draws=2000, seed=2)
    monkeypatch.setattr(resampling, "EXACT_EXAMPLES", 1000)
    in_the_limit = bootstrap.noise_floor(ECE, probs, draws=2000, seed=3)
    low, high = ends(by_moments)
    width = high - low
    for other in (by_evaluation, in_the_limit):
        assert other.value == pytest.approx(by_moments.value, abs=0.05 * width)
        assert other.low == pytest.approx(low, abs=0.1 * width)
        assert other.high == pytest.approx(high, abs=0.1 * width)
