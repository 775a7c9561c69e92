"""Prediction sets: what is promised holds, on problems made for it; what cannot be promised is said."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibench.errors import UsageError
from calibench.posthoc.conformal import (
    KINDS,
    FittedSets,
    Recipe,
    fit_apart,
    fit_crossed,
    nonconformity,
    order_statistic,
    quantile,
    recipes,
    thresholds,
    uniforms,
)
from calibench.posthoc.folds import stratified_folds
from calibench.score.set_coverage import set_values
from calibench.types import FloatArray, IntArray

EVERY = pytest.mark.parametrize("kind", KINDS)


def problem(n: int, classes: int, seed: int, sharp: float = 2.0) -> tuple[FloatArray, IntArray]:
    """Probabilities, and labels drawn from flatter ones: the model is sure of itself beyond what it knows."""
    rng = np.random.default_rng(seed)
    logits = sharp * rng.normal(size=(n, classes))
    probs = np.exp(logits)
    truth = np.exp(logits / 2.0)
    probs, truth = (p / p.sum(axis=1, keepdims=True) for p in (probs, truth))
    labels = (truth.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
    return probs, labels


def covered(fitted: FittedSets, probs: FloatArray, labels: IntArray, uniform: FloatArray) -> np.ndarray:
    return fitted.sets(probs, uniform)[np.arange(len(labels)), labels]


@EVERY
@pytest.mark.parametrize(("classes", "n"), [(2, 24), (2, 500), (150, 500)])
def test_coverage_is_what_exchangeability_makes_it(kind: str, classes: int, n: int) -> None:
    """Over 25 splits of an overconfident model's examples, the counts of covered labels are beta-binomial.

    False alarms: the mean of 25 within 4 standard errors of k / (n + 1), 6e-5 per case and 6e-4 in all.
    """
    recipe, held_out, splits = Recipe(kind, 0.9), 200, 25
    shares = []
    for seed in range(splits):
        probs, labels = problem(n + held_out, classes, seed)
        u = uniforms(np.arange(n + held_out), seed)
        fitted = fit_apart(recipe, probs[:n], labels[:n], u[:n])
        shares.append(covered(fitted, probs[n:], labels[n:], u[n:]).mean())
    k = order_statistic(n, 0.9)
    law = stats.betabinom(held_out, k, n + 1 - k)
    error = law.std() / held_out / math.sqrt(splits)
    assert abs(np.mean(shares) - k / (n + 1)) < 4 * error


@EVERY
@pytest.mark.parametrize("classes", [2, 5])
def test_class_conditional_coverage_holds_in_every_class(kind: str, classes: int) -> None:
    """Where one threshold leaves classes behind, thresholds of their own do not; also cross-fitted.

    The last class is drawn where the model does not look, so that one threshold covers it far too seldom.
    False alarms: 21 classes, each within 4.5 standard errors of k / (n + 1) over its examples, below 1e-4.
    """
    count = 2000 * classes
    probs, labels = problem(count, classes, seed=5)
    rng = np.random.default_rng(6)
    labels = np.where(rng.random(count) < 0.3, classes - 1, labels)
    u = uniforms(np.arange(count), 7)
    fold = stratified_folds(labels, 5, seed=8)
    last = labels == classes - 1
    plain = fit_crossed(Recipe(kind), probs, labels, u, fold, 5)
    assert covered(plain, probs, labels, u)[last].mean() < 0.885
    half = rng.random(count) < 0.5
    own = fit_apart(Recipe(kind, class_conditional=True), probs[half], labels[half], u[half])
    found = covered(own, probs[~half], labels[~half], u[~half])
    for label in range(classes):
        mine = found[labels[~half] == label]
        size = min(len(mine), int((labels[half] == label).sum()))
        assert abs(mine.mean() - 0.9) < 4.5 * math.sqrt(2 * 0.09 / size) + 1 / size
    crossed = fit_crossed(Recipe(kind, class_conditional=True), probs, labels, u, fold, 5)
    shares = [covered(crossed, probs, labels, u)[labels == label].mean() for label in range(classes)]
    np.testing.assert_allclose(shares, 0.9, atol=0.015)


def test_cross_fitted_coverage_is_near_the_level_by_construction() -> None:
    """It varies far less than that of independent draws, which reports say, and is right on average.

    False alarms: the mean of 60 within 4 standard errors of its expectation, 6e-5.
    """
    shares, expected = [], []
    for seed in range(60):
        probs, labels = problem(500, 10, seed)
        u = uniforms(np.arange(500), seed)
        fitted = fit_crossed(Recipe("aps"), probs, labels, u, stratified_folds(labels, 5, seed=seed), 5)
        sets = fitted.sets(probs, u)
        values = set_values(sets, labels, [str(i) for i in range(10)], fitted, 0)
        shares.append(values["coverage"]["value"])
        expected.append(values["expected"])
        assert values["chance"]["low"] is None
    spread = np.std(shares, ddof=1)
    assert spread < 0.4 * math.sqrt(0.09 / 500)
    assert abs(np.mean(shares) - np.mean(expected)) < 4 * spread / math.sqrt(60) + 1e-3


def test_no_example_sets_its_own_threshold() -> None:
    """Other labels in a fold change the thresholds of all folds but that one."""
    probs, labels = problem(60, 3, seed=1)
    u, fold = uniforms(np.arange(60), 1), np.arange(60) % 5
    before = fit_crossed(Recipe("aps"), probs, labels, u, fold, 5)
    changed = np.where(fold == 0, probs.argmin(axis=1), labels)
    after = fit_crossed(Recipe("aps"), probs, changed, u, fold, 5)
    np.testing.assert_array_equal(before.thresholds[0].values, after.thresholds[0].values)
    for one, other in zip(before.thresholds[1:], after.thresholds[1:], strict=True):
        assert (one.values < other.values).all()


def slow_sets(
    kind: str, probs: FloatArray, u: FloatArray, tau: float, penalty: float, free: int
) -> np.ndarray:
    """The sets as the papers put them, label by label."""
    found = np.zeros(probs.shape, dtype=bool)
    for i, row in enumerate(probs):
        if kind == "lac":
            found[i] = [p >= 1 - tau for p in row]
            continue
        for y, p in enumerate(row):
            rho = sum(q for q in row if q > p)
            rank = 1 + sum(q > p for q in row)
            extra = penalty * max(0, rank - free) if kind == "raps" else 0.0
            found[i, y] = rho + p * u[i] + extra <= tau
    return found


@EVERY
def test_sets_are_those_of_the_papers(kind: str) -> None:
    """Against the definitions, one label at a time (Sadinle; Romano; Angelopoulos, equation 4)."""
    probs, labels = problem(120, 12, seed=3)
    u = uniforms(np.arange(120), 3)
    recipe = Recipe(kind, 0.8, raps_lambda=0.05, raps_k_reg=2)
    fitted = fit_apart(recipe, probs[:60], labels[:60], u[:60])
    tau = float(fitted.thresholds[0].values[0])
    expected = slow_sets(kind, probs[60:], u[60:], tau, 0.05, 2)
    np.testing.assert_array_equal(fitted.sets(probs[60:], u[60:]), expected)
    true = np.sort(nonconformity(recipe, probs[:60], u[:60])[np.arange(60), labels[:60]])
    assert tau == true[49 - 1]  # 61 * 0.8 = 48.8


def test_aps_is_that_of_romano_by_its_search_for_the_last_label() -> None:
    """Their equation 5: the L labels that reach the threshold, less the last of them at random."""
    probs, labels = problem(200, 6, seed=4)
    u = uniforms(np.arange(200), 4)
    fitted = fit_apart(Recipe("aps", 0.85), probs[:100], labels[:100], u[:100])
    tau = float(fitted.thresholds[0].values[0])
    for row, one, chosen in zip(probs[100:], u[100:], fitted.sets(probs[100:], u[100:]), strict=True):
        order = np.argsort(-row)
        total = row[order].cumsum()
        last = int(np.argmax(total >= tau))
        slack = (total[last] - tau) / row[order[last]]
        keep = order[: last + 1] if 1 - one >= slack else order[:last]
        assert set(np.flatnonzero(chosen)) == set(keep)


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_thresholds_are_those_of_mapie(kind: str) -> None:
    """And for "lac" the sets, on 10 levels; MAPIE draws its own uniform numbers, which are given to both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("mapie.classification")
        score = pytest.importorskip("mapie.conformity_scores")
    probs, labels = problem(331, 7, seed=9, sharp=1.0)

    class Given:
        """A classifier that looks its probabilities up."""

        classes_ = np.arange(7)

        def fit(self) -> None: ...
        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict_proba(self, rows: np.ndarray) -> FloatArray:
            return probs[np.asarray(rows)[:, 0].astype(int)]

        def predict(self, rows: np.ndarray) -> IntArray:
            return self.predict_proba(rows).argmax(axis=1)

    rows, levels = np.arange(331)[:, None], np.linspace(0.5, 0.95, 10)
    conformity = score.LACConformityScore() if kind == "lac" else score.APSConformityScore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.SplitConformalClassifier(
            Given(), confidence_level=levels, conformity_score=conformity, prefit=True, random_state=3
        )
        theirs.conformalize(rows[:200], labels[:200])
        _, sets = theirs.predict_set(rows[200:])
    # Their score takes u p(y) off the sum up to y: ours with 1 - u.
    u = 1.0 - np.random.RandomState(3).uniform(size=200)
    scores = nonconformity(Recipe(kind), probs[:200], u)[np.arange(200), labels[:200]]
    ours = [quantile(scores, level) for level in levels]
    np.testing.assert_allclose(
        theirs._mapie_classifier.conformity_score_function_.quantiles_, ours, atol=1e-12
    )
    if kind == "lac":
        expected = np.stack([probs[200:] >= 1 - tau for tau in ours], axis=2)
        # They never leave a set empty.
        filled = sets.astype(bool) & expected.any(axis=1, keepdims=True)
        np.testing.assert_array_equal(filled, expected)


