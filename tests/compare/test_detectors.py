"""The choice of a detector follows the tests, and on noise nothing is told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from calibench.compare.detectors import Detector, choose
from calibench.metrics.detection import placements
from calibench.types import FloatArray

BEYOND = np.arange(900) < 300


def detector(order: int, score: FloatArray, cost: float = 1.0, *, trained: bool = False) -> Detector:
    return Detector(order, cost, 1, trained, order == 0, placements(score, BEYOND))


def scores(*gaps: float, seed: int = 0, shared: float = 0.9) -> list[FloatArray]:
    """Scores that share most of their noise; texts out of scope lie higher by `gaps`."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=900)
    return [gap * BEYOND + shared * common + np.sqrt(1 - shared**2) * rng.normal(size=900) for gap in gaps]


def test_the_cheapest_of_those_not_told_apart_from_the_best() -> None:
    """A dear method that is best by chance yields to a cheap one as good; a poor one is shown apart."""
    made = scores(0.5, 2.0, 2.0, 2.0)
    found = choose(
        [
            detector(0, made[0]),
            detector(1, made[1], 20.0),
            detector(2, made[2], 1.5),
            detector(3, made[3], 3.0),
        ]
    )
    assert found is not None
    assert found.best.placements.auroc == max(roc_auc_score(BEYOND, score) for score in made)
    assert found.pick.order == 2
    assert {item.order for item in (found.best, *found.alike)} == {1, 2, 3}
    assert found.less[0].shown
    assert found.less[0].high < 0.0
    assert found.pick_over_reference is not None
    assert found.pick_over_reference.shown
    assert found.pick_over_reference.value == pytest.approx(
        roc_auc_score(BEYOND, made[2]) - roc_auc_score(BEYOND, made[0])
    )
    assert found.pairs == 6


def test_among_equal_costs_the_simpler_one() -> None:
    """The reference before all else, untrained before trained, whatever the estimates."""
    made = scores(1.5, 1.5, 1.5)
    reference, trained, plain = (
        detector(0, made[0]),
        detector(1, made[1], 0.99, trained=True),
        detector(2, made[2], 1.005),
    )
    found = choose([reference, trained, plain])
    assert found is not None
    assert found.pick is reference
    assert found.pick_over_reference is None
    untold = choose([replace(reference, cost=9.0), trained, plain])
    assert untold is not None
    assert untold.pick is plain
    unknown = choose([replace(item, cost=float("inf")) for item in (trained, plain)])
    assert unknown is not None
    assert unknown.pick.order == plain.order


def test_the_same_scores_are_not_told_apart() -> None:
    """Nor do they break the test: the difference has no spread."""
    (score,) = scores(1.0)
    found = choose([detector(0, score), detector(1, np.exp(score), 2.0)])
    assert found is not None
    assert (found.less[1].value, found.less[1].shown, found.alike[0].order) == (0.0, False, 1)


def test_too_little_to_choose_from() -> None:
    """One method, or 29 texts of one kind."""
    (score,) = scores(1.0)
    assert choose([detector(0, score)]) is None
    few = replace(detector(1, score), placements=placements(score[:400], np.arange(400) < 29))
    assert choose([few, replace(few, order=2)]) is None


def test_on_noise_nothing_is_told_apart_from_the_best() -> None:
    """Six equally good methods: in at most 5% of runs one is said to be worse than the best.

    200 runs; fails by chance less than once in 10,000 runs at a true 5%.
    """
    alarms = 0
    for seed in range(200):
        found = choose([detector(i, score) for i, score in enumerate(scores(*[1.0] * 6, seed=seed))])
        assert found is not None
        alarms += any(item.shown for item in found.less.values())
    assert alarms / 200 < 0.05 + 3.8 * np.sqrt(0.05 * 0.95 / 200)


def test_what_loses_elsewhere_is_passed_over() -> None:
    """A cheap detector whose probabilities are shown worse yields to a dearer one that loses nothing."""
    made = scores(0.5, 2.0, 2.0)
    cheap, dear = detector(1, made[1], 1.2), detector(2, made[2], 1.6)
    found = choose([detector(0, made[0]), replace(cheap, loses=("nll",)), dear])
    assert found is not None
    assert found.pick.order == 2
    assert [item.order for item in found.passed_over] == [1]
    found = choose([detector(0, made[0]), cheap, dear])
    assert found is not None
    assert (found.pick.order, found.passed_over) == (1, ())


def test_where_all_lose_the_cheapest_is_taken() -> None:
    """And what it loses is for the report to say."""
    made = scores(0.5, 2.0, 2.0)
    both = [replace(detector(k, made[k], 1.0 + k), loses=("nll", "brier")) for k in (1, 2)]
    found = choose([detector(0, made[0]), *both])
    assert found is not None
    assert (found.pick.order, found.pick.loses, found.passed_over) == (1, ("nll", "brier"), ())
