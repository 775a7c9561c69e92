"""Intervals: known answers, and coverage by simulation with a stated false-alarm rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.errors import UsageError
from calibench.metrics.calibration import ECE, ECE_CLASSWISE, ECE_DEBIASED, ECE_EQUAL_MASS
from calibench.metrics.scoring import ACCURACY, BRIER
from calibench.stats import bootstrap, resampling
from calibench.types import Evaluation, Interval, Metric
from simulated import simulated

#: Replications of a coverage simulation. A 95% interval covers in 885 or fewer of 960 with probability
#: 1 in 2,000 (lower side, normal limit); `covers_enough` fails below that.
REPLICATIONS = 960


def ends(interval: Interval) -> tuple[float, float]:
    """Both ends, which are there."""
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def covers_enough(intervals: list[Interval], truth: float) -> bool:
    """Whether a nominal 95% coverage is credible; a right interval fails 1 time in 2,000."""
    covered = sum(low <= truth <= high for low, high in map(ends, intervals))
    share = covered / len(intervals)
    return share >= 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / len(intervals))


def test_an_interval_is_what_a_record_holds() -> None:
    """The four fields, missing ones as null with the reason."""
    assert Interval(1.0, 0.5, 1.5).as_dict() == {"value": 1.0, "low": 0.5, "high": 1.5, "reason": None}
    missing = Interval(None, None, None, "n too small")
    assert missing.as_dict() == {"value": None, "low": None, "high": None, "reason": "n too small"}


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


@pytest.mark.parametrize("metric", [ECE, ECE_EQUAL_MASS, ECE_CLASSWISE], ids=lambda metric: metric.name)
def test_the_normal_limit_agrees_with_resampling(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above `EXACT_EXAMPLES` the bootstrap draws sums, with ends within a few percent of the width."""
    evaluation = simulated(6, 15_000, 3, tilt=1.5)
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


def test_labels_are_drawn_with_their_probabilities() -> None:
    """Frequencies of 100,000 draws are within 5 standard errors, and probability zero is never drawn."""
    row = np.array([0.5, 0.0, 0.3, 0.2])
    labels = resampling.draw_labels(np.tile(row, (100_000, 1)), np.random.default_rng(1))
    share = np.bincount(labels, minlength=4) / 100_000
    assert share[1] == 0.0
    assert share == pytest.approx(row, abs=5 * np.sqrt(0.25 / 100_000))


def test_a_ratio_of_totals_is_weighted_by_its_blocks() -> None:
    """Totals, not the mean of ratios; equal ratios in every block leave no width."""
    interval = bootstrap.ratio_interval([2.0, 20.0, 6.0], [1.0, 10.0, 3.0])
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))
    assert bootstrap.ratio_interval([1.0, 9.0, 2.0], [1.0, 3.0, 2.0]).value == pytest.approx(2.0)


def test_a_ratio_of_two_blocks_has_no_interval() -> None:
    """The value is there, the interval is not, and the reason says what is missing."""
    assert bootstrap.ratio_interval([2.0, 4.0], [1.0, 2.0]) == Interval(
        2.0, None, None, "n too small: 2 blocks, an interval needs 3"
    )


def test_ratio_intervals_cover() -> None:
    """Ten noisy blocks that share a drift: the 95% interval covers the true ratio (1 in 2,000)."""
    rng = np.random.default_rng(10)
    intervals = []
    for _ in range(REPLICATIONS):
        drift = rng.uniform(1.0, 2.0, size=10)
        base = drift * rng.lognormal(0.0, 0.05, size=10)
        intervals.append(bootstrap.ratio_interval(3.0 * drift * rng.lognormal(0.0, 0.05, size=10), base))
    assert covers_enough(intervals, 3.0)


def test_median_ratio_intervals_cover_and_need_six_pairs() -> None:
    """The order-statistic interval holds whatever the distribution, here Cauchy (1 in 2,000)."""
    rng = np.random.default_rng(11)
    intervals = [
        bootstrap.median_ratio_interval(np.exp(np.clip(rng.standard_cauchy(15), -50, 50)), np.ones(15))
        for _ in range(REPLICATIONS)
    ]
    assert covers_enough(intervals, 1.0)
    assert bootstrap.median_ratio_interval(np.arange(1.0, 7.0), np.ones(6)).value == 3.5
    assert bootstrap.median_ratio_interval(np.arange(1.0, 6.0), np.ones(5)).value is None


