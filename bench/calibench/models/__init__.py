"""What a method is given: a checkpoint, batches, one shared pass, and the way to a `Predictive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibench.models.checkpoint import Checkpoint
    from calibench.models.passes import predict_passes
    from calibench.models.plan import map_batches

__all__ = ["Checkpoint", "map_batches", "predict_passes"]

_HOME = {"Checkpoint": "checkpoint", "map_batches": "plan", "predict_passes": "passes"}


def __getattr__(name: str) -> Any:
    # Plugins import these from here; listing their methods imports this package, and must not import torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
