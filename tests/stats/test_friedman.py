"""Friedman's test against scipy and the numbers of Demsar's worked example; the cautious pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibench.stats.friedman import (
    critical_difference,
    friedman,
    mean_log_interval,
    rank_error,
    rank_p_values,
    ranks_of,
    student_factor,
)

#: Demsar (2006), table 6: AUC of C4.5, with m, with cf, and with both tuned, on 14 data sets.
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # ranked 2 and 3 there, by digits that are not printed
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_demsar_s_worked_example() -> None:
    """Average ranks, the statistic uncorrected for ties, and the critical difference of section 3.2."""
    ranks = ranks_of(-AUC)
    means = ranks.mean(axis=0)
    assert means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    plain = 12 * 14 / (4 * 5) * (np.sum(means**2) - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    assert critical_difference(14, 4) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(14, 4, level=0.9) == pytest.approx(1.12, abs=0.005)
    # Section 3.2.2: z = 2.416 of C4.5 against both tuned, with a standard error of 0.488.
    assert rank_error(14, 4) == pytest.approx(0.488, abs=5e-4)
    assert (means[0] - means[3]) / rank_error(14, 4) == pytest.approx(2.416, abs=2e-3)
    assert rank_p_values(ranks)[0, 3] >= 0.0157


def test_friedman_is_scipy_s() -> None:
    """Statistic and p-value, with and without ties."""
    rng = np.random.default_rng(0)
    for losses in (AUC, rng.normal(size=(9, 5)), rng.integers(0, 3, (12, 4)).astype(float)):
        expected = stats.friedmanchisquare(*losses.T)
        assert friedman(ranks_of(losses)) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-12)


def test_two_methods_have_the_sign_test() -> None:
    """Ahead in four of four tasks is p = .125, and chi-square alone would call a difference."""
    ranks = np.tile([1.0, 2.0], (4, 1))
    assert friedman(ranks) == pytest.approx((4.0, 0.125))
    assert stats.chi2.sf(4.0, 1) < 0.05


def test_all_tied_is_no_difference() -> None:
    """Where every task ties all methods nothing is tested and nothing divided by zero."""
    ranks = ranks_of(np.zeros((4, 3)))
    assert friedman(ranks) == (0.0, 1.0)
    assert np.array_equal(rank_p_values(ranks), np.ones((3, 3)))


def test_a_pair_that_is_equal_among_others_that_lie_between() -> None:
    """The usual test of average ranks calls such a pair in over 15% of trials at 5%; ours in at most 5%."""
    rng = np.random.default_rng(1)
    trials, usual, ours = 2000, 0, 0
    for _ in range(trials):
        losses = np.tile(np.arange(8.0), (10, 1)) + 1.0
        ahead = rng.random(10) < 0.5
        pair = np.where(ahead[:, None], [0.0, 20.0], [20.0, 0.0])
        ranks = ranks_of(np.concatenate([losses, pair], axis=1))
        distance = abs(ranks[:, 8].mean() - ranks[:, 9].mean())
        usual += 2 * stats.norm.sf(distance / rank_error(10, 10)) <= 0.05
        ours += rank_p_values(ranks)[8, 9] <= 0.05
    assert usual / trials > 0.15
    assert ours / trials <= 0.05


def test_student_s_factor_grows_as_tasks_get_fewer() -> None:
    """It tends to one, and of three tasks is that of two degrees of freedom."""
    factors = [student_factor(tasks) for tasks in (3, 5, 10, 1000)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == pytest.approx(4.3027 / 1.95996 * np.sqrt(1.5), rel=1e-4)
    assert factors[-1] == pytest.approx(1.0, abs=0.003)


def test_a_geometric_mean_has_student_s_interval() -> None:
    """Against scipy, from three tasks on."""
    logs = np.log([1.5, 2.0, 2.5, 4.0])
    expected = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert mean_log_interval(logs) == pytest.approx(tuple(np.exp(expected)))
    assert mean_log_interval(logs[:2]) is None
