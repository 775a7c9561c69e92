"""Texts -> token ids -> padded batches: one frozen plan that every method runs.

Examples are sorted by length and packed greedily under a token budget, so that a batch holds texts of like
length and little of it is padding. The plan keeps data set order outside; only the batches are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibench.errors import UsageError
from calibench.types import Batch, IntArray, Plan, Text

if TYPE_CHECKING:
    from calibench.models.checkpoint import Checkpoint, Side

DEFAULT_TOKEN_BUDGET = 4096


class Planner:
    """Tokenises texts and packs them into batches on a device.

    Args:
        tokenizer: a `transformers` tokenizer.
        device: where the batches are put.
        max_length: longest sequence the model takes, in tokens, special tokens included; longer texts are
            truncated and counted.
        token_budget: most positions B * L, padding included, in one batch. A single text that is longer
            is a batch of its own.
        batch_size: most examples in one batch, or None for no cap beside the budget.
        padding: on which side, or "none" for batches of texts of one length; None for the tokenizer's side.
        end: the id of the token at whose last place the model reads its answer, for those that need as many
            of it in all texts of a batch; else None.

    Raises:
        UsageError: a size below one.
    """

    def __init__(
        self,
        tokenizer: Any,
        device: torch.device | str,
        max_length: int,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        batch_size: int | None = None,
        padding: Side | None = None,
        end: int | None = None,
    ) -> None:
        for name, value in (("token budget", token_budget), ("batch size", batch_size)):
            if value is not None and value < 1:
                raise UsageError(f"The {name} is {value}: pass a whole number of at least 1.")
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.max_length = max_length
        self.token_budget = token_budget
        self.batch_size = batch_size
        self.padding: Side = padding or tokenizer.padding_side
        self._end = end

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, *, token_budget: int | None = None, batch_size: int | None = None
    ) -> Planner:
        """The planner of a checkpoint; `token_budget` None stands for `DEFAULT_TOKEN_BUDGET`."""
        budget = DEFAULT_TOKEN_BUDGET if token_budget is None else token_budget
        config = checkpoint.module.config
        return cls(
            checkpoint.tokenizer,
            checkpoint.device,
            checkpoint.max_length,
            budget,
            batch_size,
            checkpoint.padding.side,
            getattr(config, "eos_token_id", None) if getattr(config, "is_encoder_decoder", False) else None,
        )

    def plan(self, texts: Sequence[Text], rows: IntArray) -> Plan:
        """Tokenise `texts` and pack them.

        Args:
            texts: N texts, or N pairs of texts.
            rows: int64 [N], each example's row in the data set.

        Raises:
            UsageError: a text without any token, or with the end token as a word, by its row.
        """
        encoding = self._encode(texts)
        lengths = np.array([len(ids) for ids in encoding["input_ids"]], dtype=np.int64)
        self._refuse_empty(texts, rows, lengths)
        self._refuse_ends(rows, encoding["input_ids"])
        return self._collate(texts, rows, encoding, self._pack(lengths))

    def assemble(self, texts: Sequence[Text], rows: IntArray, groups: Sequence[IntArray]) -> Plan:
        """Tokenise and collate some batches of a plan again: the path from text to tensors, to be timed.

        Args:
            texts: the N texts of the whole plan.
            rows: int64 [N], as of the whole plan.
            groups: the batches wanted, each an array of positions in the whole plan, as from `blocks`.

        Returns:
            A plan of only these examples, in the order of the whole plan (`positions(groups)` says which they
            are), with the batches in the order of `groups`.
        """
        chosen = positions(groups)
        chosen_texts = [texts[position] for position in chosen]
        local = [np.searchsorted(chosen, group) for group in groups]
        return self._collate(chosen_texts, rows[chosen], self._encode(chosen_texts), local)

    def _refuse_empty(self, texts: Sequence[Text], rows: IntArray, lengths: IntArray) -> None:
        empty = np.flatnonzero(lengths == 0)
        if len(empty):
            others = f", as have {len(empty) - 1} more" if len(empty) > 1 else ""
            raise UsageError(
                f"Row {rows[empty[0]]} has no tokens (its text is {texts[empty[0]]!r}){others}: there is "
                "nothing to classify; remove such rows from the data."
            )

    def _refuse_ends(self, rows: IntArray, token_ids: Sequence[Sequence[int]]) -> None:
        if self._end is None or self.batch_size == 1 or not len(token_ids):
            return
        counts = np.array([list(ids).count(self._end) for ids in token_ids])
        more = np.flatnonzero(counts > counts.min())
        if len(more):
            token = self.tokenizer.convert_ids_to_tokens(self._end)
            raise UsageError(
                f"Row {rows[more[0]]} holds {token!r} as a word, which this model takes for the end of a "
                "text, and all texts of a batch must hold as many; take it out of the text, or pass -b 1."
            )

    def _encode(self, texts: Sequence[Text]) -> Any:
        if not texts:
            return {"input_ids": []}
        # A list of pairs would be taken for pre-tokenised words: pass the two sides apart.
        sides = (
            [list(texts)] if isinstance(texts[0], str) else [list(side) for side in zip(*texts, strict=True)]
        )
        return self.tokenizer(
            *sides, truncation=True, max_length=self.max_length, return_attention_mask=False
        )

    def _pack(self, lengths: IntArray) -> list[IntArray]:
        order = np.argsort(lengths, kind="stable")
        cap = len(order) if self.batch_size is None else self.batch_size
        groups: list[IntArray] = []
        start = 0
        for stop in range(1, len(order) + 1):
            # Sorted: the next example would be the longest of the batch.
            full = stop == len(order) or (stop - start + 1) * lengths[order[stop]] > self.token_budget
            full = full or (self.padding == "none" and lengths[order[stop]] != lengths[order[start]])
            if full or stop - start == cap:
                groups.append(order[start:stop])
                start = stop
        return groups

    def _collate(
        self, texts: Sequence[Text], rows: IntArray, encoding: Any, groups: Sequence[IntArray]
    ) -> Plan:
        ids = encoding["input_ids"]
        columns = {"input_ids": (ids, self.tokenizer.pad_token_id or 0)}
        if "token_type_ids" in encoding:
            columns["token_type_ids"] = (encoding["token_type_ids"], self.tokenizer.pad_token_type_id)
        left = self.padding == "left"
        batches = tuple(self._batch(columns, group, left) for group in groups)
        tokens = sum(map(len, ids))
        slots = sum(batch.inputs["input_ids"].numel() for batch in batches)
        return Plan(
            texts=tuple(texts),
            rows=np.asarray(rows, dtype=np.int64),
            token_ids=tuple(map(tuple, ids)),
            batches=batches,
            tokens=tokens,
            padding_ratio=1 - tokens / slots if slots else 0.0,
            truncated=self._truncated(texts, encoding),
        )

    def _truncated(self, texts: Sequence[Text], encoding: Any) -> int:
        """How many texts were cut."""
        encodings = getattr(encoding, "encodings", None)
        if encodings is not None:
            return sum(bool(encoded.overflowing) for encoded in encodings)
        # A tokenizer in Python does not say; a text that is as long as it may be is encoded whole.
        full = [i for i, ids in enumerate(encoding["input_ids"]) if len(ids) >= self.max_length]
        return sum(len(self._whole(texts[i])) > self.max_length for i in full)

    def _whole(self, text: Text) -> Sequence[int]:
        sides = (text,) if isinstance(text, str) else text
        ids: Sequence[int] = self.tokenizer(*sides, verbose=False)["input_ids"]
        return ids

    def _batch(self, columns: dict[str, tuple[Any, int]], group: IntArray, left: bool) -> Batch:
        lengths = [len(columns["input_ids"][0][position]) for position in group]
        width = max(lengths)
        arrays = {
            name: np.full((len(group), width), pad, dtype=np.int64) for name, (_, pad) in columns.items()
        }
        mask = arrays["attention_mask"] = np.zeros((len(group), width), dtype=np.int64)
        for row, (position, length) in enumerate(zip(group, lengths, strict=True)):
            real = slice(width - length, width) if left else slice(length)
            mask[row, real] = 1
            for name, (values, _) in columns.items():
                arrays[name][row, real] = values[position]
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        return Batch(inputs, np.asarray(group, dtype=np.int64))


def blocks(plan: Plan, count: int) -> list[list[IntArray]]:
    """Deal the batches of a plan into at most `count` blocks with the same mix of lengths.

    Block i gets batches i, i + count, i + 2 count, ... of the plan, which are sorted by length.

    Returns:
        `min(count, number of batches)` blocks; each is a list of batches, each batch an int64 array of
        positions in the plan.
    """
    count = min(count, len(plan.batches))
    return [[batch.index for batch in plan.batches[start::count]] for start in range(count)]


def positions(groups: Sequence[IntArray]) -> IntArray:
    """Which examples `groups` hold, ascending: where an assembled plan's results belong in its parent."""
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *groups]))


def longest(plan: Plan) -> Batch:
    """The batch with the longest text."""
    return max(plan.batches, key=lambda batch: batch.inputs["input_ids"].shape[1])


def map_batches(plan: Plan, function: Callable[[Batch], torch.Tensor | NDArray[Any]]) -> NDArray[Any]:
    """Apply `function` to each batch and put the results in plan order.

    Args:
        plan: N examples.
        function: returns [B, C], or [S, B, C], for a batch of B examples; tensors may be on any device.

    Returns:
        [N, C] or [S, N, C], in the dtype that `function` returned (float32 for bfloat16, which numpy lacks).
    """
    result: NDArray[Any] | None = None
    for batch in plan.batches:
        values = _to_numpy(function(batch))
        if result is None:
            result = np.empty((*values.shape[:-2], len(plan), values.shape[-1]), dtype=values.dtype)
        result[..., batch.index, :] = values
    if result is None:
        raise ValueError("the plan has no batches")
    return result


def _to_numpy(values: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    if values.dtype == torch.bfloat16:
        values = values.float()
    return values.detach().cpu().numpy()
