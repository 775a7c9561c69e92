"""Ratios of times: known answers, and coverage by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from calibench.errors import UsageError
from calibench.stats import ratios
from calibench.types import Interval
from coverage_checks import REPLICATIONS, covers_enough, ends


def test_equal_ratios_leave_no_width() -> None:
    """Whatever the sizes of the blocks; and blocks count alike, on the log scale."""
    interval = ratios.ratio_interval([2.0, 20.0, 6.0], [1.0, 10.0, 3.0])
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratios.ratio_interval([1.0, 8.0], [1.0, 2.0]).value == pytest.approx(2.0)


def test_a_ratio_of_two_blocks_has_no_interval() -> None:
    """The value is there, the interval is not, and the reason says what is missing."""
    interval = ratios.ratio_interval([2.0, 4.0], [1.0, 2.0])
    assert interval.value == pytest.approx(2.0)
    assert replace(interval, value=None) == Interval(
        None, None, None, "n too small: 2 blocks, an interval needs 3"
    )


def test_a_ratio_of_few_blocks_is_students_on_the_logs() -> None:
    """Of four blocks nothing is cut: the interval is that of the mean of their log ratios."""
    logs = np.array([0.1, 0.4, 0.2, 0.9])
    interval = ratios.ratio_interval(np.exp(logs), np.ones(4))
    expected = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    assert np.log(ends(interval)) == pytest.approx(expected)


def test_a_ratio_of_many_blocks_is_that_of_their_middle() -> None:
    """Of twelve blocks two are cut at either end; Tukey and McLaughlin's interval, by another way."""
    logs = np.random.default_rng(5).normal(size=12)
    interval = ratios.ratio_interval(np.exp(logs), np.ones(12))
    held = stats.trim_mean(logs, 2 / 12)
    winsorised = np.asarray(stats.mstats.winsorize(logs, (2 / 12, 2 / 12)))
    error = winsorised.std(ddof=1) * np.sqrt(11 / (8 * 7))
    assert interval.value == pytest.approx(np.exp(held))
    assert np.log(ends(interval)) == pytest.approx(held + stats.t.ppf([0.025, 0.975], 7) * error)


def test_a_ratio_turned_round_has_its_ends_turned_round() -> None:
    """Which of two methods is the reference is a matter of wording."""
    rng = np.random.default_rng(6)
    above, below = rng.lognormal(size=(2, 12))
    one, other = ratios.ratio_interval(above, below), ratios.ratio_interval(below, above)
    assert ends(one) == pytest.approx(tuple(1.0 / end for end in reversed(ends(other))))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("m", [5, 6, 12, 30])
def test_however_long_one_block_stalls_the_ratio_stays(m: int, side: int) -> None:
    """A block that takes fifty times as long, on either side, moves it no more than one that takes twice."""
    times = np.exp(np.random.default_rng(7).normal(0.0, 0.05, (2, m)))
    twice, fifty = times.copy(), times.copy()
    twice[side, 0] *= 2.0
    fifty[side, 0] *= 50.0
    assert ratios.ratio_interval(*twice) == ratios.ratio_interval(*fifty)


def test_the_case_that_the_ratio_of_totals_got_wrong() -> None:
    """Reference block 5 of 12 takes thirty times as long: it was [-.48, 2.19] where 2.95 is right."""
    rng = np.random.default_rng(3)
    above, below = 2.95 * rng.lognormal(0.0, 0.03, 12), rng.lognormal(0.0, 0.03, 12)
    below[4] *= 30.0
    low, high = ends(ratios.ratio_interval(above, below))
    assert 2.8 < low < 2.95 < high < 3.1


@pytest.mark.parametrize("m", [6, 12, 30])
def test_ratio_intervals_cover_with_a_stalled_block(m: int) -> None:
    """One block of m takes 5 to 50 times as long, on either side (1 in 2,000 each)."""
    rng = np.random.default_rng(12)
    intervals = []
    for _ in range(REPLICATIONS):
        times = rng.lognormal(0.0, 0.05, size=(2, m)) * [[3.0], [1.0]]
        times[rng.integers(2), rng.integers(m)] *= np.exp(rng.uniform(np.log(5.0), np.log(50.0)))
        intervals.append(ratios.ratio_interval(*times))
    assert covers_enough(intervals, 3.0)
    assert np.median([high / low for low, high in map(ends, intervals)]) < 1.3


def test_ratio_intervals_cover() -> None:
    """Ten noisy blocks that share a drift: the 95% interval covers the true ratio (1 in 2,000)."""
    rng = np.random.default_rng(10)
    intervals = []
    for _ in range(REPLICATIONS):
        drift = rng.uniform(1.0, 2.0, size=10)
        base = drift * rng.lognormal(0.0, 0.05, size=10)
        intervals.append(ratios.ratio_interval(3.0 * drift * rng.lognormal(0.0, 0.05, size=10), base))
    assert covers_enough(intervals, 3.0)


def test_median_ratio_intervals_cover_and_need_six_pairs() -> None:
    """The order-statistic interval holds whatever the distribution, here Cauchy (1 in 2,000)."""
    rng = np.random.default_rng(11)
    intervals = [
        ratios.median_ratio_interval(np.exp(np.clip(rng.standard_cauchy(15), -50, 50)), np.ones(15))
        for _ in range(REPLICATIONS)
    ]
    assert covers_enough(intervals, 1.0)
    assert ratios.median_ratio_interval(np.arange(1.0, 7.0), np.ones(6)).value == 3.5
    assert ratios.median_ratio_interval(np.arange(1.0, 6.0), np.ones(5)).value is None


@pytest.mark.parametrize(
    ("above", "below"),
    [([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0]), ([0.0], [1.0]), ([np.nan], [1.0])],
    ids=str,
)
def test_ratios_of_unpaired_or_broken_blocks_are_refused(above: list[float], below: list[float]) -> None:
    """A journal cut short must not become a ratio."""
    with pytest.raises(UsageError):
        ratios.ratio_interval(above, below)
