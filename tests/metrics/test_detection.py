"""Out-of-scope detection: against scikit-learn and definitions, and what its intervals and tests keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from calibench.compare.contrasts import contrasts
from calibench.compare.description import describe
from calibench.compare.verdicts import FAMILY, Pair, compare, compare_pairs, family_of, holm
from calibench.metrics import detection
from calibench.metrics.calibration import ECE
from calibench.metrics.detection import OOS_AUPR, OOS_AUROC, OOS_FPR95, paired_auroc, placements
from calibench.metrics.scoring import ACCURACY
from calibench.metrics.select import select_metrics
from calibench.metrics.selective import AURC
from calibench.score.quality import metric_values
from calibench.stats.bootstrap import bootstrap_interval
from calibench.types import Evaluation, FloatArray
from simulated import jittered, simulated, softmax

METRICS = (OOS_AUROC, OOS_AUPR, OOS_FPR95)


def mixed(seed: int, inside: int, beyond: int, classes: int = 3, flatness: float = 0.5) -> Evaluation:
    """Calibrated predictions in scope, and flatter ones, of no class, out of scope; in random order."""
    rng = np.random.default_rng(seed)
    within = simulated(seed, inside, classes)
    outside = softmax(flatness * 2.0 * rng.normal(size=(beyond, classes)))
    order = rng.permutation(inside + beyond)
    labels = np.concatenate([within.labels, np.full(beyond, -1)])
    return Evaluation(np.concatenate([within.probs, outside])[order], labels[order])


def scored(evaluation: Evaluation, levels: int | None = None) -> Evaluation:
    """With a score of its own, of few levels if there are to be ties."""
    rng = np.random.default_rng(len(evaluation))
    score = rng.normal(size=len(evaluation)) + (evaluation.labels < 0)
    score = score if levels is None else np.round(levels * score)
    return Evaluation(evaluation.probs, evaluation.labels, None, {"energy": score})


# --- the three numbers -------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60), st.sampled_from([None, 1, 3]))
def test_they_are_those_of_scikit_learn(seed: int, inside: int, beyond: int, levels: int | None) -> None:
    """With and without ties, of any shares; out of scope is positive."""
    evaluation = scored(mixed(seed, inside, beyond), levels)
    positive, score = evaluation.labels < 0, evaluation.scores["energy"]
    auroc, aupr, fpr95 = (
        detection.detection_metric(kind.name, "energy").evaluate(evaluation) for kind in detection.KINDS
    )
    assert auroc == pytest.approx(roc_auc_score(positive, score))
    assert aupr == pytest.approx(average_precision_score(positive, score))
    alarms, found, _ = roc_curve(positive, score, drop_intermediate=False)
    assert fpr95 == pytest.approx(alarms[np.argmax(found >= 0.95)])
    assert placements(score, positive).auroc == pytest.approx(auroc)
    assert 1.0 - placements(score, positive).within.mean() == pytest.approx(1.0 - auroc)


def test_known_answers() -> None:
    """Four texts by hand: one out of scope on top, one tied with one in scope."""
    labels = np.array([-1, -1, 0, 0])
    evaluation = Evaluation(np.full((4, 2), 0.5), labels, None, {"s": np.array([3.0, 2.0, 2.0, 1.0])})
    values = [detection.detection_metric(kind.name, "s").evaluate(evaluation) for kind in detection.KINDS]
    # AUROC: of 4 pairs 3 right and one tied. AUPR: 1/2 * 1 + 1/2 * 2/3. Finding both takes one in scope.
    assert values == pytest.approx([3.5 / 4, 5 / 6, 0.5])


def test_the_default_score_is_the_largest_probability() -> None:
    """A text is taken for out of scope where the largest probability is small."""
    evaluation = mixed(1, 300, 100)
    top = evaluation.probs.max(axis=1)
    assert OOS_AUROC.evaluate(evaluation) == pytest.approx(roc_auc_score(evaluation.labels < 0, -top))
    assert OOS_AUROC.evaluate(evaluation) > 0.5


def test_it_takes_texts_of_both_kinds() -> None:
    """Of one kind only the numbers are undefined, and an interval says so."""
    for evaluation in (simulated(1, 50), Evaluation(np.full((9, 2), 0.5), np.full(9, -1))):
        for metric in METRICS:
            assert np.isnan(metric.evaluate(evaluation))
            interval = bootstrap_interval(metric, evaluation, resamples=10, seed=0)
            assert (interval.value, interval.reason) == (
                None,
                f"{metric.name} is undefined on these examples",
            )


# --- intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_resamples_are_those_of_either_kind(metric: object) -> None:
    """Every resample has as many texts of either kind; its values are the metric of the repeated texts."""
    evaluation = mixed(3, 40, 15)
    assert metric in METRICS
    chosen = METRICS[METRICS.index(metric)]
    assert chosen.bootstrap is not None
    values = chosen.bootstrap(evaluation, 5, np.random.default_rng(7))
    beyond, rng = evaluation.labels < 0, np.random.default_rng(7)
    counts = np.empty((5, 55))
    for part in (beyond, ~beyond):
        counts[:, part] = detection.resample_counts(rng, 5, int(part.sum()))
    for value, count in zip(values, counts.astype(int), strict=True):
        repeated = evaluation.take(np.repeat(np.arange(55), count))
        assert (repeated.labels < 0).sum() == 15
        assert value == pytest.approx(chosen.evaluate(repeated))


def test_intervals_cover() -> None:
    """At least 90% of 200 samples hold the AUROC of their law: 3.2 standard errors below 95%."""
    truth = OOS_AUROC.evaluate(mixed(99, 100_000, 100_000))
    ends = [bootstrap_interval(OOS_AUROC, mixed(s, 200, 80), resamples=400, seed=s) for s in range(200)]
    assert (
        np.mean([e.low is not None and e.high is not None and e.low <= truth <= e.high for e in ends]) >= 0.9
    )


def test_perfect_detection_has_no_interval() -> None:
    """Resamples of a perfect score are perfect too, which shows nothing about other texts."""
    evaluation = Evaluation(
        np.full((40, 2), 0.5), np.repeat([-1, 0], 20), None, {"s": np.repeat([1.0, 0.0], 20)}
    )
    interval = bootstrap_interval(
        detection.detection_metric("oos_auroc", "s"), evaluation, resamples=50, seed=0
    )
    assert (interval.value, interval.low, interval.high) == (1.0, None, None)
    assert interval.reason == "all resamples agree: no interval from them"


# --- the test of a difference ------------------------------------------------------------------------------


def delong_by_definition(first: FloatArray, second: FloatArray, positive: np.ndarray) -> tuple[float, float]:
    """Difference and standard error by the covariances of DeLong et al. (1988), over all pairs of texts."""
    components = []
    for score in (first, second):
        above, below = score[positive], score[~positive]
        wins = np.array([[float(x > y) + 0.5 * float(x == y) for y in below] for x in above])
        components.append((wins.mean(axis=1), wins.mean(axis=0), wins.mean()))
    covariance = np.zeros((2, 2))
    for r, s in product(range(2), range(2)):
        for part in range(2):
            x, y = components[r][part], components[s][part]
            covariance[r, s] += (
                ((x - components[r][2]) * (y - components[s][2])).sum() / (len(x) - 1) / len(x)
            )
    contrast = np.array([1.0, -1.0])
    return components[0][2] - components[1][2], float(np.sqrt(contrast @ covariance @ contrast))


@given(st.integers(0, 10**6), st.integers(3, 25), st.integers(3, 25), st.sampled_from([None, 2]))
def test_the_standard_error_is_delongs(seed: int, inside: int, beyond: int, levels: int | None) -> None:
    """As its definition has it, by all pairs of texts, ties included."""
    rng = np.random.default_rng(seed)
    positive = np.repeat([True, False], [beyond, inside])
    both = rng.normal(size=(2, len(positive))) + positive
    first, second = both if levels is None else np.round(levels * both)
    expected = delong_by_definition(first, second, positive)
    assert paired_auroc(placements(first, positive), placements(second, positive)) == pytest.approx(expected)


def test_auroc_joins_the_family() -> None:
    """With texts out of scope there are five verdicts per method, adjusted together; without them four."""
    evaluation = mixed(5, 500, 200)
    worse = jittered(evaluation, 1, noise=3.0)
    found = compare(evaluation.probs, {"a": worse, "b": evaluation.probs}, evaluation.labels, seed=1)
    assert [item.metric for item in found] == [m.name for m in (*FAMILY, OOS_AUROC)] * 2
    last = found[4]
    difference, error = paired_auroc(
        *(placements(1.0 - p.max(axis=1), evaluation.labels < 0) for p in (worse, evaluation.probs))
    )
    assert last.difference.value == pytest.approx(difference)
    assert [d.adjusted_p for d in found] == holm(np.array([d.p_value for d in found]))[0].tolist()
    assert last.verdict == "worse"
    assert last.adjusted.high is not None
    assert last.adjusted.high < 0.0
    assert last.difference.low == pytest.approx(difference - 1.959964 * error)
    assert last.detectable is not None
    itself = found[9]
    assert (itself.p_value, itself.verdict, itself.detectable) == (1.0, "no difference shown", None)
    assert (itself.difference.low, itself.difference.high) == (0.0, 0.0)
    scored = evaluation.in_scope()
    assert family_of(scored) == FAMILY


def test_the_other_verdicts_are_about_texts_in_scope() -> None:
    """Texts out of scope change no difference, interval or p-value but their own."""
    evaluation = mixed(6, 300, 100)
    probs = jittered(evaluation, 2)
    inside = evaluation.labels >= 0
    with_them = compare(evaluation.probs, {"a": probs}, evaluation.labels, seed=3)
    without = compare(evaluation.probs[inside], {"a": probs[inside]}, evaluation.labels[inside], seed=3)
    for ours, alone in zip(with_them[:4], without, strict=True):
        assert ours.difference == alone.difference
        assert ours.p_value == alone.p_value


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Two equally noisy copies of one model: of 300 p-values some 5% lie below .05 (at most 9%: 3.2 sd)."""
    p_values = []
    for seed in range(300):
        evaluation = mixed(seed, 150, 60)
        first, second = (jittered(evaluation, 2 * seed + k, 0.5) for k in (1, 2))
        found = compare(first, {"a": second}, evaluation.labels, resamples=20, seed=seed)
        p_values.append(found[4].p_value)
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.09


