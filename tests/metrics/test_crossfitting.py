"""Calibration errors of cross-fitted probabilities: what new examples would read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from calibench.compare.contrasts import contrasts
from calibench.compare.verdicts import Pair
from calibench.metrics.calibration import ECE, ECE_CLASSWISE, ECE_DEBIASED, MCE
from calibench.metrics.crossfitting import DRAWS, optimism
from calibench.metrics.smooth import SMOOTH_ECE
from calibench.posthoc import cross_fit, log_of
from calibench.posthoc.temperature import Temperature
from calibench.stats.bootstrap import bootstrap_interval
from calibench.types import Evaluation, FloatArray, IntArray, Metric

EVERY = pytest.mark.parametrize(
    "metric", [ECE, ECE_DEBIASED, ECE_CLASSWISE, MCE, SMOOTH_ECE], ids=lambda m: m.name
)


def overconfident(n: int, *seed: int) -> tuple[FloatArray, IntArray]:
    """A model of two classes whose logits are twice too large, and labels."""
    rng = np.random.default_rng(seed)
    logits = 2.5 * rng.normal(size=n)
    second = special.expit(2.0 * logits)
    return np.stack([1.0 - second, second], axis=1), (rng.random(n) < special.expit(logits)).astype(np.int64)


def test_it_is_the_mean_of_a_folded_normal_less_the_value() -> None:
    """For a sum of absolute values the expectation is known in closed form."""
    sums, refitted = np.array([1.0, -2.0, 0.0]), np.array([[0.0, 3.0, 1.0], [1.0, 0.0, 1.5], [2.0, 1.0, 0.0]])
    spread = np.sqrt(2.0 * 2.0 / 3.0 * ((refitted - refitted.mean(axis=0)) ** 2).sum(axis=0))
    expected = float(sum(stats.foldnorm.mean(abs(s) / d, scale=d) for s, d in zip(sums, spread, strict=True)))
    found = optimism(sums, refitted, lambda drawn: np.abs(drawn).sum(axis=1))
    # Three standard errors of a mean of DRAWS sums whose spread is at most that of the three added up.
    assert found == pytest.approx(expected - 3.0, abs=3.0 * spread.sum() / np.sqrt(DRAWS))


@EVERY
def test_calibrators_that_agree_hide_nothing(metric: Metric) -> None:
    """No difference between folds, no correction."""
    probs, labels = overconfident(200, 1)
    assert metric.optimism is not None
    assert metric.optimism(Evaluation(probs, labels), [probs] * 5) == pytest.approx(0.0, abs=1e-15)


@EVERY
def test_it_is_in_the_value_the_interval_and_every_resample(metric: Metric) -> None:
    """What is known of an evaluation moves its value and the middle of what is drawn by the same amount."""
    probs, labels = overconfident(300, 2)
    plain = Evaluation(probs, labels)
    moved = replace(plain, optimism={metric.name: 0.01, "another": 5.0})
    value, shifted = (bootstrap_interval(metric, e, resamples=100, seed=0) for e in (plain, moved))
    assert shifted.value == pytest.approx(value.value + 0.01)
    assert shifted.low <= shifted.value <= shifted.high
    forms = [metric.moments(e) for e in (plain, moved.take(np.arange(300)))]
    sums = np.asarray(forms[0].features.sum(axis=0)).reshape(1, -1)
    assert forms[1].finish(sums, 300) == pytest.approx(forms[0].finish(sums, 300) + 0.01)


def test_a_verdict_sees_it() -> None:
    """A difference to a cross-fitted row holds what cross-fitting hides."""
    probs, labels = overconfident(300, 3)
    base, plain = Evaluation(probs, labels), Evaluation(probs[:, ::-1].copy(), labels)
    moved = replace(plain, optimism={"ece_debiased": 0.002})
    pair, other = (contrasts([Pair("m", base, e)], [ECE_DEBIASED])[0] for e in (plain, moved))
    assert other.difference.value == pytest.approx(pair.difference.value + 0.002)
    assert other.value == pytest.approx(pair.value + 0.002)


def test_a_cross_fitted_error_reads_what_new_examples_read() -> None:
    """Over 200 samples of 300, temperature's ECE and debiased ECE: within three standard errors of new ones.

    Without the correction the ECE is more than three standard errors too low. The map that new examples are
    given is fitted to four fifths of the sample, as those of the folds are.
    """
    found = []
    for seed in range(200):
        probs, labels = overconfident(300, 4, seed)
        fitted = cross_fit(Temperature, probs, labels, seed=seed)
        refits = [calibrator.transform(log_of(probs)) for calibrator in fitted.calibrators]
        crossed = Evaluation(fitted.probs, labels)
        more, theirs = overconfident(300, 5, seed)
        new = Evaluation(fitted.calibrators[0].transform(log_of(more)), theirs)
        row = []
        for metric in (ECE, ECE_DEBIASED):
            assert metric.optimism is not None
            hidden = metric.optimism(crossed, refits)
            row += [metric.evaluate(crossed) - metric.evaluate(new), hidden]
        found.append(row)
    raw, corrected = np.array(found)[:, ::2], np.array(found)[:, ::2] + np.array(found)[:, 1::2]
    error = raw.std(axis=0) / np.sqrt(len(raw))
    assert raw[:, 0].mean() < -3.0 * error[0]
    assert raw[:, 1].mean() < corrected[:, 1].mean()
    assert (np.abs(corrected.mean(axis=0)) < 3.0 * error).all()
