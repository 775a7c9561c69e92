"""What the scores of logits share: one deterministic pass, its softmax, and a number beside it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from calibench.data.plan import map_batches
from calibench.encoder import Encoder
from calibench.errors import UsageError
from calibench.models import Checkpoint
from calibench.passes import checked_softmax
from calibench.types import Batch, FloatArray, Method, Plan, Predictive


def above_zero(name: str, value: float) -> float:
    """`value`, if it is finite and above 0.

    Raises:
        UsageError: it is not.
    """
    if not (value > 0.0 and math.isfinite(value)):
        raise UsageError(f"{name} is {value:g}, but must be above 0.")
    return value


class LogitScore(Method):
    """A method that adds a score of the logits to the plain softmax; the seed has no effect."""

    score: ClassVar[str]
    score_only: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._encoder = Encoder(checkpoint)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        def both(batch: Batch) -> FloatArray:
            logits = self._encoder(batch).logits.to("cpu", torch.float64)
            probs = checked_softmax(logits[None], plan.rows[batch.index])[0]
            return np.concatenate([probs, self.of_logits(logits).numpy()[:, None]], axis=1)

        joined = map_batches(plan, both)
        ones = np.ones(len(plan), dtype=np.int64)
        return Predictive(joined[:, :-1], passes=ones, scores={self.score: joined[:, -1].copy()})

    @abstractmethod
    def of_logits(self, logits: Tensor) -> Tensor:
        """The score, float64 [B], of logits, float64 [B, C], on the CPU."""
