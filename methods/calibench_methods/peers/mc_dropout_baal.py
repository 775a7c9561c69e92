"""MC-Dropout through BaaL's `patch_module`, as the study ran it: the mean of T passes in a loop.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Atighehchian et al., "Bayesian active learning for production" (2020), on Gal and Ghahramani (ICML 2016).
`patch_module` replaces `nn.Dropout` children by an always-on dropout. Attention dropout that a model computes
as a function, as transformers 5 does, stays off: `coverage` says which sites are live.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from calibench.errors import CalibenchError, RefusedError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.passes import at_least, predict_passes
from calibench.types import Batch, Coverage, Plan, Predictive
from calibench_methods.sampling.live import seeded
from calibench_methods.sampling.sites import measure_coverage, require_sites


class McDropoutBaal(Method):
    """T passes of a BaaL-patched model over each batch, one after the other, before the next batch.

    Args:
        checkpoint: the model; the method patches a twin of it.
        passes: T, at least 1.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.

    Raises:
        UsageError: `passes` is below 1.
        RefusedError: the model has no dropout, or BaaL's patch reaches none of it.
        CalibenchError: BaaL is not installed.
    """

    def __init__(self, checkpoint: Checkpoint, *, passes: int = 20, keep_samples: bool = True) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._keep_samples = keep_samples
        self._device = checkpoint.device
        patch_module = load_patch_module()
        self.coverage = baal_coverage(checkpoint)
        self._module = patch_module(checkpoint.twin())
        self.modules = (self._module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        with torch.inference_mode(), seeded(seed, self._device):
            return predict_passes(plan, self._logits, keep_samples=self._keep_samples)

    def _logits(self, batch: Batch) -> Tensor:
        return torch.stack([self._module(**batch.inputs).logits for _ in range(self.passes)])


def load_patch_module() -> Callable[[nn.Module], nn.Module]:
    """BaaL's `patch_module`.

    Raises:
        CalibenchError: BaaL is not installed.
    """
    try:
        from baal.bayesian.dropout import patch_module
    except ImportError as error:
        raise CalibenchError(
            f'This method needs BaaL, which could not be imported ({error}); run: pip install "baal>=2.0"'
        ) from error
    patch: Callable[[nn.Module], nn.Module] = patch_module
    return patch


def baal_coverage(checkpoint: Checkpoint, *, method: str = "mc-dropout-baal") -> Coverage:
    """Which sites are live on a twin of the checkpoint's model once BaaL has patched it, for a named method.

    Raises:
        RefusedError: none.
    """
    inputs = example_inputs(checkpoint)
    sites = require_sites(checkpoint, inputs, method=method)
    twin = checkpoint.twin()
    if any(isinstance(module, nn.Dropout | nn.Dropout2d) for module in twin.modules()):
        load_patch_module()(twin)
    coverage = measure_coverage(twin, sites, inputs)
    if coverage.active == 0:
        raise RefusedError(
            f"{method} runs BaaL's patch_module, which reaches none of the {coverage.expected} dropout sites "
            f"of {checkpoint.name} ({type(checkpoint.module).__name__}), so every pass would be the same; "
            "use mc-dropout."
        )
    return coverage