def test_few_texts_of_one_kind_give_no_verdict() -> None:
    """However many there are of the other."""
    evaluation = mixed(7, 400, 29, flatness=0.01)
    last = compare(jittered(evaluation, 1, 9.0), {"a": evaluation.probs}, evaluation.labels, seed=1)[4]
    assert (last.p_value, last.verdict, last.detectable) == (1.0, "no difference shown", None)
    assert last.adjusted.reason == "n too small: 29 examples of one kind, a verdict needs 30"
    assert len(compare(evaluation.probs[:9], {"a": evaluation.probs[:9]}, np.arange(9) % 3, seed=1)) == 4


def test_contrasts_give_each_metric_its_examples() -> None:
    """Values and differences in one table, those without verdicts by the stratified bootstrap."""
    evaluation = mixed(8, 300, 100)
    new = Evaluation(jittered(evaluation, 1), evaluation.labels)
    metrics = (ACCURACY, OOS_AUROC, OOS_AUPR, OOS_FPR95, ECE)
    rows = contrasts([Pair("a", evaluation, new)], metrics)
    for row, metric in zip(rows, metrics, strict=True):
        assert row.base == pytest.approx(metric.evaluate(metric.of(evaluation)))
        assert row.value == pytest.approx(metric.evaluate(metric.of(new)))
        assert row.difference.value == pytest.approx(row.value - row.base)
        assert (row.tested is not None) == (metric in (ACCURACY, OOS_AUROC))
        assert row.difference.low is not None
        assert row.difference.high is not None
        assert row.difference.low <= row.difference.value <= row.difference.high
    inside = Evaluation(new.probs, np.zeros(400, dtype=np.int64))
    nothing = describe([OOS_AUPR], [Pair("a", inside, inside)], seed=0)["a", "oos_aupr"]
    assert nothing.value is None


