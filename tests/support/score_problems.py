"""Features of classes with known means and covariances, for scores that are fitted on features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from calibench.models.train_features import TrainFeatures
from calibench.types import FloatArray
from calibench_methods.scores.feature_scores import FeatureScore

FLAT = np.full((1, 2), 0.5)


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
