"""MC-Dropout by duplicating the batch: as many passes in one forward as a memory budget allows.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). T copies of a batch of B examples are
T * B rows, each with masks of its own, so that every pass has the law that it has in `mc-dropout`.
"""

from __future__ import annotations

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.types import Plan, Predictive
from calibench_methods.sampling.copies import Copies

#: Passes that one draw of masks serves.
DRAWN_TOGETHER = 10


class McDropoutBatch(Method):
    """T copies of each batch, in as few forward passes as fit.

    Masks are keyed by (seed, data set row, site, unit, pass). Batches, chunks, memory and padding behind the
    text therefore change no mask, and pass t is the same whatever T.

    Where a mask has no batch axis (DeBERTa-v2's `pos_dropout`), all rows of a forward pass share it, and
    duplicated copies would not be independent: such a model runs one copy at a time, and `notes` say so.

    Args:
        checkpoint: the model; the method works on a twin of it.
        passes: T, at least 1.
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 means a share of what is free when
            the method is made, 80% on a CUDA device and 25% on a host.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.
        dtype: of the weights and the arithmetic before the softmax, or "same" for the checkpoint's.

    Raises:
        UsageError: `passes` is below 1, `memory_budget_mb` below 0, or no such dtype.
        RefusedError: the model has no dropout, or draws in a way that keyed masks cannot answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        memory_budget_mb: int = 0,
        keep_samples: bool = True,
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._keep_samples = keep_samples
        self._copies = Copies(
            checkpoint,
            method="mc-dropout-batch",
            stratum=DRAWN_TOGETHER,
            independent=True,
            memory_budget_mb=memory_budget_mb,
            dtype=dtype,
        )
        self.coverage = self._copies.coverage
        self.modules = (self._copies.module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        return self._copies.predict(plan, self.passes, seed=seed, keep_samples=self._keep_samples)
