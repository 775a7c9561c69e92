"""A model's twin that gives the features of its last linear layer beside the logits, without hooks.

Compilers and exporters trace what a module computes; hooks they leave out or refuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.models.head import Head, find_head


class _Tap(nn.Module):
    """A linear layer that keeps what it was given."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.seen: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        self.seen.append(features)
        logits: Tensor = self.linear(features)
        return logits


class Tapped(nn.Module):
    """Logits [B, C] and, of a model that has such a layer, features [B, D] of inputs [B, L] in an order.

    Args:
        checkpoint: its weights are shared.
        names: of the inputs, in the order in which they come.
        dtype: as of `Checkpoint.twin`.

    Attributes:
        head: the last linear layer of the twin; None where the model has none.
    """

    def __init__(self, checkpoint: Checkpoint, names: Sequence[str], dtype: str = "same") -> None:
        super().__init__()
        self.model = checkpoint.twin(dtype)
        self.names = tuple(names)
        self.head: Head | None = None
        self._tap: _Tap | None = None
        try:
            name = find_head(checkpoint).name
        except RefusedError:
            return
        linear = self.model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        self.head = Head(name, linear)
        self._tap = _Tap(linear)
        self.model.set_submodule(name, self._tap)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One pass."""
        if self._tap is not None:
            self._tap.seen.clear()
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        if self._tap is None:
            return (logits,)
        features = self._tap.seen.pop()
        return logits, features


def both(found: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Logits and features of what `Tapped` gives."""
    return found[0], found[1] if len(found) > 1 else None