# --- in a record -------------------------------------------------------------------------------------------


def test_a_record_has_detection_by_every_score() -> None:
    """The largest probability under the plain name, every other score beside it; the rest is in scope."""
    evaluation = scored(mixed(9, 200, 50))
    names = ["accuracy", "ece", "oos_auroc", "oos_fpr95"]
    metrics = select_metrics(names, posterior_known=False, out_of_scope=True)
    values = metric_values(metrics, evaluation, seed=0)
    assert list(values) == [
        "accuracy",
        "ece",
        "ece_noise_floor",
        *(f"{kind}{score}" for kind in names[2:] for score in ("", ".entropy", ".energy")),
    ]
    scope = evaluation.in_scope()
    assert values["accuracy"]["value"] == ACCURACY.evaluate(scope)
    assert values["oos_auroc.energy"]["definition"]["score"] == "energy"
    assert values["oos_auroc"]["low"] < values["oos_auroc"]["value"] < values["oos_auroc"]["high"]
    alone = metric_values(metrics[:2], scope, seed=0)
    assert {name: values[name] for name in alone} == alone


def test_plain_names_go_by_the_score_of_the_method() -> None:
    """Where there is one; the record says which, and keeps the largest probability beside it."""
    plain = scored(mixed(9, 200, 50))
    own = replace(plain, score="energy")
    metrics = select_metrics(["oos_auroc", "oos_aupr"], posterior_known=False, out_of_scope=True)
    values, others = metric_values(metrics, own, seed=0), metric_values(metrics, plain, seed=0)
    assert list(values) == [
        f"{kind}{score}"
        for kind in ("oos_auroc", "oos_aupr")
        for score in ("", ".max_probability", ".entropy")
    ]
    for kind in ("oos_auroc", "oos_aupr"):
        assert values[kind] == others[f"{kind}.energy"]
        assert values[f"{kind}.max_probability"] == others[kind]
    assert values["oos_auroc"]["definition"]["score"] == "energy"
    assert others["oos_auroc"]["definition"]["score"] == "max_probability"


