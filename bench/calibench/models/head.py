"""The last linear layer of a classifier: logits = W h + b, with h the features of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint, example_inputs


@dataclass(frozen=True, eq=False)
class Head:
    """The layer that makes the logits.

    Attributes:
        name: qualified name in the checkpoint's module.
        linear: the layer: weight [C, D], and bias [C] or None.
    """

    name: str
    linear: nn.Linear


def find_head(checkpoint: Checkpoint) -> Head:
    """The linear layer whose output on one vector per text is the logits, found by a forward pass.

    Raises:
        RefusedError: the logits are not the output of such a layer.
    """
    outputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(_keep(outputs, name))
        for name, layer in checkpoint.module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        with torch.inference_mode():
            logits = checkpoint.module(**example_inputs(checkpoint)).logits
    finally:
        for handle in handles:
            handle.remove()
    layers = dict(checkpoint.module.named_modules())
    for name, output in reversed(outputs.items()):
        layer = layers[name]
        if isinstance(layer, nn.Linear) and _same(output, logits):
            return Head(name, layer)
    raise without_head(checkpoint)


def without_head(checkpoint: Checkpoint) -> RefusedError:
    """What is raised where there is no such layer."""
    return RefusedError(
        f"{checkpoint.name} does not make its logits by a linear layer from one vector per text, which this "
        "method works on; use a method that takes the model as it is, such as frequentist or mc-dropout."
    )


def _keep(outputs: dict[str, Tensor], name: str) -> Any:
    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        outputs.pop(name, None)  # the last call counts, and its place in the order
        outputs[name] = output

    return hook


def _same(output: Tensor, logits: Tensor) -> bool:
    """Whether both are equal bit for bit; NaN, which a broken checkpoint gives, counts as equal."""
    same_shape = output.shape == logits.shape
    return same_shape and torch.allclose(output, logits, rtol=0, atol=0, equal_nan=True)
