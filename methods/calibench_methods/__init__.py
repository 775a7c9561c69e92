"""The uncertainty methods that come with calibench, one file each; calibench finds them by entry point.

For use in an application, without the harness: `MCDropout` around a model, and `patch_module` / `unpatch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibench_methods.dropout.patching import patch_module, unpatch
    from calibench_methods.dropout.wrapper import MCDropout

__all__ = ["MCDropout", "patch_module", "unpatch"]

_HOME = {"MCDropout": "dropout.wrapper", "patch_module": "dropout.patching", "unpatch": "dropout.patching"}


def __getattr__(name: str) -> Any:
    # Listing methods imports this package, and must not import torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
