"""What the scores of logits share: one deterministic pass, its softmax, and a number beside it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from calibench.errors import UsageError
from calibench.models.encoder import Encoded
from calibench.types import FloatArray
from calibench_methods.scores.base import OnePassScores


def above_zero(name: str, value: float) -> float:
    """`value`, if it is finite and above 0.

    Raises:
        UsageError: it is not.
    """
    if not (value > 0.0 and math.isfinite(value)):
        raise UsageError(f"{name} is {value:g}, but must be finite and above 0.")
    return value


class LogitScore(OnePassScores):
    """A method that adds a score of the logits to the plain softmax; the seed has no effect."""

    def scores(self, encoded: Encoded, probs: FloatArray) -> Mapping[str, FloatArray]:  # noqa: ARG002
        return {self.score: self.of_logits(encoded.logits.to("cpu", torch.float64)).numpy()}

    @abstractmethod
    def of_logits(self, logits: Tensor) -> Tensor:
        """The score, float64 [B], of logits, float64 [B, C], on the CPU."""