@given(st.integers(0, 400), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_order_statistic_is_the_smallest_that_reaches_the_level(n: int, level: float) -> None:
    """k / (n + 1) >= level, and no smaller k does; exact where the product is a whole number."""
    k = order_statistic(n, level)
    assert k / (n + 1) >= level - 1e-12
    assert (k - 1) / (n + 1) < level
    assert Recipe("lac", level).needed == {0.5: 1, 0.8: 4, 0.9: 9, 0.95: 19, 0.99: 99}[level]


def test_too_few_examples_put_every_class_in_the_set() -> None:
    """Eight examples cannot promise 90%, nine can: the largest of their scores; none at all is no error."""
    probs, labels = problem(9, 4, seed=2)
    u = uniforms(np.arange(9), 2)
    assert fit_apart(Recipe("aps"), probs[:8], labels[:8], u[:8]).sets(probs, u).all()
    nine = fit_apart(Recipe("lac"), probs, labels, u)
    assert nine.thresholds[0].values[0] == (1 - probs[np.arange(9), labels]).max()
    assert fit_apart(Recipe("lac"), probs[:0], labels[:0], u[:0]).sets(probs, u).all()
    few = fit_crossed(Recipe("raps"), probs[:3], labels[:3], u[:3], np.arange(3), 5)
    values = set_values(few.sets(probs[:3], u[:3]), labels[:3], list("abcd"), few, 0)
    assert values["coverage"]["value"] == values["expected"] == 1.0
    assert values["mean_size"]["value"] == 4.0


@EVERY
def test_ties_cover_more_not_less(kind: str) -> None:
    """Probabilities of which there are three kinds: no label that ties with the threshold is left out."""
    rng = np.random.default_rng(0)
    forms = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    probs = forms[rng.integers(3, size=4000)]
    labels = (rng.random(4000) > probs[:, 0]).astype(np.int64)
    u = np.ones(4000)  # not random, so that scores tie
    fitted = fit_apart(Recipe(kind), probs[:2000], labels[:2000], u[:2000])
    assert covered(fitted, probs[2000:], labels[2000:], u[2000:]).mean() > 0.9


def test_rare_and_absent_classes_get_the_threshold_of_all() -> None:
    """Twenty rows of 150 classes: by class nothing can be promised: the sets are those of all."""
    probs, labels = problem(20, 150, seed=2)
    u = uniforms(np.arange(20), 2)
    by_class = fit_apart(Recipe("lac", class_conditional=True), probs, labels, u)
    plain = fit_apart(Recipe("lac"), probs, labels, u)
    np.testing.assert_array_equal(by_class.thresholds[0].values, plain.thresholds[0].values)
    assert not by_class.thresholds[0].own.any()
    many = np.concatenate([np.repeat([0, 1], 30), [2] * 8])
    scores = np.random.default_rng(1).random((68, 4))
    found = thresholds(Recipe("lac", class_conditional=True), scores, many)
    assert found.own.tolist() == [True, True, False, False]
    assert found.counts.tolist() == [30, 30, 68, 68]
    assert found.values[2] == found.values[3] == quantile(scores[np.arange(68), many], 0.9)


def test_twenty_examples_a_class_round_the_level_up() -> None:
    """CLINC's case: of 20 examples a class 16 set its threshold, which is expected to hold 16 of 17."""
    labels = np.repeat(np.arange(150), 20)
    probs = problem(3000, 150, seed=1)[0]
    u, fold = uniforms(np.arange(3000), 1), stratified_folds(labels, 5, seed=1)
    fitted = fit_crossed(Recipe("lac", class_conditional=True), probs, labels, u, fold, 5)
    assert all(item.own.all() and (item.counts == 16).all() for item in fitted.thresholds)
    values = set_values(fitted.sets(probs, u), labels, [str(i) for i in range(150)], fitted, 0)
    assert values["expected"] == pytest.approx(16 / 17)
    assert values["coverage"]["value"] == pytest.approx(16 / 17, abs=0.01)


def test_chance_holds_the_coverage_it_should() -> None:
    """Of 150 runs the range holds 95%, with and without thresholds per class.

    False alarms: 143 or 144 of 150 expected; 132 or fewer, or all of them, once in 300 runs.
    """
    for by_class in (False, True):
        recipe, inside = Recipe("lac", class_conditional=by_class), 0
        probs, labels = problem(160 * 150, 2, seed=3)
        for run in range(150):
            part = slice(160 * run, 160 * run + 80), slice(160 * run + 80, 160 * run + 160)
            u = np.zeros(80)
            fitted = fit_apart(recipe, probs[part[0]], labels[part[0]], u)
            sets = fitted.sets(probs[part[1]], u)
            values = set_values(sets, labels[part[1]], ["a", "b"], fitted, run)
            inside += values["chance"]["low"] <= values["coverage"]["value"] <= values["chance"]["high"]
        assert 132 < inside < 150


def test_out_of_scope_sets_no_threshold_and_counts_apart() -> None:
    """Its examples get sets, which neither coverage nor size in scope see."""
    probs, labels = problem(80, 3, seed=1)
    u, fold = uniforms(np.arange(80), 1), np.arange(80) % 5
    beyond = np.where(np.arange(80) < 20, -1, labels)
    fitted = fit_crossed(Recipe("aps"), probs, beyond, u, fold, 5)
    inner = fit_crossed(Recipe("aps"), probs[20:], labels[20:], u[20:], fold[20:], 5)
    assert fitted.examples == 60
    for one, other in zip(fitted.thresholds, inner.thresholds, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    sets = fitted.sets(probs, u)
    values = set_values(sets, beyond, list("abc"), fitted, 0)
    assert values["out_of_scope"]["n"] == 20
    assert values["out_of_scope"]["mean_size"]["value"] == sets[:20].sum(axis=1).mean()
    assert values["mean_size"]["value"] == sets[20:].sum(axis=1).mean()
    only = set_values(sets[:20], beyond[:20], list("abc"), fitted, 0)
    assert only["coverage"]["reason"] == "no such example was scored"
    assert only["worst_class"] is None


@EVERY
def test_sets_do_not_depend_on_order_or_company(kind: str) -> None:
    """An example's set is the same alone, in any order, and in a subset; numbers go by row and seed."""
    probs, labels = problem(50, 5, seed=1)
    rows = np.arange(50) * 7
    fitted = fit_crossed(Recipe(kind), probs, labels, uniforms(rows, 4), np.arange(50) % 5, 5)
    whole = fitted.sets(probs, uniforms(rows, 4))
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(fitted.sets(probs[order], uniforms(rows[order], 4), order), whole[order])
    one = np.array([17])
    np.testing.assert_array_equal(fitted.sets(probs[one], uniforms(rows[one], 4), one), whole[one])


def test_uniforms_are_uniform_and_seeded() -> None:
    """By a Kolmogorov-Smirnov test over rows, over seeds, and of no correlation between neighbours.

    False alarms: three tests at 1e-4.
    """
    rows = uniforms(np.arange(20000), 1)
    seeds = np.concatenate([uniforms(np.array([5]), seed) for seed in range(5000)])
    for drawn in (rows, seeds):
        assert stats.kstest(drawn, "uniform").pvalue > 1e-4
    assert stats.pearsonr(rows[1:], rows[:-1]).pvalue > 1e-4
    assert (rows >= 0).all()
    assert (rows < 1).all()
    assert not np.array_equal(rows, uniforms(np.arange(20000), 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lacs"}, "Unknown kind of prediction sets 'lacs'; choose from lac, aps, raps"),
        (
            {"kind": "lac", "level": 1.0},
            "level of prediction sets is 1; expected a probability between 0 and 1",
        ),
        ({"kind": "lac", "level": 90}, "is 90; expected"),
        ({"kind": "raps", "raps_lambda": -1}, "raps_lambda is -1"),
    ],
)
def test_what_cannot_be_made_is_refused(settings: dict[str, float | str], message: str) -> None:
    """In one sentence, naming the value."""
    with pytest.raises(UsageError, match=message):
        Recipe(**settings)  # type: ignore[arg-type]


def test_recipes_are_one_per_kind() -> None:
    """Repeats are left out; "raps" with no more classes than free ranks is "aps"."""
    assert [one.kind for one in recipes(["aps", "lac", "aps"], level=0.8)] == ["aps", "lac"]
    probs, u = problem(10, 5, seed=0)[0], uniforms(np.arange(10), 0)
    np.testing.assert_array_equal(
        nonconformity(Recipe("raps"), probs, u), nonconformity(Recipe("aps"), probs, u)
    )
