"""Ratios of times: known answers, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.stats import ratios
from calibench.types import Interval
from coverage_checks import REPLICATIONS, covers_enough


def test_a_ratio_of_totals_is_weighted_by_its_blocks() -> None:
    """Totals, not the mean of ratios; equal ratios in every block leave no width."""
    interval = ratios.ratio_interval([2.0, 20.0, 6.0], [1.0, 10.0, 3.0])
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratios.ratio_interval([1.0, 9.0, 2.0], [1.0, 3.0, 2.0]).value == pytest.approx(2.0)


def test_a_ratio_of_two_blocks_has_no_interval() -> None:
    """The value is there, the interval is not, and the reason says what is missing."""
    assert ratios.ratio_interval([2.0, 4.0], [1.0, 2.0]) == Interval(
        2.0, None, None, "n too small: 2 blocks, an interval needs 3"
    )


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
    ("above", "below"), [([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0]), ([np.nan], [1.0])], ids=str
)
def test_ratios_of_unpaired_or_broken_blocks_are_refused(above: list[float], below: list[float]) -> None:
    """A journal cut short must not become a ratio."""
    with pytest.raises(UsageError):
        ratios.ratio_interval(above, below)
