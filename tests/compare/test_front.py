"""The Pareto front and non-inferiority: known answers, and what the draws are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibench.compare import front, noninferiority
from calibench.compare.noninferiority import Bounds
from calibench.metrics.calibration import ECE, ECE_DEBIASED
from calibench.metrics.scoring import NLL
from calibench.metrics.selective import AURC
from calibench.stats import resampling
from calibench.stats.bootstrap import bootstrap_interval
from calibench.stats.intervals import quantiles
from calibench.stats.ratios import ratio_interval
from calibench.types import Evaluation

levels = st.integers(0, 4).map(float)


def evaluation(seed: int, n: int = 200, sharpness: float = 1.0, ties: bool = False) -> Evaluation:
    """Two classes, with a logit that is right on average; the labels do not depend on the seed."""
    labels = np.random.default_rng(99).integers(0, 2, n)
    rng = np.random.default_rng(seed)
    logit = sharpness * (2.0 * (2 * labels - 1) + rng.normal(0, 2, n))
    positive = 1 / (1 + np.exp(-logit))
    positive = np.round(positive, 1) if ties else positive
    return Evaluation(np.stack([1 - positive, positive], axis=1), labels)


# --- the front ---------------------------------------------------------------------------------------------


def test_front_known_answer() -> None:
    """Of five points the cheap, the good and the one between them are on the front; equals both are."""
    quality = np.array([5.0, 1.0, 3.0, 4.0, 1.0, 3.0])
    cost = np.array([1.0, 9.0, 3.0, 4.0, 9.0, 4.0])
    assert front.nondominated(quality, cost).tolist() == [True, True, True, False, True, False]


@given(arrays(float, st.tuples(st.integers(1, 7), st.just(2)), elements=levels))
def test_front_is_what_its_definition_says(points: np.ndarray) -> None:
    """A point is off the front just if another is at least as good and as cheap, and differs from it."""
    expected = [not any((other <= own).all() and (other != own).any() for other in points) for own in points]
    assert front.nondominated(points[:, 0], points[:, 1]).tolist() == expected


@given(arrays(float, st.tuples(st.integers(1, 6), st.just(2), st.integers(1, 8)), elements=levels))
def test_probabilities_of_the_front(points: np.ndarray) -> None:
    """Some point is on the front in every draw, the cheapest of all always is when it is alone, and the
    probabilities do not depend on the order of the points or on monotone scales."""
    quality, cost = points[:, 0], points[:, 1]
    shares = front.on_front(quality, cost)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.sum() >= 1.0 - 1e-12
    alone = (cost[0] < cost[1:]).all()
    assert not alone or shares[0] == 1.0
    np.testing.assert_array_equal(front.on_front(quality[::-1], cost[::-1]), shares[::-1])
    np.testing.assert_array_equal(front.on_front(np.exp(quality), cost**3), shares)


def test_two_equal_methods_share_the_front() -> None:
    """Of two methods of one quality and one noisy cost each is off the front in half of the draws that tell
    the costs apart; 4 standard errors of 4,000 draws."""
    cost = np.random.default_rng(0).normal(1.0, 0.1, (2, 4000))
    apart = np.mean(cost.max(axis=0) > (1 + front.SAME_COST) * cost.min(axis=0))
    shares = front.on_front(np.ones((2, 4000)), cost)
    assert 0.5 < apart < 1.0
    assert (2 - shares.sum()) == pytest.approx(apart)
    assert abs(shares[0] - (1 - apart / 2)) < 4 * np.sqrt(0.25 / 4000)


def test_a_hair_of_time_does_not_count() -> None:
    """A better method that takes 1% longer beats the other; one that takes 3% longer leaves it there."""
    quality = np.array([2.0, 1.0])
    assert front.nondominated(quality, np.array([1.0, 1.01])).tolist() == [False, True]
    assert front.nondominated(quality, np.array([1.0, 1.03])).tolist() == [True, True]
    assert front.nondominated(np.ones(2), np.array([1.0, 1.01])).tolist() == [True, True]
    assert front.nondominated(np.ones(2), np.array([1.0, 1.03])).tolist() == [True, False]


@pytest.mark.parametrize("metric", [NLL, ECE, ECE_DEBIASED])
def test_quality_draws_are_joint(metric) -> None:
    """Points that are the same get the same draws, centred at their value; others differ by less than
    independent resamples would make them."""
    first, second = evaluation(0), evaluation(0, sharpness=1.1)
    drawn = front.quality_draws([metric], [first, first, second])[0]
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(drawn.mean(axis=1), [metric.evaluate(e) for e in (first, first, second)])
    apart = (drawn[2] - drawn[0]).var()
    assert 0 < apart < 0.5 * (drawn[2].var() + drawn[0].var())


def test_quality_draws_of_a_mean_have_its_interval() -> None:
    """For NLL the draws spread as the interval of the mean does: 5% on 4,000 draws."""
    sample = evaluation(0, n=2000)
    low, high = quantiles(front.quality_draws([NLL], [sample], draws=4000)[0][0], 0.95)
    interval = bootstrap_interval(NLL, sample, seed=0)
    assert high - low == pytest.approx(interval.high - interval.low, rel=0.05)


@pytest.mark.parametrize("ties", [False, True])
def test_aurc_draws_are_aurc_of_resamples(ties: bool) -> None:
    """Up to the shift to the sample's value, each draw is the metric evaluated on that resample."""
    sample = evaluation(0, n=60, ties=ties)
    drawn = front.quality_draws([AURC], [sample, sample], draws=25, seed=3)[0]
    counts = np.random.default_rng(3)
    index = counts.integers(0, 60, size=(25, 60))
    expected = np.array([AURC.evaluate(sample.take(row)) for row in index])
    np.testing.assert_allclose(drawn[0] - drawn[0].mean(), expected - expected.mean(), atol=1e-12)
    np.testing.assert_allclose(drawn.mean(axis=1), AURC.evaluate(sample))


