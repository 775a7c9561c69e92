"""Ranks over tasks on simulated methods whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.compare.ranks import Apart, apart, cliques, mean_rank_intervals, redrawn
from calibench.stats.friedman import ranks_of
from calibench.types import FloatArray


def drawn_tasks(
    rng: np.random.Generator, truth: FloatArray, tasks: int, spread: float, noise: float, resamples: int = 200
) -> tuple[FloatArray, list[list[FloatArray]]]:
    """Losses [K, M] and resampled ones: truth, what is special to a task, and the noise of its examples."""
    own = truth + spread * rng.normal(size=(tasks, len(truth)))
    seen = own + noise * rng.normal(size=own.shape)
    again = [[row + noise * rng.normal(size=(resamples, len(truth)))] for row in seen]
    return seen, again


@pytest.mark.parametrize("methods", [3, 6, 12])
def test_equal_methods_are_told_apart_in_at_most_a_twentieth(methods: int) -> None:
    """Methods truly equal over 8 tasks: any difference at all is called in at most 5% of trials."""
    rng = np.random.default_rng(methods)
    called = 0
    for _ in range(400):
        found = apart(ranks_of(rng.normal(size=(8, methods))))
        assert isinstance(found, Apart)
        called += found.shown().any()
    assert called / 400 <= 0.05


def test_a_method_that_is_better_everywhere_is_called_better() -> None:
    """Of four on 8 tasks, against each of the others that are equal among themselves, nearly always."""
    rng = np.random.default_rng(0)
    trials, called, false = 200, 0, 0
    for _ in range(trials):
        losses = rng.normal(size=(8, 4)) + np.array([-6.0, 0.0, 0.0, 0.0])
        found = apart(ranks_of(losses))
        assert isinstance(found, Apart)
        called += found.shown()[0, 1:].sum()
        false += found.shown()[1:, 1:].any()
    assert called / (3 * trials) > 0.75
    assert false / trials <= 0.05


def test_fewer_than_three_tasks_are_not_tested() -> None:
    """Two tasks give neither a test nor an interval, and both say so."""
    ranks = ranks_of(np.array([[1.0, 2.0], [1.0, 2.0]]))
    assert apart(ranks) == "n too small: 2 tasks, a test across tasks needs 3"
    rng = np.random.default_rng(0)
    found = redrawn([[np.tile([1.0, 2.0], (50, 1))]] * 2, rng)
    intervals = mean_rank_intervals(ranks, found)
    assert [one.value for one in intervals] == [1.0, 2.0]
    assert all(one.low is None and "needs 3" in str(one.reason) for one in intervals)


@pytest.mark.parametrize("tasks", [3, 8])
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_the_interval_of_a_mean_rank_holds_what_other_tasks_give(tasks: int, noise: float) -> None:
    """At least 95% less two standard errors of the trials hold the mean rank of the population."""
    truth, spread, trials = np.array([-1.0, 0.0, 0.0, 1.0]), 1.0, 200
    rng = np.random.default_rng([tasks, round(10 * noise)])
    population = ranks_of(drawn_tasks(rng, truth, 20_000, spread, noise, 1)[0]).mean(axis=0)
    held = 0
    for _ in range(trials):
        seen, again = drawn_tasks(rng, truth, tasks, spread, noise)
        intervals = mean_rank_intervals(ranks_of(seen), redrawn(again, rng))
        held += sum(
            one.low is not None and one.high is not None and one.low <= mean <= one.high
            for one, mean in zip(intervals, population, strict=True)
        )
    assert held / (trials * len(truth)) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / trials)


def test_draws_share_their_examples() -> None:
    """Methods that are the same tie in every draw, and their order does not matter."""
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(100, 1)) + np.array([0.0, 0.0, 1.0])
    found = redrawn([[losses], [losses], [losses]], rng)
    assert np.array_equal(found.mean_ranks[:, 0], found.mean_ranks[:, 1])
    assert np.allclose(found.mean_ranks, [1.5, 1.5, 3.0])


def test_cliques_are_the_longest_runs_without_a_difference() -> None:
    """Neighbours by rank; a run inside another is none of its own, and a difference inside breaks a run."""
    means = np.array([1.0, 2.0, 3.0, 4.0])
    shown = np.zeros((4, 4), dtype=bool)
    assert cliques(means, shown) == [[0, 1, 2, 3]]
    shown[0, 3] = shown[3, 0] = True
    assert cliques(means, shown) == [[0, 1, 2], [1, 2, 3]]
    shown[:] = True
    assert cliques(means, shown) == []
