"""Scores of logits, against scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from calibench.errors import UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.max_logit import MaxLogit
from calibench_methods.scores.odin_temperature import OdinTemperature
from tiny_models import plan_of, sentences, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(classes=3)


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
