"""Post-hoc calibrators against planted answers and peers; cross-fitting that lets no example see itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from calibench.errors import RefusedError
from calibench.metrics.scoring import NLL
from calibench.posthoc import Calibrator, cross_fit, log_of, softmax, stratified_folds
from calibench.posthoc.dirichlet import Dirichlet
from calibench.posthoc.isotonic import Isotonic
from calibench.posthoc.temperature import CAP, Temperature
from calibench.posthoc.vector import VectorScaling
from calibench.registry import POSTHOC
from calibench.types import Evaluation, FloatArray, IntArray

EVERY = pytest.mark.parametrize("name", POSTHOC.names())
SEEDS = st.integers(0, 2**32 - 1)


def simulated(
    n: int, classes: int, *, temperature: float = 1.0, seed: int = 0
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Probabilities p [N, C], labels [N] drawn from p^(1/T) normalised, and that truth, [N, C]."""
    rng = np.random.default_rng(seed)
    truth = softmax(rng.normal(0.0, 2.0, (n, classes)))
    labels = (truth.cumsum(axis=1)[:, :-1] < rng.random((n, 1))).sum(axis=1)
    return softmax(temperature * np.log(truth)), labels.astype(np.int64), truth


def nll(probs: FloatArray, labels: IntArray) -> float:
    return NLL.evaluate(Evaluation(probs, labels))


def fitted(calibrator: Calibrator, probs: FloatArray, labels: IntArray) -> Calibrator:
    calibrator.fit(log_of(probs), labels)
    return calibrator


def calibrated(calibrator: Calibrator, probs: FloatArray) -> FloatArray:
    return calibrator.transform(log_of(probs))


def temperature_error(probs: FloatArray, temperature: float) -> float:
    """Asymptotic standard error of the fitted log T at the true T.

    By Fisher's information in 1/T, the mean variance of log p(label) under p^(1/T).
    """
    logs = log_of(probs)
    true = softmax(logs / temperature)
    mean = np.sum(true * logs, axis=1)
    information = np.mean(np.sum(true * logs**2, axis=1) - mean**2)
    return float(temperature / np.sqrt(len(probs) * information))


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("planted", [0.5, 1.0, 2.05])
def test_a_planted_temperature_is_recovered(planted: float, classes: int) -> None:
    """Over 40 data sets the fitted log T has the planted mean and the standard error of Fisher's information.

    False alarms: a mean within 5 standard errors and a spread within a factor of 0.5 to 1.7 (chi-squared with
    39 degrees of freedom), below 1e-5 for each of 6 cases.
    """
    scores = []
    for seed in range(40):
        probs, labels, _ = simulated(900, classes, temperature=planted, seed=seed)
        found = Temperature()
        found.fit(log_of(probs), labels)
        scores.append(np.log(found.temperature / planted) / temperature_error(probs, planted))
    assert abs(np.mean(scores)) < 5 / np.sqrt(len(scores))
    assert 0.5 < np.std(scores, ddof=1) < 1.7


@pytest.mark.parametrize("classes", [2, 7])
def test_temperature_is_the_minimum(classes: int) -> None:
    """No temperature on a fine grid around the fitted one gives a smaller loss."""
    probs, labels, _ = simulated(300, classes, temperature=1.7)
    found = Temperature()
    found.fit(log_of(probs), labels)
    losses = [
        nll(softmax(log_of(probs) / (found.temperature * np.exp(step))), labels)
        for step in (-0.01, -1e-4, 0.0, 1e-4, 0.01)
    ]
    assert np.argmin(losses) == 2


def test_separable_and_hopeless_labels_stop_at_the_caps() -> None:
    """Labels that are always the most probable class give T = 1/20, labels that never are give T = 20."""
    probs, _, _ = simulated(50, 4)
    for labels, expected in ((probs.argmax(axis=1), 1 / CAP), (probs.argmin(axis=1), CAP)):
        found = fitted(Temperature(), probs, labels)
        assert found.parameters == {"temperature": expected}
        assert np.isfinite(calibrated(found, probs)).all()


