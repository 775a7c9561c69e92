"""Leaving out, in the last block, what only the other tokens need.

A classifier that reads the first token alone needs no feed-forward layer behind the last attention for any
other. Whether a model is one is tried, not looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from calibench.stochastic import Inputs


def keep_first_token(model: nn.Module, inputs: Inputs) -> bool:
    """Cut the sequence to its first token at the first LayerNorm behind the last attention, if that is right.

    It is right where the logits stay the same, bit for bit, when all other tokens are replaced by noise at
    that place. Dropout masks that are keyed by position stay what they were.

    Args:
        model: in eval mode; a hook is put on it for good, so pass a twin.
        inputs: keyword arguments of a forward pass, tensors [B, L] of more than one token, to try it on.

    Returns:
        Whether the sequence is cut.
    """
    norm = _norm_behind_attention(model, inputs)
    if norm is None:
        return False
    with torch.inference_mode():
        expected = model(**inputs).logits
        if not torch.equal(_with_hook(model, norm, _disturb, inputs), expected):
            return False
        try:
            seen = _with_hook(model, norm, _cut, inputs)
        except (RuntimeError, IndexError, ValueError):  # what follows needs the whole sequence's shape
            return False
    if seen.shape != expected.shape:
        return False
    norm.register_forward_pre_hook(_cut)
    return True


def _norm_behind_attention(model: nn.Module, inputs: Inputs) -> nn.LayerNorm | None:
    """The first LayerNorm called behind the last attention, if it is called once in a pass."""
    attention = {module for module in model.modules() if _is_attention(module)}
    called: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in model.modules()
        if module in attention or isinstance(module, nn.LayerNorm)
    ]
    try:
        with torch.inference_mode():
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    last = max((i for i, module in enumerate(called) if module in attention), default=len(called))
    norm = next((module for module in called[last:] if isinstance(module, nn.LayerNorm)), None)
    return norm if norm is not None and called.count(norm) == 1 else None


def _is_attention(module: nn.Module) -> bool:
    """Whether this is an attention, and not a block around one."""
    named = ["attention" in type(part).__name__.lower() for part in module.modules()]
    return named[0] and not any(named[1:])


def _with_hook(
    model: nn.Module, norm: nn.LayerNorm, hook: Callable[[nn.Module, Any], Any], inputs: Inputs
) -> Tensor:
    handle = norm.register_forward_pre_hook(hook)
    try:
        logits: Tensor = model(**inputs).logits
    finally:
        handle.remove()
    return logits


def _disturb(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    values, *rest = args
    noise = torch.linspace(-3, 3, values[:, 1:].numel(), dtype=values.dtype, device=values.device)
    return torch.cat([values[:, :1], noise.view_as(values[:, 1:])], dim=1), *rest


def _cut(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    values, *rest = args
    return values[:, :1], *rest
