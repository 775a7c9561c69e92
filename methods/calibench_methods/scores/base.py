"""What scores of one deterministic pass share: the plain softmax, and numbers beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoded, Encoder
from calibench.models.passes import checked_softmax
from calibench.models.plan import map_batches
from calibench.types import Batch, FloatArray, Plan, Predictive


class OnePassScores(Method):
    """A method that adds scores of one pass to the plain softmax; the seed has no effect.

    Attributes:
        encoder: what makes the pass, shared with other methods where `calibench.models.sharing` lets it.
    """

    encoder: Encoder
    score: ClassVar[str]
    score_only: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.encoder = Encoder(checkpoint)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        names: list[str] = []

        def both(batch: Batch) -> FloatArray:
            encoded = self.encoder(batch)
            probs = checked_softmax(encoded.logits[None], plan.rows[batch.index])[0]
            scores = self.scores(encoded, probs)
            names[:] = scores
            return np.column_stack([probs, *scores.values()])

        joined = map_batches(plan, both)
        classes = joined.shape[1] - len(names)
        return Predictive(
            probs=np.ascontiguousarray(joined[:, :classes]),
            passes=np.ones(len(plan), dtype=np.int64),
            scores={name: joined[:, classes + i].copy() for i, name in enumerate(names)},
            notes=self.notes(),
        )

    @abstractmethod
    def scores(self, encoded: Encoded, probs: FloatArray) -> Mapping[str, FloatArray]:
        """Named scores, each float64 [B], of a pass and its softmax, float64 [B, C]."""

    def notes(self) -> tuple[str, ...]:
        """Sentences for the record."""
        return ()
