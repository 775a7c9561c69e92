"""Interval constructions: closed forms against their definitions, and the order of their ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from calibench.errors import UsageError
from calibench.metrics.calibration import ECE
from calibench.stats import intervals
from calibench.stats.bootstrap import bootstrap_interval
from calibench.types import Evaluation, FloatArray
from coverage_checks import REPLICATIONS, covers_enough, ends


def power_sums(values: FloatArray) -> FloatArray:
    """Sums of values, squares and cubes."""
    return np.array([values.sum(), (values**2).sum(), (values**3).sum()])


def test_a_symmetric_sample_gets_the_normal_interval() -> None:
    """Without skewness Hall's correction does nothing."""
    values = np.concatenate([np.arange(50.0), -np.arange(50.0)])
    low, high = intervals.skew_corrected(power_sums(values), 100, 0.95)
    half = 1.959964 * values.std(ddof=1) / 10.0
    assert (low, high) == pytest.approx((-half, half), rel=1e-6)


def test_skewness_moves_the_interval_towards_the_tail() -> None:
    """An exponential's mean may lie further above the sample's than below."""
    values = np.random.default_rng(1).exponential(size=60)
    low, high = intervals.skew_corrected(power_sums(values), 60, 0.95)
    assert high - values.mean() > 1.2 * (values.mean() - low)


def test_a_constant_has_no_width() -> None:
    """Rounding in the power sums is not taken for spread."""
    sums = power_sums(np.full(1000, 0.1))
    assert intervals.skew_corrected(sums, 1000, 0.95) == pytest.approx((0.1, 0.1))
    assert intervals.cautious_p_value(power_sums(np.zeros(10)), 10) == 1.0


@given(t=st.floats(-8.0, 8.0), skew=st.floats(-2.0, 2.0))
def test_hall_s_transform_is_monotone_and_inverted(t: float, skew: float) -> None:
    """The inverse undoes it, and more is more."""
    value = intervals.hall_transform(t, skew)
    assert intervals.hall_inverse(value, skew) == pytest.approx(t, abs=1e-5)
    assert intervals.hall_transform(t + 0.1, skew) >= value


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(5, 200), level=st.floats(0.5, 0.9999))
@settings(max_examples=100, deadline=None)
def test_the_cautious_interval_inverts_the_cautious_test(seed: int, n: int, level: float) -> None:
    """Zero is outside exactly where the p-value is below one minus the level; Student's is inside it."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, size=n) - 0.5 + 0.3 * rng.normal()
    sums = power_sums(values)
    low, high = intervals.cautious_mean(sums, n, level)
    p_value = intervals.cautious_p_value(sums, n)
    if abs(p_value - (1.0 - level)) > 1e-9:
        assert (low <= 0.0 <= high) == (p_value > 1.0 - level)
    student = scipy_stats.t.interval(level, n - 1, values.mean(), values.std(ddof=1) / np.sqrt(n))
    assert low <= student[0] + 1e-12
    assert high >= student[1] - 1e-12


def test_cautious_p_values_never_overstate_one_sided_evidence() -> None:
    """Ten discordant pairs on one side among 872: no smaller than half of the exact sign test's."""
    values = np.concatenate([np.ones(10), np.zeros(862)])
    exact = scipy_stats.binomtest(10, 10).pvalue
    assert intervals.cautious_p_value(power_sums(values), 872) > exact / 2.0


@given(estimate=st.floats(-0.01, 0.3), per_unit=st.floats(0.0, 0.01), constant=st.floats(1e-9, 1e-4))
def test_the_squared_norm_interval_holds_its_estimate_and_inverts_its_test(
    estimate: float, per_unit: float, constant: float
) -> None:
    """Its ends are where the estimate is exactly two standard errors off."""
    low, high = intervals.squared_norm(estimate, (per_unit, 0.0), (constant, 0.0), 0.95)
    assert low <= estimate <= high
    for end in (low, high):
        if end > 0.0 and estimate > 0.0:
            assert (estimate - end) ** 2 == pytest.approx(1.959964**2 * (end * per_unit + constant), rel=1e-4)


