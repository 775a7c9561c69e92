"""Leaving out, in the last block, what only the other tokens need.

A classifier that reads the first token alone needs no feed-forward layer behind the last attention for any
other. Whether a model is one is tried, not looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from calibench_methods.sampling.sites import Inputs


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


def last_attention(model: nn.Module, inputs: Inputs) -> int | None:
    """The number of the last attention of a forward pass, from 1, if only its first token's output is read.

    That is so where the logits stay the same, bit for bit, when the output for all other tokens is replaced
    by noise. Only attention in `scaled_dot_product_attention` is seen.

    Args:
        model, inputs: as of `keep_first_token`.
    """
    with torch.inference_mode():
        with _NoiseBehindAttention(None) as watched:
            expected = model(**inputs).logits
        if not watched.count:
            return None
        with _NoiseBehindAttention(watched.count):
            seen = model(**inputs).logits
    return watched.count if torch.equal(seen, expected) else None


class _NoiseBehindAttention(TorchFunctionMode):
    """Counts attentions, and replaces all rows but the first of one's output [B, H, L, D] by noise."""

    def __init__(self, which: int | None) -> None:
        super().__init__()
        self.count = 0
        self._which = which

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is not functional.scaled_dot_product_attention:
            return result
        self.count += 1
        return result if self.count != self._which else _with_noise(result, 2)


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
    return _with_noise(values, 1), *rest


def _with_noise(values: Tensor, axis: int) -> Tensor:
    """`values` with all but the first entry of an axis replaced."""
    first, others = values.narrow(axis, 0, 1), values.narrow(axis, 1, values.shape[axis] - 1)
    noise = torch.linspace(-3, 3, others.numel(), dtype=values.dtype, device=values.device)
    return torch.cat([first, noise.view(others.shape)], dim=axis)


def _cut(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    values, *rest = args
    return values[:, :1], *rest
