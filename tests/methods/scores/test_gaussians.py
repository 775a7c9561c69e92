"""Gaussians of features: what changes no distance, and what there is no covariance of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibench.errors import CalibenchError
from calibench.models.checkpoint import Checkpoint
from calibench.models.train_features import TrainFeatures
from calibench_methods.scores.ddu import Ddu
from calibench_methods.scores.gaussians import ByClass, Whitening, covariance
from calibench_methods.scores.mahalanobis import Mahalanobis
from score_problems import points, problem, score
from tiny_models import tiny_checkpoint

CHECKPOINT = tiny_checkpoint(classes=3)
GAUSSIAN = pytest.mark.parametrize(
    ("method", "params"), [(Mahalanobis, {}), (Mahalanobis, {"relative": True}), (Ddu, {"shrinkage": 0.3})]
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
