"""MC-Dropout by duplicating the batch: as many passes in one forward as a memory budget allows.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). T copies of a batch of B examples are
T * B rows, each with masks of its own, so that every pass has the law that it has in `mc-dropout`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from calibench.errors import CalibenchError, UsageError
from calibench.footprint import free_bytes, peak_bytes
from calibench.models import Checkpoint
from calibench.passes import at_least, predict_passes
from calibench.stochastic import (
    LiveDropout,
    example_inputs,
    measure_coverage,
    require_sites,
    seeded,
    sites_without_batch_axis,
)
from calibench.types import Batch, Method, Plan, Predictive

MIB = 2**20
# On a host, other processes share what is free, and running out of it is a kill.
SHARE_OF_DEVICE, SHARE_OF_HOST = 0.8, 0.25
# What kernels allocate for themselves is not seen on a host: 9% of the peak in DistilBERT's sdpa attention.
MARGIN = 1.1


class McDropoutBatch(Method):
    """T copies of each batch, in as few forward passes as fit.

    What a row needs is measured: by a forward pass that is thrown away, whenever a plan has a longer batch
    than any before. If a device runs out of memory all the same, the chunk is halved, `notes` say so, and
    the run goes on.

    Masks come from torch's generators after one `torch.manual_seed(seed)`. The same seed gives the same
    result for the same batches and budget, and otherwise other draws of the same law.

    Where a mask has no batch axis (DeBERTa-v2's `pos_dropout`), all rows of a forward pass share it, and
    duplicated copies would not be independent: such a model runs one copy at a time, and `notes` say so.

    Args:
        checkpoint: the model; the method works on a twin of it.
        passes: T, at least 1.
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 means a share of what is free when
            the method is made, 80% on a CUDA device and 25% on a host.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.

    Raises:
        UsageError: `passes` is below 1 or `memory_budget_mb` below 0.
        RefusedError: the model has no dropout, or its probabilities are all 0.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        memory_budget_mb: int = 0,
        keep_samples: bool = True,
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._keep_samples = keep_samples
        self._device = checkpoint.device
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs)
        self._shared_sites = sites_without_batch_axis(checkpoint.module, inputs)
        self._module = checkpoint.twin()
        LiveDropout(self._module, sites)
        self.coverage = measure_coverage(self._module, sites, inputs)
        self.modules = (self._module,)
        self._stated = at_least(0, "memory_budget_mb", memory_budget_mb) > 0
        self._budget = memory_budget_mb * MIB if self._stated else _default_budget(self._device)
        self._measured_length = 0
        self._bytes_per_position = math.nan
        self._most_positions = math.inf
        self._shortages: list[str] = []

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        with torch.inference_mode():
            with seeded(seed, self._device):
                self._measure(max(plan.batches, key=_length))
            with seeded(seed, self._device):
                predictive = predict_passes(plan, self._logits, keep_samples=self._keep_samples)
        return replace(predictive, notes=self._notes())

    def _measure(self, batch: Batch) -> None:
        """Measure what a position (one token of one row) needs, at the length of `batch`.

        Memory per row grows at least in proportion to the length, so that the longest batch's need per
        position bounds every shorter one's.
        """
        length = _length(batch)
        if length <= self._measured_length:
            return
        few = {name: value[:8] for name, value in batch.inputs.items()}
        if self._device.type == "cuda":
            self._module(**few)  # cuBLAS takes its workspace in the first pass and keeps it
        peak = peak_bytes(lambda: self._module(**few), self._device)
        self._bytes_per_position = MARGIN * peak / few["input_ids"].numel()
        self._measured_length = length
        if self._stated and self._bytes_per_position * length > self._budget:
            raise UsageError(
                f"memory_budget_mb is {self._budget // MIB}, but one text of {length} tokens takes "
                f"{math.ceil(self._bytes_per_position * length / MIB)} MiB; allow at least that much."
            )

    def _logits(self, batch: Batch) -> Tensor:
        size, length = len(batch), _length(batch)
        total = self.passes * size
        # Copy after copy: row r is example r % B of copy r // B.
        example = torch.arange(total, device=self._device) % size
        logits: list[Tensor] = []
        start = 0
        while start < total:
            end = (start // size + 1) * size if self._shared_sites else total
            rows = self._chunk(end - start, length)
            chosen = example[start : start + rows]
            chunk = self._try({name: value[chosen] for name, value in batch.inputs.items()})
            if chunk is None:
                self._halve(rows, length)
                continue
            logits.append(chunk)
            start += rows
        return torch.cat(logits).view(self.passes, size, -1)

    def _chunk(self, rows: int, length: int) -> int:
        """How many of the next `rows` rows to run at once: chunks of about equal size that fit."""
        positions = min(self._budget / self._bytes_per_position, self._most_positions)
        most = max(1, int(positions // length))
        return math.ceil(rows / math.ceil(rows / most))

    def _try(self, inputs: dict[str, Tensor]) -> Tensor | None:
        """The logits, or None if memory ran out; what the failed pass held is free on return."""
        try:
            logits: Tensor = self._module(**inputs).logits
        except torch.OutOfMemoryError:
            return None
        return logits

    def _halve(self, rows: int, length: int) -> None:
        if rows == 1:
            raise CalibenchError(
                f"Out of memory on {self._device} with a single text of {length} tokens; free some of it, or "
                "run on another device."
            )
        self._most_positions = rows // 2 * length
        self._shortages.append(
            f"Out of memory at {rows} rows of {length} tokens; went on with at most {rows // 2}."
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _notes(self) -> tuple[str, ...]:
        source = "as stated" if self._stated else "from what was free"
        notes = [f"Copies share forward passes within {self._budget // MIB} MiB, {source}."]
        if self._shared_sites:
            notes = [
                f"One copy per forward pass: the masks of {len(self._shared_sites)} sites "
                f"({self._shared_sites[0]}, ...) have no batch axis, and copies would share them."
            ]
        return (*notes, *self._shortages)


def _length(batch: Batch) -> int:
    return batch.inputs["input_ids"].shape[1]


def _default_budget(device: torch.device) -> int:
    share = SHARE_OF_DEVICE if device.type == "cuda" else SHARE_OF_HOST
    return max(MIB, int(share * free_bytes(device)))