@EVERY
def test_probabilities_of_zero_and_one_are_no_obstacle(name: str) -> None:
    """Hard votes, labels that can be separated and a class without examples give finite probabilities."""
    probs = np.eye(2)[[0, 0, 0, 1, 0, 1]]
    for labels in (probs.argmax(axis=1), np.zeros(6, dtype=np.int64), np.array([0, 1, 0, 1, 0, 0])):
        found = calibrated(fitted(POSTHOC.load(name)(), probs, labels), probs)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("name", ["temperature", "vector", "dirichlet"])
def test_many_classes_with_few_examples_each(name: str) -> None:
    """With 60 classes, some without an example, the fit is finite and stays near the probabilities given."""
    probs, labels, _ = simulated(80, 60)
    found = calibrated(fitted(POSTHOC.load(name)(), probs, labels), probs)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert found.min() > 0


@pytest.mark.parametrize(
    ("name", "classes"),
    [*((name, 2) for name in POSTHOC.names()), ("temperature", 5), ("vector", 5), ("dirichlet", 5)],
)
def test_overconfidence_is_repaired(name: str, classes: int) -> None:
    """Cross-fitting on 1,000 overconfident predictions takes away nine tenths of their excess log-loss.

    The excess over the true probabilities is over .2 nats. Learning p parameters from 800 examples costs
    about p / 1600 nats, which is .002 for six of them and .019 for thirty.
    """
    probs, labels, truth = simulated(1000, classes, temperature=3.0)
    after = cross_fit(POSTHOC.load(name), probs, labels, seed=1).probs
    excess = nll(probs, labels) - nll(truth, labels)
    assert excess > 0.2
    assert nll(after, labels) - nll(truth, labels) < 0.1 * excess


@EVERY
def test_calibrated_predictions_are_hardly_changed(name: str) -> None:
    """Fitted on 20,000 calibrated predictions, a calibrator moves no group of probabilities by more than .03.

    The groups are tenths of the predictions by p(0). The standard error of a tenth's frequency is at most
    .5 / sqrt(2000) = .011; isotonic regression, the most flexible of the four, does not move further.
    """
    probs, labels, _ = simulated(20_000, 2)
    after = calibrated(fitted(POSTHOC.load(name)(), probs, labels), probs)
    for group in np.array_split(np.argsort(probs[:, 0]), 10):
        assert abs(after[group, 0].mean() - probs[group, 0].mean()) < 0.03


@given(SEEDS, st.floats(0.2, 5.0), st.integers(2, 6))
def test_temperature_keeps_the_order_of_classes(seed: int, planted: float, classes: int) -> None:
    """The most probable class stays so, in every fold, and the order of the others too."""
    probs, labels, _ = simulated(40, classes, temperature=planted, seed=seed)
    after = cross_fit(Temperature, probs, labels).probs
    np.testing.assert_array_equal(after.argmax(axis=1), probs.argmax(axis=1))
    by_before = np.take_along_axis(after, np.argsort(probs, axis=1), axis=1)
    assert (np.diff(by_before, axis=1) >= 0).all()


@EVERY
def test_a_label_has_no_say_in_its_own_probabilities(name: str) -> None:
    """Changing an example's label changes others' calibrated probabilities, and not a bit of its own."""
    probs, labels, _ = simulated(60, 2, temperature=2.0)
    fold = stratified_folds(labels, 5, seed=0)
    before = cross_fit(POSTHOC.load(name), probs, labels, fold=fold).probs
    for example in range(0, 60, 7):
        changed = labels.copy()
        changed[example] = 1 - changed[example]
        after = cross_fit(POSTHOC.load(name), probs, changed, fold=fold).probs
        np.testing.assert_array_equal(after[fold == fold[example]], before[fold == fold[example]])
        assert (after != before).any()


