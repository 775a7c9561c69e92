"""The free energy of the logits, one pass: a score for what is out of scope.

    E(x) = -T log sum_y exp(f_y(x) / T).

Liu et al., "Energy-based Out-of-distribution Detection" (NeurIPS 2020). Higher means less certain. The
probabilities are those of the plain softmax: the score is all that the method adds.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from calibench.models.checkpoint import Checkpoint
from calibench_methods.scores.logit_scores import LogitScore, above_zero


class Energy(LogitScore):
    """The score `energy`, in units of the logits.

    Args:
        checkpoint: the model.
        temperature: T, above 0; the paper finds 1 to serve.

    Raises:
        UsageError: `temperature` is not above 0.
        RefusedError: the logits are not the output of a linear layer of one vector per text.
    """

    score: ClassVar[str] = "energy"

    def __init__(self, checkpoint: Checkpoint, *, temperature: float = 1.0) -> None:
        super().__init__(checkpoint)
        self._temperature = above_zero("temperature", temperature)

    def of_logits(self, logits: Tensor) -> Tensor:
        return -self._temperature * (logits / self._temperature).logsumexp(dim=-1)
