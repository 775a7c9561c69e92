"""What every score of features keeps to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from calibench.errors import CalibenchError
from calibench.models.checkpoint import Checkpoint
from calibench.models.train_features import TrainFeatures
from calibench_methods.scores.ddu import Ddu
from calibench_methods.scores.knn import Knn
from calibench_methods.scores.mahalanobis import Mahalanobis
from scenarios import labelled
from score_problems import score
from tiny_models import plan_of, sentences, tiny_checkpoint

FEATURE_SCORES = pytest.mark.parametrize("method", [Mahalanobis, Ddu, Knn])


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
