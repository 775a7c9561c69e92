"""Verdicts: known answers, Holm against its definition, and the family-wise false-alarm rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.compare.verdicts import (
    BY_CONFIDENCE,
    FAMILY,
    Pair,
    compare,
    compare_pairs,
    contributions,
    holm,
)
from calibench.errors import CalibenchError
from calibench.metrics.calibration import ECE, ECE_DEBIASED
from calibench.metrics.scoring import NLL, negative_log_likelihood
from calibench.metrics.selective import ERROR_AUROC
from calibench.stats.intervals import mcnemar_p_value
from calibench.types import Evaluation
from simulated import jittered, simulated


def test_a_difference_is_that_of_the_metrics() -> None:
    """Method less reference, methods first, every metric of the family."""
    evaluation = simulated(1, 400, 3)
    probs = jittered(evaluation, 1)
    differences = compare(evaluation.probs, {"a": probs, "b": probs}, evaluation.labels, resamples=50, seed=1)
    assert [(d.method, d.metric) for d in differences] == [(m, f.name) for m in "ab" for f in FAMILY]
    for difference, metric in zip(differences, FAMILY * 2, strict=True):
        expected = metric.evaluate(Evaluation(probs, evaluation.labels)) - metric.evaluate(evaluation)
        assert difference.difference.value == pytest.approx(expected, abs=1e-12)


def test_a_method_does_not_differ_from_itself() -> None:
    """No difference, no width, no verdict."""
    evaluation = simulated(2, 300)
    for difference in compare(evaluation.probs, {"same": evaluation.probs}, evaluation.labels, seed=1):
        assert difference.difference.value == 0.0
        assert (difference.p_value, difference.verdict) == (1.0, "no difference shown")
        assert difference.detectable is None
        for interval in (difference.difference, difference.adjusted):
            assert (interval.low, interval.high) == (0.0, 0.0)


def test_what_is_plain_is_said_in_words() -> None:
    """Undoing a doubled temperature is better in NLL and calibration, and no different in accuracy."""
    evaluation = simulated(3, 5000, tilt=2.0)
    assert evaluation.posterior is not None
    forward = compare(evaluation.probs, {"truth": evaluation.posterior}, evaluation.labels, seed=1)
    assert {d.metric: d.verdict for d in forward} == {
        "accuracy": "no difference shown",
        "nll": "better",
        "brier": "better",
        "ece_debiased": "better",
    }
    backward = compare(evaluation.posterior, {"sharp": evaluation.probs}, evaluation.labels, seed=1)
    assert [d.verdict for d in backward][1:] == ["worse"] * 3
    higher = compare(
        jittered(evaluation, 1, noise=8.0), {"plain": evaluation.probs}, evaluation.labels, seed=1
    )
    assert higher[0].metric == "accuracy"
    assert higher[0].verdict == "better"


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(30, 200), noise=st.floats(0.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_an_adjusted_interval_leaves_out_zero_exactly_with_a_verdict(seed: int, n: int, noise: float) -> None:
    """Interval, adjusted p-value and words are one statement."""
    evaluation = simulated(seed, n, tilt=2.0)
    methods = {str(k): jittered(evaluation, seed + k, noise * k) for k in range(1, 4)}
    for d in compare(evaluation.probs, methods, evaluation.labels, resamples=20, seed=1):
        assert d.adjusted.low is not None
        assert d.adjusted.high is not None
        assert d.adjusted.low <= d.difference.value <= d.adjusted.high  # type: ignore[operator]
        shown = d.verdict != "no difference shown"
        assert shown == (d.adjusted_p <= 0.05)
        assert shown == (not d.adjusted.low <= 0.0 <= d.adjusted.high)
        assert d.adjusted_p >= d.p_value


@given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p: list[float]) -> None:
    """The adjusted p-value is at most .05 exactly where Holm's steps reject."""
    adjusted, levels = holm(np.array(p))
    rejected = set()
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] > 0.05 / (len(p) - step):
            break
        rejected.add(int(index))
    tolerance = 1e-12
    for index in range(len(p)):
        if abs(adjusted[index] - 0.05) > tolerance:
            assert (adjusted[index] <= 0.05) == (index in rejected)
    assert (levels >= 0.95 - tolerance).all()
    assert levels.max() <= 1.0 - 0.05 / len(p) + tolerance


def test_holm_adjusts_a_known_example() -> None:
    """Three of four p-values, stepped down by hand."""
    adjusted, levels = holm(np.array([0.03, 0.01, 0.02, 0.5]))
    assert adjusted == pytest.approx([0.06, 0.04, 0.06, 0.5])
    assert levels == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 4, 1 - 0.05 / 3, 1 - 0.05 / 3])


def test_contributions_of_a_mean_are_its_losses() -> None:
    """The pseudo-value of a mean is the example's own value."""
    evaluation = simulated(4, 100)
    assert contributions(NLL, evaluation) == pytest.approx(negative_log_likelihood(evaluation))