@EVERY
def test_order_of_examples_does_not_matter(name: str) -> None:
    """Permuting examples and folds together permutes the calibrated probabilities, up to rounding."""
    probs, labels, _ = simulated(90, 2, temperature=2.0)
    fold = stratified_folds(labels, 5, seed=0)
    order = np.random.default_rng(3).permutation(90)
    # Dirichlet's inner folds depend on the order; with one strength there are none.
    factory: Any = (lambda: Dirichlet(strengths=(0.1,))) if name == "dirichlet" else POSTHOC.load(name)
    straight = cross_fit(factory, probs, labels, fold=fold).probs
    permuted = cross_fit(factory, probs[order], labels[order], fold=fold[order]).probs
    np.testing.assert_allclose(permuted, straight[order], atol=1e-5)


@given(SEEDS, st.lists(st.integers(-1, 4), min_size=1, max_size=60), st.integers(2, 7))
def test_folds_are_balanced(seed: int, given_labels: list[int], count: int) -> None:
    """Fold sizes differ by one at most, and so do the counts of each label; the same seed gives the same."""
    labels = np.array(given_labels, dtype=np.int64)
    fold = stratified_folds(labels, count, seed=seed)
    np.testing.assert_array_equal(fold, stratified_folds(labels, count, seed=seed))
    for group in (np.ones(len(labels), dtype=bool), *(labels == label for label in set(given_labels))):
        sizes = np.bincount(fold[group], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_another_seed_gives_other_folds() -> None:
    """The assignment is drawn from the seed."""
    labels = np.arange(100) % 2
    assert (stratified_folds(labels, 5, seed=0) != stratified_folds(labels, 5, seed=1)).any()


class Remembering(Calibrator):
    """Keeps the predictions it was fitted on, and changes nothing."""

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        assert (labels >= 0).all()
        self.seen = {tuple(row) for row in log_probs.tolist()}

    def transform(self, log_probs: FloatArray) -> FloatArray:
        assert not self.seen & {tuple(row) for row in log_probs.tolist()}
        return softmax(log_probs)

    @property
    def parameters(self) -> dict[str, int]:
        return {"seen": len(self.seen)}


def test_no_calibrator_transforms_what_it_was_fitted_on() -> None:
    """Fits see all labelled examples outside the fold, none inside, and none out of scope."""
    probs, labels, _ = simulated(103, 3)
    labels[::10] = -1
    found = cross_fit(Remembering, probs, labels, seed=4)
    np.testing.assert_allclose(found.probs, probs, atol=1e-12)
    inside = [int(((labels >= 0) & (found.fold != k)).sum()) for k in range(5)]
    assert found.parameters == {"seen": inside}
    assert found.examples == (labels >= 0).sum()


def test_examples_out_of_scope_are_transformed_by_their_folds_calibrator() -> None:
    """An example without a label in scope is calibrated like the others of its fold."""
    probs, labels, _ = simulated(50, 3, temperature=2.0)
    labels[[3, 17]] = -1
    found = cross_fit(Temperature, probs, labels)
    for example in (3, 17):
        own = found.calibrators[found.fold[example]]
        np.testing.assert_array_equal(found.probs[[example]], calibrated(own, probs[[example]]))


def test_too_few_examples_are_refused() -> None:
    """Four labelled examples cannot be dealt into five folds."""
    probs, labels, _ = simulated(9, 2)
    labels[4:] = -1
    with pytest.raises(RefusedError, match="in 5 folds needs 5 labelled examples or more and got 4"):
        cross_fit(Temperature, probs, labels)


def test_isotonic_refuses_three_classes() -> None:
    """The refusal says what to use instead."""
    probs, labels, _ = simulated(20, 3)
    with pytest.raises(RefusedError, match="two classes and the model has 3; use temperature, vector or"):
        cross_fit(Isotonic, probs, labels)


def test_isotonic_is_scikit_learns() -> None:
    """The same regression on p(1), by its own function, with the levels bounded as documented."""
    probs, labels, _ = simulated(200, 2, temperature=2.0)
    fresh, _, _ = simulated(100, 2, temperature=2.0, seed=1)
    peer = IsotonicRegression(y_min=1 / 202, y_max=201 / 202, out_of_bounds="clip").fit(probs[:, 1], labels)
    found = calibrated(fitted(Isotonic(), probs, labels), fresh)
    np.testing.assert_allclose(found[:, 1], peer.predict(fresh[:, 1]), atol=1e-12)


def test_dirichlet_without_penalty_is_logistic_regression() -> None:
    """Without penalties the map is multinomial logistic regression on log p, as scikit-learn fits it."""
    probs, labels, _ = simulated(600, 3, temperature=2.0)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(log_of(probs), labels)
    found = calibrated(fitted(Dirichlet(strengths=(0.0,), prior=0.0), probs, labels), probs)
    np.testing.assert_allclose(found, peer.predict_proba(log_of(probs)), atol=1e-4)


def test_dirichlet_is_the_minimum_of_its_loss() -> None:
    """The published objective, minimised by another algorithm, gives the same probabilities."""
    probs, labels, _ = simulated(150, 3, temperature=2.0)
    logs, strength = log_of(probs), 0.02

    def loss(theta: FloatArray) -> float:
        W, b = theta[:9].reshape(3, 3), theta[9:]
        off_diagonal = W[~np.eye(3, dtype=bool)]
        odir = 6 * strength * np.mean(off_diagonal**2) + 3 * strength * np.mean(b**2)
        diagonal = np.sum((np.diag(W) - 1) ** 2) / (2 * 150)
        return nll(softmax(logs @ W.T + b), labels) + float(odir + diagonal)

    best = minimize(loss, np.concatenate([np.eye(3).ravel(), np.zeros(3)]), method="BFGS", tol=1e-6).x
    found = calibrated(fitted(Dirichlet(strengths=(strength,)), probs, labels), probs)
    np.testing.assert_allclose(found, softmax(logs @ best[:9].reshape(3, 3).T + best[9:]), atol=1e-4)


def test_dirichlet_chooses_a_weaker_penalty_where_classes_are_mixed_up() -> None:
    """Probabilities with two classes swapped need an off-diagonal map, calibrated ones do not."""
    probs, labels, _ = simulated(900, 3)
    straight = fitted(Dirichlet(), probs, labels).parameters
    swapped = fitted(Dirichlet(), probs[:, [1, 0, 2]], labels).parameters
    assert swapped["strength"] < straight["strength"]
    assert swapped["rms_off_diagonal"] > 10 * straight["rms_off_diagonal"]


def test_vector_scaling_without_prior_is_logistic_regression() -> None:
    """For two classes the map is logistic regression of the label on both log-probabilities."""
    probs, labels, _ = simulated(600, 2, temperature=2.0)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(log_of(probs), labels)
    found = calibrated(fitted(VectorScaling(prior=0.0), probs, labels), probs)
    np.testing.assert_allclose(found, peer.predict_proba(log_of(probs)), atol=1e-4)


def test_vector_scaling_is_the_minimum_of_its_loss() -> None:
    """The documented objective for five classes, minimised by another algorithm, gives the same numbers."""
    probs, labels, _ = simulated(150, 5, temperature=2.0)
    logs = log_of(probs)

    def loss(theta: FloatArray) -> float:
        scale, bias = theta[:5], theta[5:]
        prior = (np.sum((scale - 1) ** 2) + np.sum(bias**2)) / (2 * 150)
        return nll(softmax(logs * scale + bias), labels) + float(prior)

    best = minimize(loss, np.repeat([1.0, 0.0], 5), method="BFGS", tol=1e-6).x
    found = fitted(VectorScaling(), probs, labels).parameters
    np.testing.assert_allclose([*found["scale"], *found["bias"]], best, atol=1e-3)


@EVERY
def test_a_record_can_hold_the_parameters(name: str) -> None:
    """Parameters are JSON, of a size that does not grow with the examples."""
    from calibench.store.records import to_json

    probs, labels, _ = simulated(500, 2)
    assert len(to_json(cross_fit(POSTHOC.load(name), probs, labels).parameters)) < 1500


@EVERY
def test_summary_is_one_sentence(name: str) -> None:
    """The first line of the module's docstring, which `ls posthoc` prints, is a full sentence."""
    summary = POSTHOC.summary(name)
    assert summary.endswith(".")
    assert 20 < len(summary) < 110
