"""Passes of MC-Dropout as rows of shared forward passes, as many at once as a memory budget allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from calibench.errors import CalibenchError, UsageError
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.passes import at_least, predict_passes
from calibench.models.plan import longest
from calibench.types import Batch, IntArray, Plan, Predictive
from calibench_methods.sampling.first_token import keep_first_token, last_attention
from calibench_methods.sampling.footprint import MIB, free_bytes, peak_bytes
from calibench_methods.sampling.keyed_dropout import KeyedDropout
from calibench_methods.sampling.sites import require_sites

# On a host, other processes share what is free, and running out of it is a kill.
SHARE_OF_DEVICE, SHARE_OF_HOST = 0.8, 0.25
# What kernels allocate for themselves is not seen on a host: 9% of the peak in DistilBERT's sdpa attention.
MARGIN = 1.1
# Positions (tokens times rows) beyond which a forward pass falls out of a CPU's caches and is slower for it.
MOST_POSITIONS = {"cpu": 4096}

Inputs = Mapping[str, Tensor]


class Copies:
    """A checkpoint's model with keyed dropout, run on copies of texts.

    What a row needs is measured: by a forward pass that is thrown away, whenever a longer text comes than any
    before. If a device runs out of memory all the same, the chunk is halved, `notes` say so, and it goes on.

    Where a mask has no batch axis (DeBERTa-v2's `pos_dropout`), all rows of a forward pass share it, and
    copies would not be independent: such a model runs one copy at a time, and `notes` say so.

    Args:
        checkpoint: the model; a twin of it is used.
        method: whom an error names.
        stratum: how many passes one draw of masks serves: 1 to 31, or 1 to 16 independent ones.
        independent: whether the passes of a stratum are independent, instead of sharing out what they drop.
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 means a share of what is free now,
            80% on a CUDA device and 25% on a host.
        first_token: leave out, in the last block, what only other tokens than the first need, where the
            model reads that one alone.
        dtype: as of `Checkpoint.twin`.

    Raises:
        UsageError: a size is out of range.
        RefusedError: the model has no dropout, or draws in a way that keyed masks cannot answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        method: str = "MC-Dropout in copies",
        stratum: int,
        independent: bool,
        memory_budget_mb: int = 0,
        first_token: bool = False,
        dtype: str = "same",
    ) -> None:
        self._device = checkpoint.device
        self._stated = at_least(0, "memory_budget_mb", memory_budget_mb) > 0
        self._budget = memory_budget_mb * MIB if self._stated else _default_budget(self._device)
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs, method=method)
        twin = checkpoint.twin(dtype)
        self._first_token = first_token and keep_first_token(twin, inputs)
        self.module = KeyedDropout(
            twin,
            sites,
            stratum,
            inputs,
            independent=independent,
            first_row_at=last_attention(twin, inputs) if self._first_token else None,
            method=method,
        )
        self.coverage = self.module.coverage
        self._measured_length = 0
        self._bytes_per_position = math.nan
        self._most_positions: float = MOST_POSITIONS.get(self._device.type, math.inf)
        self._shortages: list[str] = []

    def predict(self, plan: Plan, passes: int, *, seed: int, keep_samples: bool) -> Predictive:
        """The mean of so many passes over every text of a plan, with `notes`.

        Raises:
            UsageError: one text alone takes more than the stated budget.
            CalibenchError: the device's memory does not suffice for one text.
        """

        def logits(batch: Batch) -> Tensor:
            return self.logits(batch.inputs, plan.rows[batch.index], range(passes), seed=seed)

        batch = longest(plan)
        self.measure(batch.inputs, plan.rows[batch.index])
        return replace(predict_passes(plan, logits, keep_samples=keep_samples), notes=self.notes())

    def logits(self, inputs: Inputs, rows: IntArray, passes: range, *, seed: int) -> Tensor:
        """The logits of some passes over a batch.

        Args:
            inputs: of B texts, tensors [B, L].
            rows: int64 [B], data set rows: masks are keyed by them.
            passes: consecutive numbers of passes, from 0.
            seed: of all masks.

        Returns:
            [T, B, C] in the model's dtype on its device, T = len(passes).

        Raises:
            UsageError: one text alone takes more than the stated budget.
            CalibenchError: the device's memory does not suffice for one text.
        """
        with torch.inference_mode():
            self.measure(inputs, rows)
            step = 1 if self.module.shared else len(passes)
            return torch.cat(
                [
                    self._block(inputs, rows, passes[first : first + step], seed)
                    for first in range(0, len(passes), step)
                ]
            )

    def most_rows(self, length: int) -> int:
        """How many rows of so many tokens one forward pass may hold, as far as was measured."""
        positions = min(self._budget / self._bytes_per_position, self._most_positions)
        return max(1, int(positions // length))

    def notes(self) -> tuple[str, ...]:
        """Sentences for the record."""
        source = "as stated" if self._stated else "from what was free"
        notes = [f"Copies share forward passes within {self._budget // MIB} MiB, {source}."]
        shared = self.module.shared
        if shared:
            notes = [
                f"One copy per forward pass: the masks of {len(shared)} sites ({shared[0]}, ...) have no "
                "batch axis, and copies would share them."
            ]
        if self._first_token:
            notes.append("Behind the last attention only the first token is computed: no other is read.")
        return (*notes, *self._shortages)

    def measure(self, inputs: Inputs, rows: IntArray) -> None:
        """Measure what a position (one token of one row) needs, if no text of this length was met before.

        Memory per row grows at least in proportion to the length, so that the longest batch's need per
        position bounds every shorter one's: show the longest one first.

        Args:
            inputs, rows: as of `logits`.

        Raises:
            UsageError: one text alone takes more than the stated budget.
        """
        length = inputs["input_ids"].shape[1]
        if length <= self._measured_length:
            return
        # One copy of each text, where no two rows share a pattern: the most memory that a row can take.
        few = {name: value[:8] for name, value in inputs.items()}
        self.module.select(seed=0, rows=rows[:8], passes=range(1), device=self._device)
        with torch.inference_mode():
            if self._device.type == "cuda":
                self.module(**few)  # cuBLAS takes its workspace in the first pass and keeps it
            peak = peak_bytes(lambda: self.module(**few), self._device)
        self._bytes_per_position = MARGIN * peak / few["input_ids"].numel()
        self._measured_length = length
        if self._stated and self._bytes_per_position * length > self._budget:
            raise UsageError(
                f"memory_budget_mb is {self._budget // MIB}, but one text of {length} tokens takes "
                f"{math.ceil(self._bytes_per_position * length / MIB)} MiB; allow at least that much."
            )

    def _block(self, inputs: Inputs, rows: IntArray, passes: range, seed: int) -> Tensor:
        """Logits [T, B, C], in chunks that fit."""
        copies, texts, length = len(passes), len(rows), inputs["input_ids"].shape[1]
        total = copies * texts
        if total <= self.most_rows(length):
            self.module.select(seed=seed, rows=rows, passes=passes, device=self._device)
            logits = self._try({name: value.repeat(copies, 1) for name, value in inputs.items()})
            if logits is not None:
                return logits.view(copies, texts, -1)
            self._halve(total, length)
            return self._block(inputs, rows, passes, seed)
        pieces = math.ceil(total / self.most_rows(length))
        # Texts before copies: copies of one text share their random numbers, which then are made once.
        if texts > 1:
            parts = [
                self._block({name: value[some] for name, value in inputs.items()}, rows[some], passes, seed)
                for some in _slices(texts, min(texts, pieces))
            ]
            return torch.cat(parts, dim=1)
        return torch.cat(
            [self._block(inputs, rows, passes[some], seed) for some in _slices(copies, min(copies, pieces))]
        )

    def _try(self, inputs: dict[str, Tensor]) -> Tensor | None:
        """The logits, or None if memory ran out; what the failed pass held is free on return."""
        try:
            logits: Tensor = self.module(**inputs).logits
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


def _slices(count: int, parts: int) -> list[slice]:
    """`parts` slices of about equal length that cover 0 ... count - 1."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _default_budget(device: torch.device) -> int:
    share = SHARE_OF_DEVICE if device.type == "cuda" else SHARE_OF_HOST
    return max(MIB, int(share * free_bytes(device)))