def test_contributions_are_delete_one_pseudo_values() -> None:
    """By brute force, shifted to the metric."""
    evaluation = simulated(5, 60, tilt=2.0)
    value = ECE_DEBIASED.evaluate(evaluation)
    left_out = [ECE_DEBIASED.evaluate(evaluation.take(np.delete(np.arange(60), i))) for i in range(60)]
    pseudo = 60 * value - 59 * np.array(left_out)
    assert contributions(ECE_DEBIASED, evaluation) == pytest.approx(pseudo - pseudo.mean() + value)


def test_a_metric_without_moments_has_no_contributions() -> None:
    """It cannot be in the family, and the refusal names it."""
    with pytest.raises(CalibenchError, match="error_auroc"):
        contributions(ERROR_AUROC, simulated(6, 20))


def test_other_examples_are_refused() -> None:
    """A comparison is paired or nothing."""
    evaluation = simulated(7, 50)
    with pytest.raises(CalibenchError, match=r"short has probabilities of shape \(40, 2\)"):
        compare(evaluation.probs, {"short": evaluation.probs[:40]}, evaluation.labels, seed=1)


@pytest.mark.slow
def test_verdicts_between_seeds_of_one_method_are_false_alarms_at_most_at_the_stated_rate() -> None:
    """Seven seeds against an eighth, four metrics: at most 5% of families (fails 1 in 1,000 at 5%)."""
    families = 400
    false = 0
    for seed in range(families):
        base = simulated(seed, 300, sharpness=2.0, tilt=2.0)
        methods = {str(k): jittered(base, 1000 * seed + k, 0.5) for k in range(7)}
        verdicts = compare(jittered(base, 1000 * seed + 99, 0.5), methods, base.labels, resamples=2, seed=1)
        false += any(d.verdict != "no difference shown" for d in verdicts)
    assert false / families <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / families)


def test_calibrated_models_of_different_sharpness_are_not_told_apart_by_calibration() -> None:
    """Plug-in ECE ranks the blunter one worse; the debiased error gives no verdict (5% at most of 300)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    verdicts, plug_in = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        known, hidden = 1.5 * rng.normal(size=872), 5.0 * rng.normal(size=872)
        sharp = 1.0 / (1.0 + np.exp(-known - hidden))
        blunt = (weights / weights.sum() / (1.0 + np.exp(-known[:, None] - 5.0 * nodes))).sum(axis=1)
        labels = (rng.random(872) < sharp).astype(np.int64)
        probs = [np.stack([1.0 - p, p], axis=1) for p in (sharp, blunt)]
        verdicts.append(compare(probs[0], {"blunt": probs[1]}, labels, resamples=2, seed=1)[3].verdict)
        plug_in.append([ECE.evaluate(Evaluation(p, labels)) for p in probs])
    assert np.mean([verdict != "no difference shown" for verdict in verdicts]) <= 0.05
    assert np.mean(plug_in, axis=0)[1] > 1.2 * np.mean(plug_in, axis=0)[0]


def test_a_pair_has_its_own_reference() -> None:
    """As if each were compared by itself, but in one family; a shared name is no matter."""
    evaluation = simulated(10, 200)
    first, second = jittered(evaluation, 1), jittered(evaluation, 2, 1.0)
    pairs = [Pair("m", Evaluation(probs, evaluation.labels), evaluation) for probs in (first, second)]
    together = compare_pairs(pairs, resamples=50, seed=1)
    for reference, found in ((first, together[:4]), (second, together[4:])):
        alone = compare(reference, {"m": evaluation.probs}, evaluation.labels, resamples=50, seed=1)
        for one, many in zip(alone, found, strict=True):
            # Sums over more columns at once may differ in the last bits.
            for key in ("value", "low", "high"):
                expected = getattr(one.difference, key)
                assert getattr(many.difference, key) == pytest.approx(expected, rel=1e-9, abs=1e-12)
            assert many.p_value == pytest.approx(one.p_value, rel=1e-9)
            assert many.p_value <= many.adjusted_p


@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.1, 3.0))
@settings(max_examples=20, deadline=None)
def test_swapping_the_two_turns_everything_about(seed: int, noise: float) -> None:
    """Differences change sign, ends change places, p-values stay, and better becomes worse."""
    evaluation = simulated(seed, 120, tilt=2.0)
    other = jittered(evaluation, seed, noise)
    there = compare(evaluation.probs, {"m": other}, evaluation.labels, resamples=20, seed=1)
    back = compare(other, {"m": evaluation.probs}, evaluation.labels, resamples=20, seed=1)
    opposite = {"better": "worse", "worse": "better"}
    for a, b in zip(there, back, strict=True):
        assert a.difference.value == pytest.approx(-b.difference.value, abs=1e-12)  # type: ignore[operator]
        assert a.p_value == pytest.approx(b.p_value)
        assert a.detectable == pytest.approx(b.detectable)
        assert (a.adjusted.low, a.adjusted.high) == pytest.approx(
            (-b.adjusted.high, -b.adjusted.low), abs=1e-9
        )  # type: ignore[operator]
        assert a.verdict == opposite.get(b.verdict, b.verdict)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_order_of_examples_does_not_matter(seed: int) -> None:
    """To any number but the bootstrap's, whose resamples are others."""
    evaluation = simulated(seed, 150, 3, tilt=2.0)
    other = jittered(evaluation, seed, 1.0)
    order = np.random.default_rng(seed).permutation(150)
    plain = compare(evaluation.probs, {"m": other}, evaluation.labels, resamples=20, seed=1)
    mixed = compare(
        evaluation.probs[order], {"m": other[order]}, evaluation.labels[order], resamples=20, seed=1
    )
    for a, b in zip(plain, mixed, strict=True):
        assert a.difference.value == pytest.approx(b.difference.value, abs=1e-12)
        assert a.p_value == pytest.approx(b.p_value)
        assert (a.adjusted.low, a.adjusted.high) == pytest.approx((b.adjusted.low, b.adjusted.high), abs=1e-9)