@pytest.mark.parametrize(("q", "n"), [(50.0, 6), (90.0, 36), (95.0, 72), (99.0, 368)])
def test_percentiles_need_the_samples_that_binomial_theory_says(q: float, n: int) -> None:
    """The top order statistic bounds the percentile only from the n with (q / 100)^n <= 2.5%."""
    samples = np.arange(float(n))
    short = bootstrap.percentile_interval(samples[:-1], q)
    assert short.value is None
    assert str(short.reason).startswith("n too small")
    enough = bootstrap.percentile_interval(samples, q)
    assert enough.high == n - 1
    assert enough.value == pytest.approx(np.percentile(samples, q))


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0])
def test_percentile_intervals_cover(q: float) -> None:
    """Order statistics of 400 skewed samples bound the true percentile (1 in 2,000)."""
    rng = np.random.default_rng(12)
    intervals = [bootstrap.percentile_interval(rng.exponential(size=400), q) for _ in range(REPLICATIONS)]
    assert covers_enough(intervals, -np.log(1.0 - q / 100.0))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 300), q=st.floats(0.1, 99.9))
@settings(max_examples=200, deadline=None)
def test_a_percentile_lies_within_its_bounds(seed: int, n: int, q: float) -> None:
    """Value and bounds are there together, in order."""
    interval = bootstrap.percentile_interval(np.random.default_rng(seed).random(n), q)
    if interval.value is None:
        assert (interval.low, interval.high) == (None, None)
        assert interval.reason
    else:
        low, high = ends(interval)
        assert low <= interval.value <= high


@pytest.mark.parametrize("q", [0.0, 100.0, -1.0])
def test_a_percentile_outside_its_range_is_refused(q: float) -> None:
    """The extremes of a distribution have no distribution-free bounds."""
    with pytest.raises(UsageError, match="between 0 and 100"):
        bootstrap.percentile_interval([1.0], q)


@pytest.mark.parametrize(
    ("above", "below"), [([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0]), ([np.nan], [1.0])], ids=str
)
def test_ratios_of_unpaired_or_broken_blocks_are_refused(above: list[float], below: list[float]) -> None:
    """A journal cut short must not become a ratio."""
    with pytest.raises(UsageError):
        bootstrap.ratio_interval(above, below)


def test_running_means_are_means_of_the_first_passes() -> None:
    """In the order asked for, accumulated in float64."""
    samples = np.random.default_rng(13).random((7, 4, 3)).astype(np.float32)
    means = bootstrap.running_means(samples, [7, 1, 3])
    assert means.dtype == np.float64
    for k, mean in zip([7, 1, 3], means, strict=True):
        assert mean == pytest.approx(samples[:k].mean(axis=0, dtype=np.float64), abs=1e-12)


@pytest.mark.parametrize("k", [0, 8])
def test_passes_that_were_not_run_are_refused(k: int) -> None:
    """A curve has no point beyond its run."""
    with pytest.raises(UsageError, match="the run has 7"):
        bootstrap.running_means(np.full((7, 1, 2), 0.5, dtype=np.float32), [k])


def test_the_band_over_passes_is_that_of_fresh_passes() -> None:
    """A band made of 40 passes is as wide as 400 fresh runs of 10 passes spread, within a third."""

    def run(passes: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(scale=0.15, size=(passes, 200))
        second = np.clip(0.6 + noise, 0.0, 1.0)
        return np.stack([1.0 - second, second], axis=-1).astype(np.float32)

    labels = np.random.default_rng(14).integers(0, 2, size=200)
    widths = []
    for seed in range(20):
        (point,) = bootstrap.pass_curve(BRIER, run(40, seed), labels, [10], resamples=10, seed=seed)
        low, high = ends(point.band)
        widths.append(high - low)
    fresh = [
        BRIER.evaluate(Evaluation(run(10, seed).mean(axis=0, dtype=np.float64), labels))
        for seed in range(100, 500)
    ]
    low, high = np.quantile(fresh, [0.025, 0.975])
    assert np.mean(widths) == pytest.approx(high - low, rel=1 / 3)


def test_a_curve_has_values_at_every_point_and_a_band_below_the_last() -> None:
    """At all passes there is no order left to vary, and the curve says so."""
    rng = np.random.default_rng(15)
    second = rng.uniform(0.4, 1.0, size=(8, 60)).astype(np.float32)
    samples = np.stack([1.0 - second, second], axis=-1)
    labels = rng.integers(0, 2, size=60)
    points = bootstrap.pass_curve(ECE, samples, labels, [1, 4, 8], resamples=50, seed=1)
    assert [point.passes for point in points] == [1, 4, 8]
    for point, k in zip(points, [1, 4, 8], strict=True):
        expected = ECE.evaluate(Evaluation(samples[:k].mean(axis=0, dtype=np.float64), labels))
        assert point.value.value == pytest.approx(expected, abs=1e-9)
        assert point.value.low is not None
    assert points[0].band.low is not None
    assert points[2].band == Interval(None, None, None, "all 8 passes used: no order left to vary")
