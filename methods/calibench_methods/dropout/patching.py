"""A patched model for other people's loops: every forward pass is one of MC-Dropout's, all sites live.

A drop-in for `baal.bayesian.dropout.patch_module`, which replaces `nn.Dropout` modules and so misses dropout
inside attention functions. Nothing is replaced here: hooks switch the sites on while they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from calibench.errors import RefusedError
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.sites import find_sites

Model = TypeVar("Model", bound=nn.Module)
_patched: WeakKeyDictionary[nn.Module, LiveDropout] = WeakKeyDictionary()


def patch_module(model: Model, example_inputs: Mapping[str, Tensor] | None = None) -> Model:
    """Make every place that draws in training draw in evaluation too, in place.

    A later `eval()` changes nothing. After one `torch.manual_seed` the logits are bit for bit those of
    `model.train()`, while BatchNorm keeps its running statistics. Patching twice is patching once. A copy of
    a patched model is patched for good.

    Args:
        model: a `transformers` model, or any module together with `example_inputs`.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...], to find the sites with; None
            for a few token ids.

    Returns:
        The model.

    Raises:
        RefusedError: a training pass of the model draws nothing.
    """
    unpatch(model)
    sites = find_sites(model, example_inputs or _token_ids(model))
    if not sites:
        raise RefusedError(
            f"A training pass of {type(model).__name__} draws no random numbers: its dropout probabilities "
            "are all 0, and every pass would be the same; use a model trained with dropout."
        )
    _patched[model] = LiveDropout(model, sites)
    return model


def unpatch(model: Model) -> Model:
    """Take back what `patch_module` did; nothing on a model that is not patched. Returns the model."""
    live = _patched.pop(model, None)
    if live is not None:
        live.remove()
    return model


def _token_ids(model: Any) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {
        "input_ids": torch.ones(2, 3, dtype=torch.int64, device=device),
        "attention_mask": torch.ones(2, 3, dtype=torch.int64, device=device),
    }
