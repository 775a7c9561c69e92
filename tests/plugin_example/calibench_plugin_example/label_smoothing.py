"""The deterministic softmax, mixed with the uniform distribution.

    p'(c) = (1 - a) p(c) + a / C

Temperature scaling repairs more; this is here as the smallest method there is.
"""

from __future__ import annotations

import numpy as np
import torch

from calibench import Batch, Method, Plan, Predictive, UsageError
from calibench.models import Checkpoint, map_batches


class LabelSmoothing(Method):
    """Smoothed softmax.

    Args:
        amount: a, from 0 to 1.
    """

    def __init__(self, checkpoint: Checkpoint, *, amount: float = 0.1) -> None:
        super().__init__(checkpoint)
        if not 0 <= amount <= 1:
            raise UsageError(f"amount is {amount}; expected a number from 0 to 1.")
        self.module = checkpoint.module
        self.amount = amount

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        def softmax(batch: Batch) -> torch.Tensor:
            with torch.inference_mode():
                return self.module(**batch.inputs).logits.double().softmax(-1)

        probs = map_batches(plan, softmax)
        smoothed = (1 - self.amount) * probs + self.amount / probs.shape[1]
        return Predictive(probs=smoothed, passes=np.ones(len(plan), dtype=np.int64))
