"""The largest logit, one pass: a score for what is out of scope.

    s(x) = -max_y f_y(x).

Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings" (ICML 2022). Higher means
less certain. The probabilities are those of the plain softmax: the score is all that the method adds.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from calibench_methods.scores.logit_scores import LogitScore


class MaxLogit(LogitScore):
    """The score `max_logit`, the largest logit with its sign turned.

    Args:
        checkpoint: the model.

    Raises:
        RefusedError: the logits are not the output of a linear layer of one vector per text.
    """

    score: ClassVar[str] = "max_logit"

    def of_logits(self, logits: Tensor) -> Tensor:
        return -logits.amax(dim=-1)
