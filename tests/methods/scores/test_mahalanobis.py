"""Mahalanobis distances are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from calibench.models.checkpoint import Checkpoint
from calibench_methods.scores.mahalanobis import Mahalanobis
from score_problems import points, problem, score
from tiny_models import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
