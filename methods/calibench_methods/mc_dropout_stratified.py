"""MC-Dropout whose passes share out what they drop: stratified masks, exact in law, with less variance.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). Each pass alone has the law that it has
in `mc-dropout`. The passes of a stratum drop each unit equally often, up to rounding, which cancels what is
additive in the masks from the error of the mean; see docs/fast-mc-dropout.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from calibench.errors import UsageError
from calibench.keyed_dropout import KeyedDropout
from calibench.models import Checkpoint
from calibench.passes import at_least
from calibench.passes import standard_error as error_of_mean
from calibench.stochastic import example_inputs, require_sites
from calibench.types import Batch, FloatArray, IntArray, Plan, Predictive
from calibench_methods.mc_dropout_batch import McDropoutBatch

STANDARD_ERRORS = ("passes", "strata")


class McDropoutStratified(McDropoutBatch):
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
    ) -> None:
        strata = standard_error == "strata"
        super().__init__(
            checkpoint,
            passes=passes,
            memory_budget_mb=memory_budget_mb,
            keep_samples=keep_samples or strata,
        )
        self._size = at_least(1, "stratum_size", stratum_size)
        if standard_error not in STANDARD_ERRORS:
            raise UsageError(f"standard_error is {standard_error!r}: choose {' or '.join(STANDARD_ERRORS)}.")
        if strata and (passes < 2 * stratum_size or passes % stratum_size):
            raise UsageError(
                f"standard_error is 'strata', which takes two or more whole strata, but {passes} passes are "
                f"no multiple of {stratum_size} from {2 * stratum_size} on; change passes or stratum_size."
            )
        self._between = strata
        self._return_samples = keep_samples
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs)
        self._keyed = KeyedDropout(checkpoint.twin(), sites, stratum_size, inputs)
        self._module = self._keyed
        self.modules = (self._keyed,)
        self.coverage = self._keyed.coverage

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        self._rows, self._seed = plan.rows, seed
        predictive = super().predict(plan, seed=seed)
        if self._between and predictive.samples is not None:
            error = self._error_between(predictive.samples.astype(np.float64))
            predictive = replace(predictive, standard_error=error)
        return predictive if self._return_samples else replace(predictive, samples=None)

    def _error_between(self, samples: FloatArray) -> FloatArray | None:
        """Standard error of the predicted class's probability, from samples [T, N, C]."""
        means = samples.reshape(-1, self._size, *samples.shape[1:]).mean(axis=1)
        return error_of_mean(means.mean(axis=0), means.var(axis=0), len(means))

    def _measure(self, batch: Batch) -> None:
        # One copy of each text, where no two rows share a pattern: the most memory that a row can take.
        self._select(self._rows[batch.index][:8], 0, 1)
        super()._measure(batch)

    def _logits(self, batch: Batch) -> Tensor:
        rows = self._rows[batch.index]
        inputs = dict(batch.inputs)
        return torch.cat([self._block(inputs, rows, first, last) for first, last in self._ranges()])

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """First pass and end of what one forward pass may hold, memory aside: a stratum, or one copy."""
        for start in range(0, self.passes, self._size):
            stop = min(start + self._size, self.passes)
            step = 1 if self._keyed.shared else stop - start
            for first in range(start, stop, step):
                yield first, first + step

    def _block(self, inputs: dict[str, Tensor], rows: IntArray, first: int, last: int) -> Tensor:
        """Logits [last - first, B, C] of passes first ... last - 1 of one stratum, in chunks that fit."""
        copies, texts, length = last - first, len(rows), inputs["input_ids"].shape[1]
        total = copies * texts
        chunk = self._chunk(total, length)
        if chunk == total:
            self._select(rows, first, last)
            logits = self._try({name: value.repeat(copies, 1) for name, value in inputs.items()})
            if logits is not None:
                return logits.view(copies, texts, -1)
            self._halve(total, length)
            return self._block(inputs, rows, first, last)
        # Texts before copies: copies of one text share their random numbers, which then are made once.
        pieces = math.ceil(total / chunk)
        if texts > 1:
            parts = [
                self._block({name: value[some] for name, value in inputs.items()}, rows[some], first, last)
                for some in _slices(0, texts, min(texts, pieces))
            ]
            return torch.cat(parts, dim=1)
        ranges = _slices(first, last, min(copies, pieces))
        return torch.cat([self._block(inputs, rows, some.start, some.stop) for some in ranges])

    def _select(self, rows: IntArray, first: int, last: int) -> None:
        stratum, copy = divmod(first, self._size)
        self._keyed.select(
            seed=self._seed,
            rows=rows,
            stratum=stratum,
            copies=range(copy, copy + last - first),
            device=self._device,
        )

    def _notes(self) -> tuple[str, ...]:
        basis = (
            "from the means of strata"
            if self._between
            else "from passes as if independent, which is conservative"
        )
        return (*super()._notes(), f"Strata of {self._size} passes; standard errors are {basis}.")


def _slices(start: int, stop: int, parts: int) -> list[slice]:
    """`parts` slices of about equal length that cover start ... stop - 1."""
    edges = [start + (stop - start) * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
