"""One deterministic forward pass: the softmax of the logits, as the model is served today.

    p(y | x) = softmax(f(x)), with dropout off.

The reference that every other method's cost and calibration are compared with.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, dtype_notes
from calibench.models.passes import predict_passes
from calibench.types import Batch, Plan, Predictive


class Frequentist(Method):
    """The softmax of one forward pass in eval mode; the seed has no effect.

    Args:
        checkpoint: the model; the method works on a twin of it where it changes the dtype.
        dtype: of the weights and the forward pass, "same" as the checkpoint's or another; the softmax is
            taken in float64 whatever it is.

    Raises:
        UsageError: not a dtype.
    """

    portable: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "same") -> None:
        super().__init__(checkpoint)
        self._module = checkpoint.module if dtype == "same" else checkpoint.twin(dtype)
        self._notes = dtype_notes(checkpoint, dtype)
        self.modules = (self._module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        with torch.inference_mode():
            return predict_passes(plan, self._logits, keep_samples=False, notes=self._notes)

    def _logits(self, batch: Batch) -> Tensor:
        logits: Tensor = self._module(**batch.inputs).logits
        return logits[None]
