"""Scores of one pass: known answers of logits and of features, invariances, and what cannot be fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import entr, logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from calibench.errors import CalibenchError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.train_features import TrainFeatures
from calibench.types import FloatArray
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.scores.ddu import Ddu
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.feature_scores import FeatureScore
from calibench_methods.scores.gaussians import ByClass, Whitening, covariance
from calibench_methods.scores.knn import Knn
from calibench_methods.scores.mahalanobis import Mahalanobis
from calibench_methods.scores.max_logit import MaxLogit
from calibench_methods.scores.odin_temperature import OdinTemperature
from scenarios import labelled
from tiny_models import plan_of, sentences, tiny_checkpoint

SCORES: tuple[Any, ...] = (Energy, MaxLogit, OdinTemperature, Mahalanobis, Ddu, Knn)
FEATURE_SCORES = pytest.mark.parametrize("method", SCORES[3:])
GAUSSIAN = pytest.mark.parametrize(
    ("method", "params"), [(Mahalanobis, {}), (Mahalanobis, {"relative": True}), (Ddu, {"shrinkage": 0.3})]
)
FLAT = np.full((1, 2), 0.5)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


def problem(seed: int = 0, count: int = 90, width: int = 5, classes: int = 3) -> TrainFeatures:
    """Classes around means of their own, each with a covariance of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    mixing = np.eye(width) + 0.4 * rng.normal(size=(classes, width, width))
    means = 3.0 * rng.normal(size=(classes, width))
    features = means[labels] + np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(count, width)))
    return TrainFeatures(features.astype(np.float32), np.zeros((count, classes), np.float32), labels)


def points(seed: int = 1, count: int = 20, width: int = 5) -> NDArray[np.float32]:
    return (4.0 * np.random.default_rng(seed).normal(size=(count, width))).astype(np.float32)


def score(method: FeatureScore, train: TrainFeatures, at: NDArray[np.float32]) -> FloatArray:
    """The method's own score at some features, fitted on others."""
    method.learn(train)
    return method.of_features(torch.from_numpy(at), np.repeat(FLAT, len(at), axis=0))[method.score]


# --- all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCORES)
def test_the_probabilities_are_those_of_the_softmax(kind: Any, checkpoint: Checkpoint) -> None:
    """Bit by bit; the score is there under its name, a finite number for each text, and says so."""
    plan = plan_of(checkpoint, [*sentences(9)])
    method = kind(checkpoint)
    if method.needs_train:
        method.fit(labelled(checkpoint, 60))
    found = method.predict(plan, seed=0)
    assert np.array_equal(found.probs, Frequentist(checkpoint).predict(plan, seed=0).probs)
    assert kind.score_only
    values = found.scores[kind.score]
    assert values.shape == (9,)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert len(set(values)) == 9


# --- logits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        (Energy, {}, lambda f: -logsumexp(f, axis=1)),
        (Energy, {"temperature": 2.5}, lambda f: -2.5 * logsumexp(f / 2.5, axis=1)),
        (MaxLogit, {}, lambda f: -f.max(axis=1)),
        (OdinTemperature, {}, lambda f: 1 - softmax(f / 1000, axis=1).max(axis=1)),
        (OdinTemperature, {"temperature": 1.0}, lambda f: 1 - softmax(f, axis=1).max(axis=1)),
    ],
)
def test_scores_of_logits(kind: Any, params: dict[str, float], expected: Any, checkpoint: Checkpoint) -> None:
    """In the order of the plan, they are what scipy makes of the model's logits, in float64."""
    plan = plan_of(checkpoint, [*sentences(30)])
    logits = np.empty((30, 3))
    for batch in plan.batches:
        logits[batch.index] = Encoder(checkpoint)(batch).logits.numpy()
    found = kind(checkpoint, **params).predict(plan, seed=0).scores[kind.score]
    np.testing.assert_allclose(found, expected(logits), rtol=1e-12)


@pytest.mark.parametrize("kind", [Energy, OdinTemperature])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(kind: Any, value: float, checkpoint: Checkpoint) -> None:
    """It must be finite and above 0, and the message says what it was."""
    with pytest.raises(UsageError, match=rf"temperature is {value:g}, but must be finite and above 0"):
        kind(checkpoint, temperature=value)


# --- Gaussians ---------------------------------------------------------------------------------------------