def test_rounding_is_no_difference() -> None:
    """A systematic change in the sixth digit is what float32 does between batch plans, and no method's."""
    evaluation = simulated(11, 2000)
    first = np.clip(evaluation.probs[:, 0] * (1.0 - 5e-6), 0.0, 1.0)
    rounded = np.stack([first, 1.0 - first], axis=1)
    for found in compare(evaluation.probs, {"again": rounded}, evaluation.labels, resamples=20, seed=1):
        assert (found.difference.value, found.verdict) == (0.0, "no difference shown")


def test_too_few_examples_get_no_verdict() -> None:
    """However large the difference; the interval says why it is missing."""
    labels = np.zeros(29, dtype=np.int64)
    right, wrong = (np.tile(row, (29, 1)) for row in ([0.9, 0.1], [0.1, 0.9]))
    for found in compare(wrong, {"right": right}, labels, resamples=20, seed=1):
        assert (found.p_value, found.verdict, found.detectable) == (1.0, "no difference shown", None)
        assert found.adjusted.reason == "n too small: 29 examples, a verdict needs 30"
    enough = compare(
        np.tile(wrong[0], (30, 1)),
        {"right": np.tile(right[0], (30, 1))},
        np.zeros(30, dtype=np.int64),
        resamples=20,
        seed=1,
    )
    assert enough[0].verdict == "better"


def test_classes_unchanged_still_leave_accuracy_an_interval() -> None:
    """Other probabilities with the same classes: no difference was seen, which is not that there is none."""
    evaluation = simulated(12, 872)
    squared = evaluation.probs**2 / (evaluation.probs**2).sum(axis=1, keepdims=True)
    found = compare(evaluation.probs, {"sharper": squared}, evaluation.labels, resamples=200, seed=1)[0]
    assert (found.metric, found.difference.value, found.p_value) == ("accuracy", 0.0, 1.0)
    assert found.difference.high == pytest.approx(0.0044, abs=1e-4)  # z^2 / (n + z^2), Tango (1998)
    assert found.detectable is not None


def test_a_planted_difference_is_found_as_often_as_promised() -> None:
    """One as large as `detectable` gets its verdict four times in five (of 200; 1 in 1,000 fall outside)."""
    shown, sizes, sure = [], [], []
    for seed in range(200):
        evaluation = simulated(seed, 400, tilt=1.5)
        other = jittered(evaluation, seed + 999, 1.02)
        nll = compare(evaluation.probs, {"m": other}, evaluation.labels, resamples=2, seed=1)[1]
        assert nll.verdict != "better"
        shown.append(nll.verdict == "worse")
        sizes.append(nll.difference.value)
        sure.append(nll.detectable)
    assert np.mean(sizes) == pytest.approx(np.mean(sure), rel=0.06)
    assert 0.7 <= np.mean(shown) <= 0.9


def test_methods_with_answers_of_their_own_are_compared_where_there_are_no_classes() -> None:
    """Labels say which answers were right, and differ; McNemar's test counts who is right where the other "
    "is not."""
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1.0, (600, 1))
    right, worse = rng.random(600) < confidence[:, 0], rng.random(600) < 0.5 * confidence[:, 0]
    base, new = (Evaluation(confidence, (~answers).astype(np.int64)) for answers in (right, worse))
    found = {item.metric: item for item in compare_pairs([Pair("new", base, new)], resamples=100, seed=1)}
    assert set(found) == {metric.name for metric in BY_CONFIDENCE}
    assert found["accuracy"].verdict == found["brier_confidence"].verdict == "worse"
    gained, lost = int((worse & ~right).sum()), int((right & ~worse).sum())
    assert found["accuracy"].p_value == pytest.approx(mcnemar_p_value(gained, lost))
    for item in compare_pairs(
        [Pair("same", base, Evaluation(confidence, base.labels))], resamples=100, seed=1
    ):
        assert (item.p_value, item.verdict) == (1.0, "no difference shown")
