"""Distances to neighbours are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from calibench.errors import CalibenchError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.train_features import TrainFeatures
from calibench_methods.scores.knn import Knn
from scenarios import labelled
from score_problems import points, problem, score
from tiny_models import plan_of, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