def test_aurc_draws_of_many_examples_spread_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of examples that are resampled one by one a normal limit stands for the resamples.

    A standard deviation from 4,000 draws has an error of 1.1%, a correlation near .9 one of .003.
    """
    samples = [evaluation(0, n=2000), evaluation(0, n=2000, ties=True)]
    exact = front.quality_draws([AURC], samples, draws=4000, seed=1)[0]
    monkeypatch.setattr(resampling, "EXACT_EXAMPLES", 1000)
    limit = front.quality_draws([AURC], samples, draws=4000, seed=2)[0]
    np.testing.assert_allclose(limit.std(axis=1), exact.std(axis=1), rtol=0.07)
    assert np.corrcoef(limit)[0, 1] == pytest.approx(np.corrcoef(exact)[0, 1], abs=0.03)


def test_cost_draws_have_the_interval_of_the_record() -> None:
    """The 95% range of the draws is the ratio's interval; the reference itself is exactly 1."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.9, 1.1, 12)
    seconds = np.stack([reference, 20 * reference * rng.uniform(0.97, 1.03, 12)])
    drawn = front.block_cost_draws(seconds, reference, draws=20_000)
    np.testing.assert_array_equal(drawn[0], 1.0)
    expected = ratio_interval(seconds[1], reference)
    low, high = quantiles(drawn[1], 0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=2e-3)
    # A normal scale in place of Student's would be 17% too narrow.
    assert high - low == pytest.approx(expected.high - expected.low, rel=0.05)


def test_cost_draws_are_paired_by_block() -> None:
    """Two methods that are slow in the same blocks are cheap or dear together; one without enough blocks to
    know its spread has none."""
    rng = np.random.default_rng(0)
    reference, slow = np.ones(12), rng.uniform(0.8, 1.2, 12)
    few = np.full(12, np.nan)
    few[:2] = 3.0, 5.0
    drawn = front.block_cost_draws(np.stack([2 * slow, 3 * slow, few]), reference)
    np.testing.assert_allclose(drawn[1] / drawn[0], 1.5)
    np.testing.assert_allclose(drawn[2], np.sqrt(15.0))


def test_cost_draws_of_an_interval() -> None:
    """A ratio with an interval is drawn within it 95 times in 100; one without is exact."""
    drawn = front.interval_cost_draws({"value": 10.0, "low": 9.0, "high": 11.0}, draws=20_000)
    assert np.mean((drawn > 9.0) & (drawn < 11.0)) == pytest.approx(0.95, abs=0.01)
    np.testing.assert_array_equal(front.interval_cost_draws({"value": 10.0, "low": None}), 10.0)


def test_region_holds_95_percent() -> None:
    """Sides of independent axes hold the root of the level each, and so the box the level."""
    cost, quality = np.random.default_rng(0).normal(size=(2, 50_000))
    box = front.region(quality, cost)
    inside = (cost > box.cost[0]) & (cost < box.cost[1])
    inside &= (quality > box.quality[0]) & (quality < box.quality[1])
    assert inside.mean() == pytest.approx(0.95, abs=0.005)


# --- non-inferiority ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, 0.009, "no worse"),
        (-0.02, 0.011, "not shown"),
        (0.005, 0.03, "not shown"),
        (0.011, 0.03, "worse"),
    ],
)
def test_verdicts_of_a_margin(low: float, high: float, verdict: str) -> None:
    """No worse needs the upper bound below the margin, worse the lower one above it."""
    assert Bounds((low + high) / 2, low, high).verdict(0.01) == verdict


def test_sufficient_stops_at_the_first_failure() -> None:
    """A number of passes counts only if every larger one does: no crossing of a noisy curve."""
    fine, open_ = Bounds(0.0, -0.01, 0.005), Bounds(0.02, 0.0, 0.04)
    assert noninferiority.sufficient([fine, fine, open_, fine]) == 1
    assert noninferiority.sufficient([open_, fine]) is None
    assert noninferiority.sufficient([]) is None


def test_predictions_are_no_worse_than_themselves() -> None:
    """Equal predictions differ by exactly zero, with bounds at zero."""
    sample = evaluation(0)
    assert noninferiority.nll_difference(sample, sample) == Bounds(0.0, 0.0, 0.0)


@pytest.mark.parametrize("loss", [0.01, 0.03])
def test_no_worse_is_rarely_said_of_what_is_worse(loss: float) -> None:
    """Differences whose mean is the margin or more are called no worse at most 5% of the time.

    2,000 samples of 300 skewed differences; fails by chance less than once in 10,000 runs at a true 5%.
    """
    rng = np.random.default_rng(1)
    drawn = rng.exponential(0.2, (2000, 300)) - 0.2 + loss
    called = [noninferiority.mean_difference(row).verdict(0.01) == "no worse" for row in drawn]
    assert np.mean(called) < 0.05 + 3.8 * np.sqrt(0.05 * 0.95 / 2000)
