"""MC-Dropout whose passes share out what they drop: stratified masks, exact in law, with less variance.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). Each pass alone has the law that it has
in `mc-dropout`. The passes of a stratum drop each unit equally often, up to rounding, which cancels what is
additive in the masks from the error of the mean; see docs/fast-mc-dropout.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.models.passes import standard_error as error_of_mean
from calibench.types import FloatArray, Plan, Predictive
from calibench_methods.sampling.copies import Copies

STANDARD_ERRORS = ("passes", "strata")


class McDropoutStratified(Method):
    """T passes in strata, duplicated in a batch within a memory budget as in `mc-dropout-batch`.

    Masks are keyed by (seed, data set row, site, unit, stratum). Batches, chunks and padding behind the text
    therefore change no mask, and pass t is the same whatever T.

    The passes of a stratum are negatively correlated to first order, so the spread over passes says less than
    it does in `mc-dropout`. The standard error is one of

    - "passes": s / sqrt(T) with s the standard deviation over passes, as if they were independent. It ignores
      the negative covariance and is conservative unless interactions of the masks make up nearly all of the
      variance (more than stratum_size - 1 times the additive part).
    - "strata": from the means of two or more whole strata, which are independent. Its square is unbiased, but
      with G strata it has G - 1 degrees of freedom; it needs the samples, 4 T N C bytes, while it runs.

    Where a mask has no batch axis (DeBERTa-v2's `pos_dropout`), a forward pass holds one copy, and all texts
    share that mask in each copy; `notes` say so.

    Args:
        checkpoint: the model; the method works on a twin of it.
        passes: T, at least 1; the last stratum is left incomplete if need be.
        stratum_size: copies per stratum, 1 to 31; 1 makes passes independent. The additive part of the error
            cancels where stratum_size times the drop probability is a whole number, for each site.
        standard_error: "passes" or "strata".
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 means a share of what is free when
            the method is made, 80% on a CUDA device and 25% on a host.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.
        dtype: of the weights and the arithmetic before the softmax, or "same" for the checkpoint's.

    Raises:
        UsageError: a parameter is out of range, or "strata" is asked for without two or more whole strata.
        RefusedError: the model has no dropout, or draws in a way that masks cannot answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        stratum_size: int = 10,
        standard_error: str = "passes",
        memory_budget_mb: int = 0,
        keep_samples: bool = True,
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._size = at_least(1, "stratum_size", stratum_size)
        if standard_error not in STANDARD_ERRORS:
            raise UsageError(f"standard_error is {standard_error!r}: choose {' or '.join(STANDARD_ERRORS)}.")
        self._between = standard_error == "strata"
        if self._between and (passes < 2 * stratum_size or passes % stratum_size):
            raise UsageError(
                f"standard_error is 'strata', which takes two or more whole strata, but {passes} passes are "
                f"no multiple of {stratum_size} from {2 * stratum_size} on; change passes or stratum_size."
            )
        self._keep_samples = keep_samples
        self._copies = Copies(
            checkpoint,
            method="mc-dropout-stratified",
            stratum=stratum_size,
            independent=False,
            memory_budget_mb=memory_budget_mb,
            first_token=True,
            dtype=dtype,
        )
        self.coverage = self._copies.coverage
        self.modules = (self._copies.module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        kept = self._keep_samples or self._between
        predictive = self._copies.predict(plan, self.passes, seed=seed, keep_samples=kept)
        if self._between and predictive.samples is not None:
            error = self._error_between(predictive.samples.astype(np.float64))
            predictive = replace(predictive, standard_error=error)
        if not self._keep_samples:
            predictive = replace(predictive, samples=None)
        return replace(predictive, notes=(*predictive.notes, self._basis()))

    def _error_between(self, samples: FloatArray) -> FloatArray | None:
        """Standard error of the predicted class's probability, from samples [T, N, C]."""
        means = samples.reshape(-1, self._size, *samples.shape[1:]).mean(axis=1)
        return error_of_mean(means.mean(axis=0), means.var(axis=0), len(means))

    def _basis(self) -> str:
        basis = (
            "from the means of strata"
            if self._between
            else "from passes as if independent, which is conservative"
        )
        return f"Strata of {self._size} passes; standard errors are {basis}."
