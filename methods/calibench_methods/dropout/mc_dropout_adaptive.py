"""MC-Dropout that spends passes where they count: stratified, and each text until one more would not pay.

    p(y | x) = 1/n(x) sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016). Each pass has the law that it has in
`mc-dropout`. How many there are is decided from the passes themselves, as in sequential estimation (Anscombe,
1953), so the mean has a bias of the order of the squared standard error; see docs/fast-mc-dropout.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, Side
from calibench.models.passes import at_least, checked_softmax
from calibench.models.plan import longest
from calibench.types import BoolArray, FloatArray, IntArray, Plan, Predictive
from calibench_methods.dropout.accuracy import error_of_mean, mask_correlation
from calibench_methods.dropout.allocation import estimated_spread, go_on, rungs
from calibench_methods.sampling.copies import Copies

TARGETS = ("mean", "each")
# Positions of a forward pass: below the first, padding costs less than a pass more; above the second, more at
# once is no faster.
POSITIONS = {"cpu": (2048, 4096), "cuda": (16_384, 131_072), "mps": (2048, 16_384)}


class McDropoutAdaptive(Method):
    """Passes in rungs of 2, 4, 10, 20, 40, ...; after each, the texts that are done leave.

    Those that stay are packed anew, texts of one length together, so that next to nothing is padding. Masks
    are keyed by (seed, data set row, site, unit, stratum), and a text's number of passes depends on no other
    text.

    Texts stop by a bound, s / sqrt(n) with s from `calibench_methods.dropout.allocation.estimated_spread`: it
    takes the passes of a stratum for independent, and is cautious after two passes. `scores` holds s. The
    standard error is smaller: what `calibench_methods.dropout.accuracy` expects of the mean's distance from
    the limit of many passes, by the passes of that text alone.

    Args:
        checkpoint: the model; the method works on a twin of it.
        tolerance: in units of probability. With `target="mean"` a text is done when one more pass would
            lower its squared bound by less than tolerance squared, on average up to the next rung: the least
            mean squared error over texts for the passes spent. With `target="each"` it is done when its bound
            is at most the tolerance.
        target: "mean" or "each".
        max_passes: of a text, at least 2.
        stratum_size: copies per stratum, 2 to 31; see `mc-dropout-stratified`.
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 means a share of what is free when
            the method is made, 80% on a CUDA device and 25% on a host.
        dtype: of the weights and the arithmetic before the softmax, or "same" for the checkpoint's.

    Raises:
        UsageError: a parameter is out of range.
        RefusedError: the model has no dropout, or draws in a way that keyed masks cannot answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        tolerance: float = 0.0115,
        target: str = "mean",
        max_passes: int = 160,
        stratum_size: int = 10,
        memory_budget_mb: int = 0,
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint)
        if not tolerance > 0:
            raise UsageError(
                f"tolerance is {tolerance:g}, but must be above 0: it is in units of probability."
            )
        if target not in TARGETS:
            raise UsageError(f"target is {target!r}: choose {' or '.join(TARGETS)}.")
        self.passes = at_least(2, "max_passes", max_passes)
        self._tolerance = tolerance
        self._each = target == "each"
        self._stratum = at_least(2, "stratum_size", stratum_size)
        self._rungs = rungs(stratum_size, max_passes)
        self._copies = Copies(
            checkpoint,
            method="mc-dropout-adaptive",
            stratum=stratum_size,
            independent=False,
            memory_budget_mb=memory_budget_mb,
            first_token=True,
            dtype=dtype,
        )
        self._least, self._most = POSITIONS[checkpoint.device.type]
        self._tokenizer, self._padding = checkpoint.tokenizer, checkpoint.padding.side
        self.coverage = self._copies.coverage
        rates = [site.p for site in self.coverage.sites if site.p is not None]
        self._correlation = mask_correlation(rates, stratum_size)
        self.modules = (self._copies.module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        batch = longest(plan)
        self._copies.measure(batch.inputs, plan.rows[batch.index])
        texts = _Texts(plan, self._tokenizer, self._padding)
        active = np.arange(len(plan))
        samples: FloatArray = np.empty((0, len(plan), 0))
        probs: FloatArray = np.empty((0, 0))
        used = np.zeros(len(plan), dtype=np.int64)
        spread, error = np.zeros(len(plan)), np.zeros(len(plan))
        done = 0
        for rung, following in zip(self._rungs, [*self._rungs[1:], None], strict=True):
            fresh = self._run(texts, active, range(done, rung), seed)
            samples = np.concatenate([samples, fresh]) if done else fresh
            done = rung
            if not probs.size:
                probs = np.empty((len(plan), samples.shape[2]))
            probs[active], used[active] = samples.mean(axis=0), done
            spread[active] = estimated_spread(samples)
            stay = self._stay(spread[active], done, following)
            error[active[~stay]] = error_of_mean(samples[:, ~stay], self._stratum, self._correlation)
            active, samples = active[stay], samples[:, stay]
            if not len(active):
                break
        return Predictive(
            probs=probs,
            passes=used,
            standard_error=error,
            scores={"standard_deviation": spread},
            notes=(*self._copies.notes(), *self._about(used)),
        )

    def _stay(self, spread: FloatArray, done: int, following: int | None) -> BoolArray:
        """Which texts go on from `done` passes to `following`; none where there is no further rung."""
        if following is None:
            return np.zeros(len(spread), dtype=np.bool_)
        return go_on(spread, done, following, self._tolerance, each=self._each)

    def _run(self, texts: _Texts, active: IntArray, passes: range, seed: int) -> FloatArray:
        """The softmax of some passes over some texts: float64 [T, A, C]."""
        chunks = list(self._chunks(texts.lengths[active], len(passes)))
        # Nothing waits for the device until all of them are submitted.
        logits: list[Tensor] = []
        for chunk in chunks:
            chosen = active[chunk]
            inputs = texts.inputs(chosen)
            logits.append(self._copies.logits(inputs, texts.rows[chosen], passes, seed=seed))
        order = np.concatenate(chunks)
        probs = checked_softmax(torch.cat(logits, dim=1), texts.rows[active[order]])
        result = np.empty_like(probs)
        result[:, order] = probs
        return result

    def _chunks(self, lengths: IntArray, copies: int) -> Iterator[IntArray]:
        """Positions in `lengths` that share a forward pass: of one length, unless those are few."""
        order = np.argsort(-lengths, kind="stable")
        start = 0
        for stop in range(1, len(order) + 1):
            longest_one = int(lengths[order[start]])
            width = copies * longest_one
            if stop < len(order):
                next_fits = (stop + 1 - start) * width <= self._most
                few = self._padding != "none" and (stop - start) * width < self._least
                if next_fits and (few or lengths[order[stop]] == longest_one):
                    continue
            yield order[start:stop]
            start = stop

    def _about(self, used: IntArray) -> Iterator[str]:
        yield (
            "Standard errors are of the size of the error to expect; texts stop by a larger bound, which "
            "takes passes as independent."
        )
        short = int((used == self.passes).sum())
        if short:
            yield f"{short} texts reached max_passes = {self.passes}."


class _Texts:
    """The texts of a plan, to be packed in other ways than its batches.

    Attributes:
        rows: int64 [N], data set rows.
        lengths: int64 [N], in tokens.
    """

    def __init__(self, plan: Plan, tokenizer: Any, side: Side) -> None:
        self.rows = plan.rows
        self.lengths = np.array([len(ids) for ids in plan.token_ids], dtype=np.int64)
        self._left = left = side == "left"
        padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
        self._columns: dict[str, Tensor] = {}
        width = int(self.lengths.max())
        for batch in plan.batches:
            for name, values in batch.inputs.items():
                if name not in self._columns:
                    self._columns[name] = values.new_full((len(plan), width), padding.get(name, 0))
                index = torch.from_numpy(batch.index).to(values.device)
                here = values.shape[1]
                part = slice(width - here, width) if left else slice(here)
                self._columns[name][index, part] = values

    def inputs(self, chosen: IntArray) -> dict[str, Tensor]:
        """The model's keyword arguments for some texts, [A, L], padded to the longest of them."""
        length = int(self.lengths[chosen].max())
        found = {}
        for name, values in self._columns.items():
            index = torch.from_numpy(chosen).to(values.device)
            found[name] = values[index, values.shape[1] - length :] if self._left else values[index, :length]
        return found
