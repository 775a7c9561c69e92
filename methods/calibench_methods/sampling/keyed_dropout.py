"""A model whose dropout, and nothing else, is answered with keyed masks.

Hidden dropout modules and attention dropout written as a function both end in `torch.nn.functional.dropout`
or in `scaled_dot_product_attention`; these two are intercepted while the model runs, so that nothing is
matched by architecture. Whatever draws in another way is refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from calibench.errors import CalibenchError, RefusedError
from calibench.seeds import derived_seed
from calibench.types import Coverage, DropoutSite, IntArray
from calibench_methods.sampling.live import LiveDropout, forked_generators
from calibench_methods.sampling.masks import MaskSource
from calibench_methods.sampling.sites import (
    LAYERDROP,
    BatchAxes,
    Inputs,
    batch_axes,
    measure_coverage,
)


class KeyedDropout(nn.Module):
    """Runs copies of texts through a model, each with masks from `calibench_methods.sampling.masks`.

    Say with `select` which copies of which texts the next forward pass holds. There are no gradients.

    A site without a batch axis (DeBERTa-v2's `pos_dropout`) has one mask per forward pass; it is keyed
    without the row, so that all texts share it in each copy, and a forward pass may hold one copy only.

    Args:
        model: in eval mode; hooks are put on it for good, so pass a twin.
        sites: what `calibench_methods.sampling.sites.find_sites` found on it.
        copies: the size of a stratum, 1 to 31.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...], to try it on.
        independent: whether the copies of a stratum are independent, instead of sharing out what they drop.
        first_row_at: the number of an attention in a forward pass, from 1, of which only the first token's
            output is read; see `calibench_methods.sampling.first_token.last_attention`.
        method: whom an error names.

    Raises:
        UsageError: a stratum of this size is not possible for some site; see `masks.Stratum`.
        RefusedError: a site draws in a way that masks cannot answer.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[DropoutSite],
        copies: int,
        example_inputs: Inputs,
        *,
        independent: bool = False,
        first_row_at: int | None = None,
        method: str = "KeyedDropout",
    ) -> None:
        super().__init__()
        self._method = method
        self._refuse_layerdrop(model, sites)
        axes = batch_axes(model, example_inputs)
        self._refuse_shapes(model, axes)
        #: Names of the sites whose mask all rows of a forward pass share.
        self.shared = axes.none
        self.model = model
        self.training = model.training
        self._source = MaskSource(copies, independent=independent)
        self._running: list[str] = []
        self._draws: dict[str, int] = {}
        self._intercept = Intercept(self._dropout, first_row_at)
        self._install(sites)
        self.coverage = self._tried(sites, example_inputs)

    def select(self, *, seed: int, rows: IntArray, passes: range, device: torch.device) -> None:
        """Say what the next forward pass holds: row r of its batch is text r % B in pass passes[r // B].

        Args:
            seed: of all masks.
            rows: int64 [B], data set rows of the texts.
            passes: numbers of passes, from 0; pass t is copy t % T of stratum t // T, with T the size of one.
            device: where the model is.
        """
        self._seed, self._passes = seed, passes
        self._rows = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
        self._no_row = torch.zeros(1, dtype=torch.int64, device=device)

    def forward(self, **inputs: Tensor) -> Any:
        """What the model returns for [passes * B, ...] inputs, laid out as `select` says."""
        # Left over where a pass was interrupted.
        self._running.clear()
        self._draws.clear()
        with self._intercept:
            return self.model(**inputs)

    def _install(self, sites: Sequence[DropoutSite]) -> None:
        LiveDropout(self.model, sites)
        modules = dict(self.model.named_modules())
        running = self._running

        def entering(name: str) -> Callable[..., None]:
            return lambda *_: running.append(name)

        def leaving(*_: Any) -> None:
            running.pop()

        for name in dict.fromkeys(site.name for site in sites):
            modules[name].register_forward_pre_hook(entering(name))
            modules[name].register_forward_hook(leaving, always_call=True)

    def _refuse_layerdrop(self, model: nn.Module, sites: Sequence[DropoutSite]) -> None:
        skipping = [site.name for site in sites if site.kind == LAYERDROP]
        if skipping:
            raise RefusedError(
                f"{self._method} draws for each text by itself, but {type(model).__name__} skips whole "
                f"layers for all texts of a forward pass at once (layerdrop, in {', '.join(skipping)}); "
                "use mc-dropout."
            )

    def _refuse_shapes(self, model: nn.Module, axes: BatchAxes) -> None:
        for site, shape in axes.elsewhere.items():
            raise RefusedError(
                f"{self._method} draws for each text by itself, but {site} of {type(model).__name__} draws "
                f"on a tensor of shape {shape}, whose first axis is not the batch; use mc-dropout."
            )

    def _tried(self, sites: Sequence[DropoutSite], inputs: Inputs) -> Coverage:
        """The coverage, measured: every site's draws are answered, and no generator moves any more."""
        first = next(iter(inputs.values()))
        rows = np.arange(len(first), dtype=np.int64)
        self.select(seed=0, rows=rows, passes=range(1), device=first.device)
        self._draws.clear()
        with self._intercept:
            drawing = measure_coverage(self.model, sites, inputs)
        answered = set(self._draws)
        otherwise = [s.name for s in drawing.sites if s.active or s.name not in answered]
        if otherwise:
            raise RefusedError(
                f"{self._method} reaches F.dropout and scaled_dot_product_attention only, but "
                f"{len(otherwise)} of the sites of {type(self.model).__name__} draw otherwise "
                f"({otherwise[0]}, ...); use mc-dropout."
            )
        return Coverage(tuple(DropoutSite(s.name, s.kind, s.p, active=True) for s in sites))

    def _dropout(self, values: Tensor, p: float, scale: float) -> Tensor | None:
        """`values` after dropout, or None where no site is running, whose business it would be."""
        if not self._running:
            return None
        site = self._running[-1]
        draw = self._draws[site] = self._draws.get(site, 0) + 1
        count = len(self._passes)
        if site in self.shared:
            if count != 1:
                raise CalibenchError(f"Copies would share the mask of {site}: run one copy per forward pass.")
            rows, view = self._no_row, values[None]
        else:
            rows, view = self._rows, values
            if len(values) != count * len(rows):
                raise RefusedError(
                    f"{self._method} draws for each text by itself, but {site} draws on a tensor of shape "
                    f"{tuple(values.shape)}, whose first axis is not the batch of {count * len(rows)}; use "
                    "mc-dropout."
                )
        dropped = torch.empty_like(view, memory_format=torch.contiguous_format)
        if p == 1:
            return dropped.zero_().view(values.shape)
        law, size, start = self._source.stratum(p), self._source.copies, self._passes.start
        zero = view.new_zeros(())
        for stratum, numbers in itertools.groupby(self._passes, lambda number: number // size):
            key = derived_seed(self._seed, "dropout mask", site, draw, stratum)
            kept = law.masks(self._source.ranks(key, rows, tuple(view.shape[1:]), p), view.dtype)
            for number in numbers:
                part = slice((number - start) * len(rows), (number - start + 1) * len(rows))
                # zero + scale * values * kept, in one pass over memory.
                torch.addcmul(zero, view[part], kept(number % size), value=scale, out=dropped[part])
        return dropped.view(values.shape)


class Intercept(TorchFunctionMode):
    """Answers what draws in train mode from `dropout(values, p, scale)`, unless that returns None.

    `scale` is by what torch multiplies what it keeps: see `kept_scale`. Of the attention numbered
    `first_row_at`, from 1 on in each pass, only the first token looks.
    """

    def __init__(
        self, dropout: Callable[[Tensor, float, float], Tensor | None], first_row_at: int | None = None
    ) -> None:
        super().__init__()
        self._answer = dropout
        self._first_row_at = first_row_at

    def __enter__(self) -> Intercept:
        self._attentions = 0
        super().__enter__()  # type: ignore[no-untyped-call] # torch leaves its modes untyped
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        options: Mapping[str, Any] = kwargs or {}
        answer = None
        if func is functional.dropout:
            answer = self._dropout(*args, **options)
        elif func is functional.scaled_dot_product_attention:
            answer = self._attention(*args, **options)
        return func(*args, **options) if answer is None else answer

    def _dropout(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor | None:
        if not training or p == 0:
            return None
        answer = self._answer(input, p, kept_scale(p, input.dtype, input.device))
        return input.copy_(answer) if inplace and answer is not None else answer

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor | None:
        self._attentions += 1
        if dropout_p == 0:
            return None
        length, width = query.shape[-2:]
        if is_causal:
            # From the first query and key on, whatever their numbers, as torch has it.
            attn_mask = torch.ones(length, key.shape[-2], dtype=torch.bool, device=query.device).tril()
        if enable_gqa:
            key, value = (
                part.repeat_interleave(query.shape[-3] // part.shape[-3], dim=-3) for part in (key, value)
            )
        if self._attentions == self._first_row_at:
            query = query[..., :1, :]
            if attn_mask is not None and attn_mask.shape[-2] > 1:
                attn_mask = attn_mask[..., :1, :]
        # Queries, keys and values come as transposed views: laid out once here, not again in each product.
        before = _leading(query, key, value)
        q, k, v = (
            part.expand(*before, *part.shape[-2:]).reshape(-1, *part.shape[-2:])
            for part in (query, key, value)
        )
        scores = torch.baddbmm(
            q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=width**-0.5 if scale is None else scale
        ).view(*before, *q.shape[1:2], *k.shape[1:2])
        weights = _weights(scores, attn_mask).to(value.dtype)
        kept = kept_scale(dropout_p, torch.float32, value.device)
        # torch scales in float32, whatever the inputs are; 16 bits would round each weight's multiple.
        inside, behind = (kept, 1.0) if value.dtype == torch.float32 else (1.0, kept)
        dropped = self._answer(weights, dropout_p, inside)
        if dropped is None:
            return None
        seen = torch.baddbmm(
            v.new_empty(()), dropped.view(-1, *scores.shape[-2:]), v, beta=0, alpha=behind
        ).view(*before, -1, v.shape[-1])
        # Rows that nothing reads, so that the shape is what the model expects.
        rest = length - seen.shape[-2]
        return functional.pad(seen, (0, 0, 0, rest)) if rest else seen


def _leading(*parts: Tensor) -> torch.Size:
    """The axes before the last two, one for another where they are broadcast."""
    found: torch.Size = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))  # type: ignore[no-untyped-call]
    return found


def _weights(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax of attention's scores in float32; 0 for a query that may look nowhere, as torch has it."""
    scores = scores.float()  # in which the lowest number of float16 can still be added to
    if mask is None:
        return torch.softmax(scores, dim=-1)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = torch.softmax(scores.add_(mask), dim=-1)
    blind = (mask == -torch.inf).all(dim=-1, keepdim=True)
    return weights.masked_fill_(blind, 0) if blind.any() else weights


@cache
def kept_scale(p: float, dtype: torch.dtype, device: torch.device) -> float:
    """By what torch's dropout multiplies what it keeps: 1 / (1 - p), rounded to `dtype` where torch does so.

    A CPU makes a mask in the dtype of what is dropped and divides it by 1 - p, so that bfloat16 at p = 0.1 is
    scaled by 1.109375; a fused kernel may multiply in float32. Which of them it is here is tried.

    Args:
        p: drop probability.
        dtype, device: of what is dropped.
    """
    if p == 1:
        return 0.0
    rounded = torch.ones((), dtype=dtype, device=device).div_(1 - p)
    values = torch.linspace(1, 2, 4096, dtype=dtype, device=device)
    with forked_generators(device):
        dropped = functional.dropout(values, p)
    as_rounded = torch.equal(dropped[dropped != 0], (values * rounded)[dropped != 0])
    return float(rounded) if as_rounded else 1 / (1 - p)