def test_an_inverted_norm_reaches_zero_exactly_when_noise_explains_it() -> None:
    """Below the 97.5% point of the noise's norm the lower end is zero, above it is not."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(4000, 6))

    def norm(values: FloatArray) -> FloatArray:
        return np.abs(values).sum(axis=1)

    critical = float(np.quantile(norm(noise), 0.975))
    direction = [intervals.Direction(noise, np.full((4000, 6), 1 / 6))]
    assert intervals.inverted_norm(direction, norm, 0.95 * critical, 0.95)[0] == 0.0
    low, high = intervals.inverted_norm(direction, norm, 1.05 * critical, 0.95)
    assert 0.0 < low < 1.05 * critical <= high


def test_an_inverted_norm_far_from_zero_is_the_usual_interval() -> None:
    """With every group far from zero a norm is a sum, and its interval plus and minus two of its errors."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(20_000, 4))
    direction = [intervals.Direction(noise, np.full((20_000, 4), 0.25))]
    low, high = intervals.inverted_norm(direction, lambda v: np.abs(v).sum(axis=1), 100.0, 0.95)
    assert (low, high) == pytest.approx((100.0 - 1.96 * 2.0, 100.0 + 1.96 * 2.0), abs=0.15)


def test_bca_is_scipys() -> None:
    """The accelerated bootstrap of a skewed mean, within the noise of 20,000 resamples."""
    pytest.importorskip("scipy", minversion="1.15", reason="older ones take no `rng`")
    values = np.random.default_rng(4).exponential(size=80)
    samples = np.random.default_rng(5).choice(values, size=(20_000, 80)).mean(axis=1)
    _, _, skew = intervals.mean_spread_skew(power_sums(values), 80)
    ours = intervals.accelerated(samples, float(values.mean()), skew, 0.95)
    peer = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(6)
    ).confidence_interval
    assert ours == pytest.approx((peer.low, peer.high), abs=0.012)


def test_paired_shares_keep_their_coverage_with_few_discordant_examples() -> None:
    """Exact coverage over all tables of 40 examples, at shares that leave a bootstrap without width."""
    n = 40
    for gained, lost in ((0.02, 0.02), (0.05, 0.01), (0.0, 0.03), (0.2, 0.1)):
        covered = 0.0
        for more in range(n + 1):
            for fewer in range(n + 1 - more):
                chance = scipy_stats.multinomial.pmf(
                    [more, fewer, n - more - fewer], n, [gained, lost, 1 - gained - lost]
                )
                if chance > 1e-7:
                    low, high = intervals.paired_shares(more, fewer, n, 0.95)
                    covered += chance * (low <= gained - lost <= high)
        assert covered >= 0.93


@given(
    gained=st.integers(0, 30), lost=st.integers(0, 30), more=st.integers(0, 300), level=st.floats(0.5, 0.999)
)
def test_paired_shares_invert_mcnemar(gained: int, lost: int, more: int, level: float) -> None:
    """Zero is left out exactly where the p-value is below 1 - level, and swapping turns the ends about."""
    n = max(1, gained + lost + more)
    p_value = intervals.mcnemar_p_value(gained, lost)
    low, high = intervals.paired_shares(gained, lost, n, level)
    assert -1.0 <= low <= (gained - lost) / n <= high <= 1.0
    if abs(p_value - (1.0 - level)) > 1e-6:
        assert (p_value < 1.0 - level) == (not low <= 0.0 <= high)
    assert intervals.paired_shares(lost, gained, n, level) == pytest.approx((-high, -low), abs=1e-9)
    assert intervals.mcnemar_p_value(lost, gained) == p_value


@pytest.mark.parametrize("n", [1, 2, 16, 97, 200, 872])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_wilsons_interval_is_what_it_inverts(n: int, level: float) -> None:
    """At an end the share lies z standard deviations away, by the end's own variance."""
    z = scipy_stats.norm.ppf(0.5 + level / 2.0)
    for k in range(n + 1):
        for end in intervals.wilson(k, n, level):
            assert (k / n - end) ** 2 == pytest.approx(z * z * end * (1.0 - end) / n, abs=1e-12)


