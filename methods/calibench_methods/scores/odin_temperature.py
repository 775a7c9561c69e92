"""The largest probability of a very flat softmax, one pass: ODIN's temperature without its perturbation.

    s(x) = 1 - max_y softmax(f(x) / T)_y.

Liang, Li and Srikant, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks"
(ICLR 2018). The small step along the input's gradient that ODIN also takes has no counterpart for tokens, and
costs a backward pass. Higher means less certain. The probabilities are those of the plain softmax: the score
is all that the method adds.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from calibench.models.checkpoint import Checkpoint
from calibench_methods.scores.logit_scores import LogitScore, above_zero


class OdinTemperature(LogitScore):
    """The score `odin`, between 0 and 1 - 1/C.

    Args:
        checkpoint: the model.
        temperature: T, above 0; 1000 in the paper.

    Raises:
        UsageError: `temperature` is not above 0.
        RefusedError: the logits are not the output of a linear layer of one vector per text.
    """

    score: ClassVar[str] = "odin"

    def __init__(self, checkpoint: Checkpoint, *, temperature: float = 1000.0) -> None:
        super().__init__(checkpoint)
        self._temperature = above_zero("temperature", temperature)

    def of_logits(self, logits: Tensor) -> Tensor:
        return 1.0 - (logits / self._temperature).softmax(dim=-1).amax(dim=-1)
