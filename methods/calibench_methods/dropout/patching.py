"""A patched model for other people's loops: every forward pass is one of MC-Dropout's, all sites live.

A drop-in for `baal.bayesian.dropout.patch_module`, which replaces `nn.Dropout` modules and so misses dropout
inside attention functions. Nothing is replaced here: hooks switch the sites on while they run.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from calibench.data.hub import one_line
from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import settle
from calibench.types import DropoutSite
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.sites import find_sites

Model = TypeVar("Model", bound=nn.Module)
_patched: WeakKeyDictionary[nn.Module, LiveDropout] = WeakKeyDictionary()


def patch_module(model: Model, example_inputs: Mapping[str, Tensor] | None = None) -> Model:
    """Make every place that draws in training draw in evaluation too, in place.

    A later `eval()` changes nothing. After one `torch.manual_seed` the logits are bit for bit those of
    `model.train()`, while BatchNorm keeps its running statistics. Patching twice is patching once. A copy of
    a patched model is patched for good, and so is BigBird's change to full attention, which its first short
    text would bring.

    Args:
        model: a `transformers` model, or any module together with `example_inputs`.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...], to find the sites with; None
            for a few token ids.

    Returns:
        The model.

    Raises:
        UsageError: the model cannot be run on token ids alone.
        RefusedError: a training pass of the model draws nothing.
    """
    unpatch(model)
    settle(model)
    sites = find_sites(model, example_inputs) if example_inputs else _sites_on_token_ids(model)
    if not sites:
        raise RefusedError(
            f"patch_module has nothing to switch on: a training pass of {type(model).__name__} draws no "
            "random numbers, as its dropout probabilities are all 0; use a model trained with dropout."
        )
    _patched[model] = LiveDropout(model, sites)
    return model


def unpatch(model: Model) -> Model:
    """Take back what `patch_module` did; nothing on a model that is not patched. Returns the model."""
    live = _patched.pop(model, None)
    if live is not None:
        live.remove()
    return model


def _sites_on_token_ids(model: nn.Module) -> tuple[DropoutSite, ...]:
    try:
        return find_sites(model, _token_ids(model))
    except Exception as error:  # whatever the model raises
        raise UsageError(
            f"patch_module cannot run {type(model).__name__} on a few token ids ({one_line(error)}); pass "
            "example_inputs, the keyword arguments of a forward pass."
        ) from error


def _token_ids(model: Any) -> dict[str, Tensor]:
    """Two texts of two words and an end, which models with a decoder (BART, T5) look for."""
    special = [getattr(model.config, f"{kind}_token_id", None) for kind in ("pad", "bos", "eos")]
    word = next(number for number in itertools.count(1) if number not in special)
    end = special[-1] if isinstance(special[-1], int) else word
    ids = torch.tensor([[word, word, end]] * 2, device=next(model.parameters()).device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