def test_no_end_of_a_share_is_beyond_0_and_1_or_beside_it() -> None:
    """By the formula as it is printed 16 in 16 end at 1.0000000000000002, 10 in 10 at .9999999999999999."""
    for n in range(1, 100):
        for k in range(n + 1):
            low, high = intervals.wilson(k, n, 0.95)
            assert 0.0 <= low <= k / n <= high <= 1.0
            assert isinstance(low, float)
    assert intervals.wilson(16, 16, 0.95)[1] == intervals.wilson(10, 10, 0.95)[1] == 1.0
    assert intervals.wilson(0, 7, 0.95)[0] == 0.0


@pytest.mark.parametrize(("q", "n"), [(50.0, 6), (90.0, 36), (95.0, 72), (99.0, 368)])
def test_percentiles_need_the_samples_that_binomial_theory_says(q: float, n: int) -> None:
    """The top order statistic bounds the percentile only from the n with (q / 100)^n <= 2.5%."""
    samples = np.arange(float(n))
    short = intervals.percentile_interval(samples[:-1], q)
    assert short.value is None
    assert str(short.reason).startswith("n too small")
    enough = intervals.percentile_interval(samples, q)
    assert enough.high == n - 1
    assert enough.value == pytest.approx(np.percentile(samples, q))


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0])
def test_percentile_intervals_cover(q: float) -> None:
    """Order statistics of 400 skewed samples bound the true percentile (1 in 2,000)."""
    rng = np.random.default_rng(12)
    found = [intervals.percentile_interval(rng.exponential(size=400), q) for _ in range(REPLICATIONS)]
    assert covers_enough(found, -np.log(1.0 - q / 100.0))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 300), q=st.floats(0.1, 99.9))
@settings(max_examples=200, deadline=None)
def test_a_percentile_lies_within_its_bounds(seed: int, n: int, q: float) -> None:
    """Value and bounds are there together, in order."""
    interval = intervals.percentile_interval(np.random.default_rng(seed).random(n), q)
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
        intervals.percentile_interval([1.0], q)


def test_a_sum_of_squares_is_judged_by_the_chi_squared_distribution() -> None:
    """One square less its expectation: the quantiles are the chi-squared's, standardised."""
    for probability in (0.9, 0.975, 0.999):
        exact = (scipy_stats.chi2.ppf(probability, 1) - 1.0) / np.sqrt(2.0)
        assert intervals.pearson_quantile(probability, np.sqrt(8.0)) == pytest.approx(exact)
    assert intervals.pearson_quantile(0.975, 0.0) == pytest.approx(1.959964)


def test_unseen_losses_only_add_room_above_and_too_many_leave_no_end() -> None:
    """None where an error costs nothing more; the more it may cost the more; infinity where it decides."""
    resampled = np.random.default_rng(7).normal(30.0, 3.0, size=1000)
    ends = (0.24, 0.36)
    found = [
        intervals.with_unseen_losses(ends, resampled, 100, cost, 0.95) for cost in (0.0, 5.0, 10.0, 900.0)
    ]
    assert [low for low, _ in found] == [0.24] * 4
    assert found[0][1] == pytest.approx(0.36, abs=0.01)
    assert found[0][1] < found[1][1] < found[2][1] < found[3][1] == np.inf


def test_a_reading_too_small_for_a_calibrated_model_has_an_upper_end() -> None:
    """Half of 40 coins right at a confidence of one half: the reading is zero, and the error need not be."""
    probs = np.full((40, 2), 0.5)
    labels = np.arange(40) % 2
    interval = bootstrap_interval(ECE, Evaluation(probs, labels), seed=0)
    assert (interval.value, interval.low) == (0.0, 0.0)
    assert interval.high is not None
    # Of 40 coins a share has a standard error of .079.
    assert 0.1 < interval.high < 0.3
