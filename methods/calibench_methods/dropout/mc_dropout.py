"""MC-Dropout with every training-time dropout site live: the mean of T stochastic passes.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). Live means all that `module.train()`
makes random, attention dropout included, and nothing else: see `calibench_methods.sampling.sites`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.passes import at_least, predict_passes
from calibench.types import Batch, Plan, Predictive
from calibench_methods.sampling.live import LiveDropout, seeded
from calibench_methods.sampling.sites import measure_coverage, require_sites


class McDropout(Method):
    """T passes over each batch, one after the other, before the next batch.

    Masks come from torch's generators after one `torch.manual_seed(seed)`, in the order: for each batch,
    for each pass. The logits are bit for bit those of such a loop under `module.train()`. Another batch
    plan therefore gives other draws of the same law.

    Args:
        checkpoint: the model; the method works on a twin of it.
        passes: T, at least 1.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.

    Raises:
        UsageError: `passes` is below 1.
        RefusedError: the model has no dropout, or its probabilities are all 0.
    """

    def __init__(self, checkpoint: Checkpoint, *, passes: int = 20, keep_samples: bool = True) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._keep_samples = keep_samples
        self._device = checkpoint.device
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs, method="mc-dropout")
        self._module = checkpoint.twin()
        LiveDropout(self._module, sites)
        self.coverage = measure_coverage(self._module, sites, inputs)
        self.modules = (self._module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        with torch.inference_mode(), seeded(seed, self._device):
            return predict_passes(plan, self._logits, keep_samples=self._keep_samples)

    def _logits(self, batch: Batch) -> Tensor:
        return torch.stack([self._module(**batch.inputs).logits for _ in range(self.passes)])
