"""Samples with few errors: no verdict that the data cannot carry, and all the power elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from calibench.compare import unseen as module
from calibench.compare.noninferiority import nll_difference
from calibench.compare.unseen import ENOUGH, unseen, unseen_errors
from calibench.compare.verdicts import compare
from calibench.metrics.scoring import BRIER_CONFIDENCE, NLL
from calibench.stats.intervals import cautious_mean
from calibench.types import Evaluation, FloatArray


def two(logits: FloatArray) -> FloatArray:
    second = 1.0 / (1.0 + np.exp(-logits))
    return np.stack([1.0 - second, second], axis=1)


def sample(n: int, errors: int, seed: int = 0) -> tuple[FloatArray, np.ndarray]:
    """Log-odds about 4.6, and labels of which so many are wrong."""
    logits = 4.6 + 0.5 * np.random.default_rng(seed).normal(size=n)
    labels = np.ones(n, dtype=np.int64)
    labels[:errors] = 0
    return logits, labels


@pytest.mark.parametrize("n", [50, 872])
@pytest.mark.parametrize("errors", [0, 1, 5, 20])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_errors_that_may_be_missing_reach_the_exact_bound(n: int, errors: int, level: float) -> None:
    """Those that an interval of the mean allows for and these together are Clopper's and Pearson's."""
    exact = n * binomtest(errors, n).proportion_ci(level, method="exact").high
    allowed = n * cautious_mean(np.full(3, float(errors)), n, level)[1]
    assert unseen_errors(errors, n, level) == pytest.approx(max(0.0, exact - allowed), abs=1e-6)
    if errors == 0:
        assert allowed == 0.0


def test_from_enough_errors_on_little_is_missing_and_nothing_is_widened() -> None:
    """Less than one error at any level in use; so the cut is not felt."""
    assert all(unseen_errors(ENOUGH, n, level) < 1.0 for n in (300, 5000) for level in (0.9, 0.95, 0.99))
    logits, labels = sample(500, ENOUGH)
    base, sharp = Evaluation(two(logits), labels), Evaluation(two(2 * logits), labels)
    assert unseen(NLL, base, sharp) is None
    logits, labels = sample(500, ENOUGH - 1)
    base, sharp = Evaluation(two(logits), labels), Evaluation(two(2 * logits), labels)
    assert unseen(NLL, base, sharp) is not None


def test_the_effect_of_a_mean_is_what_an_error_costs() -> None:
    """Of log losses it is known in closed form: for each turned label the difference of the two log-odds."""
    logits, labels = sample(200, 2)
    found = unseen(NLL, Evaluation(two(logits), labels), Evaluation(two(2 * logits), labels))
    assert found is not None
    one = found.effect[0] * 200
    assert one == pytest.approx(np.mean(logits), abs=0.5)
    np.testing.assert_allclose(found.effect / found.effect[0], module.TURNED, rtol=0.1)


@pytest.mark.parametrize("errors", [0, 1, 2])
def test_a_sharper_method_is_not_better_for_want_of_errors(errors: int) -> None:
    """Where each further error costs more than all right answers gain."""
    logits, labels = sample(100, errors)
    found = compare(two(logits), {"sharp": two(2 * logits)}, labels, resamples=50, seed=0)
    assert {item.verdict for item in found if item.metric != "accuracy"} <= {"no difference shown", "worse"}
    base, sharp = Evaluation(two(logits), labels), Evaluation(two(2 * logits), labels)
    assert nll_difference(sharp, base).verdict(0.01) != "no worse"


def test_without_the_room_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that is guarded against: 0 errors among 100."""
    monkeypatch.setattr(module, "ENOUGH", 0)
    logits, labels = sample(100, 0)
    found = {
        item.metric: item.verdict
        for item in compare(two(logits), {"sharp": two(2 * logits)}, labels, resamples=50, seed=0)
    }
    assert found["nll"] == "better"


def test_the_p_value_and_the_interval_agree() -> None:
    """Zero is left out exactly where the verdict says so, with few errors as with many."""
    for errors in (0, 3, 8, 20):
        logits, labels = sample(400, errors, seed=errors)
        methods = {"sharp": two(2 * logits), "soft": two(0.5 * logits), "half": two(0.9 * logits)}
        for item in compare(two(logits), methods, labels, resamples=50, seed=0):
            low, high = item.adjusted.low, item.adjusted.high
            assert low is not None
            assert high is not None
            assert (low > 0.0 or high < 0.0) == (item.verdict != "no difference shown")


def test_false_alarms_on_nearly_perfect_models() -> None:
    """A calibrated reference at accuracy .99, logits doubled: better in at most 2.5% of samples of 100.

    200 samples; at a true 2.5% more than 12 have a probability of .1%.
    """
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(200):
        logits = 4.6 + 0.5 * rng.normal(size=100)
        labels = (rng.random(100) < 1.0 / (1.0 + np.exp(-logits))).astype(np.int64)
        found = compare(two(logits), {"sharp": two(2 * logits)}, labels, resamples=20, seed=0)
        alarms += any(item.verdict == "better" for item in found)
    assert alarms <= 12


def test_errors_of_answers_turn_those_that_are_right() -> None:
    """Without classes an error more is one of both methods: known answer for the Brier score of the "
    "confidence."""
    n = 400
    labels = np.zeros(n, dtype=np.int64)
    base, new = (Evaluation(np.full((n, 1), confidence), labels) for confidence in (0.9, 0.8))
    found = unseen(BRIER_CONFIDENCE, base, new)
    assert found is not None
    gain = (0.8**2 - 0.9**2) - (0.2**2 - 0.1**2)
    assert found.effect[0] == pytest.approx(gain / n)
    assert found.errors == 0