def test_verdicts_go_by_the_score_of_the_method() -> None:
    """DeLong's test of its own score against the reference's largest probability, the probabilities same."""
    evaluation = mixed(12, 300, 120)
    beyond = evaluation.labels < 0
    score = beyond + np.random.default_rng(0).normal(size=420)
    own = Evaluation(evaluation.probs.copy(), evaluation.labels, None, {"s": score}, "s")
    pair = Pair("a", evaluation, own)
    found = {item.metric: item for item in compare_pairs([pair], resamples=20, seed=0)}
    difference, error = paired_auroc(
        placements(score, beyond), placements(1.0 - evaluation.probs.max(axis=1), beyond)
    )
    assert found["oos_auroc"].difference.value == pytest.approx(difference)
    assert found["oos_auroc"].p_value == pytest.approx(2 * norm.sf(abs(difference) / error))
    assert {found[metric.name].verdict for metric in FAMILY} == {"no difference shown"}
    twin = Pair("a", replace(own, scores={"s": score * (1.0 + 1e-9)}), own)
    itself = compare_pairs([twin], resamples=20, seed=0)[-1]
    assert (itself.difference.value, itself.p_value, itself.detectable) == (0.0, 1.0, None)
    rows = {row.metric.name: row for row in contrasts([pair], (OOS_AUPR, OOS_AUROC, AURC))}
    for metric in (OOS_AUPR, OOS_AUROC, AURC):
        assert rows[metric.name].value == pytest.approx(metric.evaluate(metric.of(own)))
        assert rows[metric.name].base == pytest.approx(metric.evaluate(metric.of(evaluation)))