def test_distances_are_those_of_scikit_learn(checkpoint: Checkpoint) -> None:
    """Squared distances by EmpiricalCovariance, of residuals within classes and, relative, of all."""
    train, at = problem(), points()
    means = np.stack([train.features[train.labels == c].mean(axis=0) for c in range(3)])
    within = EmpiricalCovariance(assume_centered=True).fit(train.features - means[train.labels])
    nearest = np.min([within.mahalanobis(at - mean) for mean in means], axis=0)
    np.testing.assert_allclose(score(Mahalanobis(checkpoint), train, at), nearest, rtol=1e-4)
    overall = EmpiricalCovariance().fit(train.features).mahalanobis(at)
    relative = score(Mahalanobis(checkpoint, relative=True), train, at)
    np.testing.assert_allclose(relative, nearest - overall, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shrinkage", [0.2, 1.0])
@pytest.mark.parametrize("count", [300, 9])
def test_densities_are_those_of_scipy(count: int, shrinkage: float, checkpoint: Checkpoint) -> None:
    """A mixture of normal densities, with more and with fewer texts per class than features."""
    train, at = problem(count=count), points()
    values = train.features.astype(np.float64)
    groups = [values[train.labels == c] for c in range(3)]
    own = [np.cov(group.T, bias=True) for group in groups]
    shared = sum(len(group) * matrix for group, matrix in zip(groups, own, strict=True)) / count
    parts = [
        np.log(len(group) / count)
        + multivariate_normal(group.mean(axis=0), (1 - shrinkage) * matrix + shrinkage * shared).logpdf(at)
        for group, matrix in zip(groups, own, strict=True)
    ]
    found = score(Ddu(checkpoint, shrinkage=shrinkage), train, at)
    np.testing.assert_allclose(found, -logsumexp(parts, axis=0), rtol=1e-4)


def test_the_entropy_stands_beside_the_density(checkpoint: Checkpoint) -> None:
    """The second score is the entropy of the softmax, in nats."""
    method = Ddu(checkpoint)
    method.fit(labelled(checkpoint, 30))
    found = method.predict(plan_of(checkpoint, [*sentences(7)]), seed=0)
    assert list(found.scores) == ["ddu", "entropy"]
    np.testing.assert_allclose(found.scores["entropy"], entr(found.probs).sum(axis=1), rtol=1e-12)


@GAUSSIAN
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_affine_maps_change_no_distance(method: Any, params: dict[str, Any], seed: int) -> None:
    """Mapping all features by h -> A h + b moves a density by log |det A| and a distance not at all."""
    checkpoint = CHECKPOINT
    rng = np.random.default_rng(seed)
    turn = np.eye(5) + 0.5 * np.tril(rng.normal(size=(5, 5)), -1)  # of determinant 1
    shift = rng.normal(size=5)
    train, at = problem(seed), points(seed)
    mapped = TrainFeatures(
        (2 * (train.features @ turn.T + shift)).astype(np.float32), train.logits, train.labels
    )
    before = score(method(checkpoint, **params), train, at)
    after = score(method(checkpoint, **params), mapped, (2 * (at @ turn.T + shift)).astype(np.float32))
    moved = 5 * np.log(2) if method is Ddu else 0.0
    np.testing.assert_allclose(after, before + moved, rtol=1e-3, atol=1e-3)


@GAUSSIAN
def test_dead_units_are_left_out(method: Any, params: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Features that never vary, and copies of others, change nothing but for a constant."""
    train, at = problem(), points()

    def wider(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.column_stack([values, np.zeros(len(values), np.float32), values[:, :2]])

    more = TrainFeatures(wider(train.features), train.logits, train.labels)
    chosen = method(checkpoint, **params)
    difference = score(chosen, more, wider(at)) - score(method(checkpoint, **params), train, at)
    assert chosen.learnt["rank"] == 5
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-3)
    assert method is Ddu or abs(difference.mean()) < 1e-3


@pytest.mark.parametrize("kind", [Mahalanobis, Ddu])
def test_features_that_do_not_vary_within_classes_are_refused(kind: Any, checkpoint: Checkpoint) -> None:
    """One text per class leaves no covariance: the error says to take more."""
    train = TrainFeatures(points(count=3), np.zeros((3, 3), np.float32), np.arange(3))
    with pytest.raises(CalibenchError, match="take more training texts per class"):
        kind(checkpoint).learn(train)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_that_is_none_is_refused(value: float, checkpoint: Checkpoint) -> None:
    """Nothing, or more than all, is a usage error."""
    with pytest.raises(UsageError, match=rf"shrinkage is {value:g}, but must be above 0 and at most 1"):
        Ddu(checkpoint, shrinkage=value)


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The covariance is the same whatever the size of a block, and symmetric."""
    train = problem()
    groups = ByClass(train.features, train.labels)
    whole = covariance(train.features, groups.means, groups.place)
    monkeypatch.setattr("calibench_methods.scores.gaussians.BLOCK", 7)
    np.testing.assert_allclose(covariance(train.features, groups.means, groups.place), whole, rtol=1e-12)
    white = Whitening(groups.means[0], whole)
    moved = white(train.features) - white(groups.means)[groups.place]
    np.testing.assert_allclose(moved.T @ moved / len(moved), np.eye(white.rank), atol=1e-9)


# --- neighbours --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 90])
@pytest.mark.parametrize("block", [2**22, 20 * 13])
def test_neighbours_are_those_of_scikit_learn(
    k: int, block: int, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distance of the k-th neighbour by brute force, whatever the size of a block."""
    monkeypatch.setattr("calibench_methods.scores.knn.BLOCK", block)
    train, at = problem(), points()
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (train.features, at)]
    nearest = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(unit[0].astype(np.float64))
    expected = nearest.kneighbors(unit[1].astype(np.float64))[0][:, -1]
    np.testing.assert_allclose(score(Knn(checkpoint, k=k), train, at), expected, atol=1e-6)


def test_lengths_change_no_neighbour(checkpoint: Checkpoint) -> None:
    """Scaling training features and points, each by a number of its own, leaves distances as they are."""
    train, at = problem(), points()
    rng = np.random.default_rng(3)
    scale = 2.0 ** rng.integers(-3, 4, size=(len(train.features), 1)).astype(np.float32)
    scaled = TrainFeatures(train.features * scale, train.logits, train.labels)
    before = score(Knn(checkpoint, k=3), train, at)
    np.testing.assert_allclose(score(Knn(checkpoint, k=3), scaled, 8 * at), before, atol=1e-6)


def test_a_training_text_is_its_own_neighbour(checkpoint: Checkpoint) -> None:
    """At a training text the distance of the first neighbour is 0 to the last digits, not their half."""
    train = problem()
    assert score(Knn(checkpoint, k=1), train, train.features).max() < 1e-6


def test_more_neighbours_than_a_class_has_are_noted() -> None:
    """Beyond the smallest class the distance is that from other classes, and the record says so."""
    checkpoint = tiny_checkpoint()
    train, plan = labelled(checkpoint, 20), plan_of(checkpoint, ["the film"])
    train.labels[:] = [0] * 14 + [1] * 6
    notes = {}
    for k in (6, 7):
        method = Knn(checkpoint, k=k)
        method.fit(train)
        notes[k] = method.predict(plan, seed=0).notes
    assert notes == {6: (), 7: ("k is 7, but the smallest class has only 6 training texts.",)}


def test_more_neighbours_than_texts_are_refused(checkpoint: Checkpoint) -> None:
    """k above the number of training texts is an error that says both; k below 1 a usage error."""
    with pytest.raises(CalibenchError, match="k is 91, but there are only 90 training texts"):
        Knn(checkpoint, k=91).learn(problem())
    with pytest.raises(UsageError, match="k is 0, but must be at least 1"):
        Knn(checkpoint, k=0)


# --- features ----------------------------------------------------------------------------------------------


@FEATURE_SCORES
def test_what_is_far_from_every_class_scores_higher(method: Any, checkpoint: Checkpoint) -> None:
    """Points between the classes are told from points of the classes almost always."""
    rng = np.random.default_rng(0)
    means = 6.0 * np.eye(8)
    labels = np.arange(800) % 8
    train = TrainFeatures(
        (means[labels] + rng.normal(size=(800, 8))).astype(np.float32), np.zeros((800, 8)), labels
    )
    inside = means[labels[:200]] + rng.normal(size=(200, 8))
    outside = rng.normal(size=(200, 8)) + np.where(rng.random((200, 8)) < 0.5, -3.0, 3.0)
    found = score(method(checkpoint), train, np.concatenate([inside, outside]).astype(np.float32))
    assert roc_auc_score(np.repeat([False, True], 200), found) > 0.99


@FEATURE_SCORES
def test_predict_before_fit_is_an_error(method: Any, checkpoint: Checkpoint) -> None:
    """Without training data there is no score, and the error says what to call."""
    with pytest.raises(CalibenchError, match="call fit before predict"):
        method(checkpoint).predict(plan_of(checkpoint, ["the film"]), seed=0)


@FEATURE_SCORES
def test_classes_without_training_texts_are_noted(method: Any) -> None:
    """They take no part, and the record says how many they are; none is said where there are none."""
    checkpoint = tiny_checkpoint(classes=5)
    train = labelled(checkpoint, 200)
    plan = plan_of(checkpoint, [*sentences(4)])
    chosen = method(checkpoint)
    chosen.fit(train)
    assert chosen.predict(plan, seed=0).notes == ()
    train.labels[train.labels > 2] = 0
    chosen.fit(train)
    note = "2 of 5 classes have no training text and take no part in the score."
    assert chosen.predict(plan, seed=0).notes == (note,)


CHECKPOINT = tiny_checkpoint(classes=3)
