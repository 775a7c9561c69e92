"""Densities of features are those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import entr, logsumexp
from scipy.stats import multivariate_normal

from calibench.errors import UsageError
from calibench.models.checkpoint import Checkpoint
from calibench_methods.scores.ddu import Ddu
from scenarios import labelled
from score_problems import points, problem, score
from tiny_models import plan_of, sentences, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_that_is_none_is_refused(value: float, checkpoint: Checkpoint) -> None:
    """Nothing, or more than all, is a usage error."""
    with pytest.raises(UsageError, match=rf"shrinkage is {value:g}, but must be above 0 and at most 1"):
        Ddu(checkpoint, shrinkage=value)
