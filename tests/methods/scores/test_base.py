"""A method that adds a score leaves the probabilities as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibench.models.checkpoint import Checkpoint
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.scores.ddu import Ddu
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.knn import Knn
from calibench_methods.scores.mahalanobis import Mahalanobis
from calibench_methods.scores.max_logit import MaxLogit
from calibench_methods.scores.odin_temperature import OdinTemperature
from scenarios import labelled
from tiny_models import plan_of, sentences, tiny_checkpoint

SCORES: tuple[Any, ...] = (Energy, MaxLogit, OdinTemperature, Mahalanobis, Ddu, Knn)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
