"""One deterministic pass with all that one-pass methods read from it; see `calibench.models.sharing`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from calibench.models.checkpoint import Checkpoint
from calibench.models.engine import Answer, Engine
from calibench.models.head import Head, find_head, without_head
from calibench.models.sharing import shared
from calibench.types import Batch


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a forward pass in eval mode gives for B texts, on the model's device and in its dtype.

    Attributes:
        logits: [B, C].
        features: [B, D], what the last linear layer is given.
        hidden: what the model's encoder returns, as its head reads it; None where the model has no encoder
            of its own.
    """

    logits: Tensor
    features: Tensor
    hidden: Any


class Encoder:
    """The checkpoint's model, read at its encoder, its last linear layer and its logits.

    Methods that read the same of the same texts share a pass inside `calibench.models.sharing.sharing`; each
    is charged for it.

    Args:
        checkpoint: the model; hooks are on it only while it runs.

    Attributes:
        module: the model, for `Method.modules`.
        head: the last linear layer; see `calibench.models.head`.
        base_name: qualified name of the encoder, which an adapter (peft) puts deeper; "" where there is none.

    Raises:
        RefusedError: the logits are not the output of a linear layer of one vector per text.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.module = checkpoint.module
        self.head = _head(checkpoint)
        self._device = checkpoint.device
        prefix = getattr(checkpoint.module, "base_model_prefix", "")
        self._base: nn.Module | None = getattr(checkpoint.module, prefix, None) if prefix else None
        names = (name for name, child in checkpoint.module.named_modules() if child is self._base)
        self.base_name = next(names, "")

    def __call__(self, batch: Batch) -> Encoded:
        """Run the batch, or take the pass that another method has made of it."""
        encoded: Encoded = shared(self.module, batch.inputs, self._device, lambda: self._run(batch))
        return encoded

    def _run(self, batch: Batch) -> Encoded:
        seen: dict[str, Any] = {}

        def keep_features(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            seen["features"] = arguments[0]

        def keep_hidden(_: nn.Module, __: Any, output: Any) -> None:
            seen["hidden"] = output

        with ExitStack() as hooks, torch.inference_mode():
            hooks.callback(self.head.linear.register_forward_pre_hook(keep_features).remove)
            if self._base is not None:
                hooks.callback(self._base.register_forward_hook(keep_hidden).remove)
            answer = self.module(**batch.inputs)
        features = seen["features"] if not isinstance(answer, Answer) else answer.features
        assert features is not None  # there is a head
        return Encoded(answer.logits, features, seen.get("hidden"))


def _head(checkpoint: Checkpoint) -> Head:
    if not isinstance(checkpoint.module, Engine):
        return find_head(checkpoint)
    if checkpoint.module.made.head is None:
        raise without_head(checkpoint)
    return checkpoint.module.made.head
