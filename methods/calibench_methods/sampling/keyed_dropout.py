"""A model whose dropout, and nothing else, is answered with keyed masks.

Hidden dropout modules and attention dropout written as a function both end in `torch.nn.functional.dropout`
or in `scaled_dot_product_attention`; these two are intercepted while the model runs, so that nothing is
matched by architecture. Whatever draws in another way is refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from calibench.errors import CalibenchError, RefusedError
from calibench.seeds import derived_seed
from calibench.types import Coverage, DropoutSite, IntArray
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.masks import MaskSource
from calibench_methods.sampling.sites import Inputs, measure_coverage, sites_without_batch_axis


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
    ) -> None:
        super().__init__()
        #: Names of the sites whose mask all rows of a forward pass share.
        self.shared = sites_without_batch_axis(model, example_inputs)
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

        for site in sites:
            modules[site.name].register_forward_pre_hook(entering(site.name))
            modules[site.name].register_forward_hook(leaving, always_call=True)

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
                f"Stratified masks reach F.dropout and attention dropout only, but {len(otherwise)} sites of "
                f"{type(self.model).__name__} draw otherwise ({otherwise[0]}, ...); use mc-dropout."
            )
        return Coverage(tuple(DropoutSite(s.name, s.kind, s.p, active=True) for s in sites))

    def _dropout(self, values: Tensor, p: float) -> Tensor | None:
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
                    f"{site} draws on a tensor of shape {tuple(values.shape)}, whose first axis is not "
                    f"the batch of {count * len(rows)}, so that its masks have no text; use mc-dropout."
                )
        dropped = torch.empty_like(view, memory_format=torch.contiguous_format)
        if p == 1:
            return dropped.zero_().view(values.shape)
        law, size, start = self._source.stratum(p), self._source.copies, self._passes.start
        zero, scale = view.new_zeros(()), 1 / (1 - p)
        for stratum, numbers in itertools.groupby(self._passes, lambda number: number // size):
            key = derived_seed(self._seed, "dropout mask", site, draw, stratum)
            kept = law.masks(self._source.ranks(key, rows, tuple(view.shape[1:]), p), view.dtype)
            for number in numbers:
                part = slice((number - start) * len(rows), (number - start + 1) * len(rows))
                # zero + scale * values * kept, in one pass over memory.
                torch.addcmul(zero, view[part], kept(number % size), value=scale, out=dropped[part])
        return dropped.view(values.shape)


class Intercept(TorchFunctionMode):
    """Answers what draws in train mode from `dropout(values, p)`, unless that returns None.

    Of the attention numbered `first_row_at`, from 1 on in each pass, only the first token looks.
    """

    def __init__(
        self, dropout: Callable[[Tensor, float], Tensor | None], first_row_at: int | None = None
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
        answer = self._answer(input, p)
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
        if is_causal or enable_gqa:
            raise RefusedError(
                "Dropout in causal or grouped-query attention is not covered by this method; use mc-dropout."
            )
        texts, heads, length, width = query.shape
        if self._attentions == self._first_row_at:
            query = query[:, :, :1]
            if attn_mask is not None and attn_mask.shape[-2] > 1:
                attn_mask = attn_mask[..., :1, :]
        # Queries, keys and values come as transposed views: laid out once here, not again in each product.
        q, k, v = (part.reshape(texts * heads, -1, part.shape[-1]) for part in (query, key, value))
        scores = torch.baddbmm(
            q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=width**-0.5 if scale is None else scale
        ).view(texts, heads, *q.shape[1:2], *k.shape[1:2])
        if attn_mask is not None:
            scores += _additive(attn_mask, scores.dtype)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        dropped = self._answer(weights, dropout_p)
        if dropped is None:
            return None
        seen = torch.bmm(dropped.view(scores.shape[0] * heads, *scores.shape[2:]), v)
        seen = seen.view(texts, heads, -1, v.shape[-1])
        # Rows that nothing reads, so that the shape is what the model expects.
        return seen if seen.shape[2] == length else functional.pad(seen, (0, 0, 0, length - seen.shape[2]))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to attention's scores: finite, so that a query that may look nowhere is not made NaN."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
