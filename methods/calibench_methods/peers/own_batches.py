"""What peers with a data loader of their own are given: raw texts, tokenised and batched their way."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, dtype_notes
from calibench.models.passes import at_least, checked_softmax, standard_error
from calibench.types import IntArray, Plan, Predictive, Text

ORDERS = ("dataset", "sorted")


def check_order(order: str) -> str:
    """The order if it is one.

    Raises:
        UsageError: it is neither "dataset" nor "sorted".
    """
    if order not in ORDERS:
        raise UsageError(f"order is {order!r}: choose {' or '.join(ORDERS)}.")
    return order


def length_order(texts: Sequence[Text]) -> IntArray:
    """Positions of the texts by number of characters, int64 [N]: what can be done before tokenising."""
    lengths = [len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts]
    found: IntArray = np.argsort(lengths, kind="stable")
    return found


class Peer(Method):
    """What every peer of this kind is asked for, and its own copy of the tokenizer.

    Raises:
        UsageError: a parameter is out of range.
    """

    tokenises = True

    def __init__(
        self, checkpoint: Checkpoint, *, passes: int, batch_size: int, order: str, dtype: str
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._batch_size = at_least(1, "batch_size", batch_size)
        self._order = check_order(order)
        self._device = checkpoint.device
        self._tokenizer = copy.deepcopy(checkpoint.tokenizer)
        self._notes = dtype_notes(checkpoint, dtype)

    def _positions(self, plan: Plan) -> IntArray:
        """Positions in the plan, int64 [N], in the order in which the texts are handed over."""
        return length_order(plan.texts) if self._order == "sorted" else np.arange(len(plan))


class EncodedTexts(torch.utils.data.Dataset[Any]):
    """Texts as a tokenizer encodes them, one dict of id lists each.

    Args:
        order: int64 [N], the position of each item in the plan.
    """

    def __init__(self, plan: Plan, tokenizer: Any, order: IntArray) -> None:
        chosen = [plan.texts[position] for position in order]
        sides = [chosen] if isinstance(chosen[0], str) else [list(side) for side in zip(*chosen, strict=True)]
        # Cut where the plan cut: by default nothing is cut and long texts fail.
        longest = max(map(len, plan.token_ids))
        encoded = tokenizer(*sides, truncation=True, max_length=longest)
        self._items = [
            {name: encoded[name][i] for name in tokenizer.model_input_names} for i in range(len(chosen))
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self._items[index]


def predictive_of(logits: Tensor, plan: Plan, order: IntArray, notes: tuple[str, ...]) -> Predictive:
    """From logits [T, N, C] of texts whose positions in the plan are `order`, int64 [N]."""
    samples = checked_softmax(logits, plan.rows[order])
    placed = np.empty_like(samples)
    placed[:, order] = samples
    mean = placed.mean(axis=0)
    return Predictive(
        probs=mean / mean.sum(axis=1, keepdims=True),
        passes=np.full(len(plan), len(placed), dtype=np.int64),
        samples=placed.astype(np.float32),
        standard_error=standard_error(mean, placed.var(axis=0), len(placed)),
        notes=notes,
    )


def by_pass(logits: NDArray[Any]) -> Tensor:
    """BaaL's logits [N, C, T] as [T, N, C]."""
    return torch.from_numpy(np.moveaxis(logits, 2, 0))


class LogitsOf(torch.nn.Module):
    """A `transformers` model as a module from one dict of tensors to float32 logits."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.model(**inputs).logits
        return logits.float()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """BaaL logs to standard output, where our tables go."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
