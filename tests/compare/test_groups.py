"""Subgroups against the rest: known answers, refusals, and the false-alarm rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibench.compare.groups import HALF_WIDTH, against_rest, fewest, large_enough
from calibench.compare.verdicts import FAMILY, holm
from calibench.metrics.scoring import brier, correct
from calibench.stats.intervals import wilson
from calibench.types import Evaluation
from simulated import simulated


def test_the_fewest_are_what_the_width_needs() -> None:
    """One example fewer, and the interval of an accuracy of one half is too wide; that is its widest."""
    n = fewest()
    assert n == 93
    for right in range(n + 1):
        low, high = wilson(right, n, 0.95)
        assert high - low <= 2.0 * HALF_WIDTH
    low, high = wilson((n - 1) // 2, n - 1, 0.95)
    assert high - low > 2.0 * HALF_WIDTH


def test_a_group_needs_as_many_outside_it() -> None:
    """A group that is nearly everybody has nobody to be compared with."""
    n = fewest()
    assert large_enough(np.repeat([0, 1], [n, n])) == [0, 1]
    assert large_enough(np.repeat([0, 1], [n - 1, n])) == []
    assert large_enough(np.repeat([0, 1, 2], [n - 1, n, n])) == [1, 2]


def test_differences_are_those_of_the_metrics_and_the_tests_those_of_the_books() -> None:
    """Welch's test by scipy, the score test by its definition, and Holm over all of them."""
    evaluation = simulated(1, 600, 3, tilt=1.5)
    groups = np.repeat([0, 1, 2], [200, 150, 250])
    found = against_rest(evaluation, groups, [0, 2])
    assert [(item.group, item.metric.name) for item in found] == [(g, m.name) for g in (0, 2) for m in FAMILY]
    for item in found:
        inside = groups == item.group
        own, others = (evaluation.take(np.flatnonzero(part)) for part in (inside, ~inside))
        expected = item.metric.evaluate(own) - item.metric.evaluate(others)
        assert item.difference.value == pytest.approx(expected, abs=1e-12)
        if item.metric.name == "brier":
            test = stats.ttest_ind(brier(own), brier(others), equal_var=False)
            assert item.p_value == pytest.approx(test.pvalue)
            interval = test.confidence_interval(0.95)
            assert (item.difference.low, item.difference.high) == pytest.approx(interval)
        if item.metric.name == "accuracy":
            right = [correct(part).sum() for part in (own, others)]
            table = [right, [len(own) - right[0], len(others) - right[1]]]
            assert item.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
            assert item.difference.low is not None
            assert item.difference.high is not None
            assert item.difference.low < expected < item.difference.high
    adjusted, _ = holm(np.array([item.p_value for item in found]))
    assert [item.adjusted_p for item in found] == adjusted.tolist()


def test_a_group_for_which_the_model_is_worse_is_told() -> None:
    """In the right direction for each metric, and from the other side as the opposite."""
    good, bad = simulated(2, 800), simulated(3, 300, tilt=-1.0)
    both = Evaluation(np.concatenate([good.probs, bad.probs]), np.concatenate([good.labels, bad.labels]))
    groups = np.repeat([0, 1], [800, 300])
    for item in against_rest(both, groups, [0, 1]):
        assert item.verdict == ("better" if item.group == 0 else "worse")


def test_without_an_error_the_score_test_still_has_a_spread() -> None:
    """All right in the group and nearly all outside: no difference is shown, though the group has no "
    "spread."""
    probs = np.tile([0.9, 0.1], (300, 1))
    labels = np.zeros(300, dtype=np.int64)
    labels[-2:] = 1
    accuracy, *_ = against_rest(Evaluation(probs, labels), np.repeat([0, 1], [100, 200]), [0])
    assert accuracy.verdict == "no difference shown"
    assert accuracy.difference.high is not None
    assert accuracy.difference.high > accuracy.difference.value  # type: ignore[operator]


def test_confidences_have_a_family_of_their_own() -> None:
    """Where there are no classes, metrics that need none."""
    evaluation = simulated(4, 300)
    right = evaluation.probs.argmax(axis=1) == evaluation.labels
    alone = Evaluation(evaluation.probs.max(axis=1)[:, None], (~right).astype(np.int64))
    found = against_rest(alone, np.repeat([0, 1], [100, 200]), [0])
    assert [item.metric.name for item in found] == ["accuracy", "brier_confidence", "ece_debiased"]


@pytest.mark.slow
def test_false_alarms_are_rare() -> None:
    """Groups that are drawn at random: a false verdict in at most one family of twenty, here of 400 families.

    With a true rate of 5% more than 32 happen by chance once in a hundred times.
    """
    alarms = 0
    for seed in range(400):
        evaluation = simulated(1000 + seed, 400, 3)
        groups = np.random.default_rng(seed).integers(0, 3, 400)
        found = against_rest(evaluation, groups, large_enough(groups))
        alarms += any(item.verdict != "no difference shown" for item in found)
    assert alarms <= 32
