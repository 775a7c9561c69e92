"""What has to be asked of a device by its type."""

from __future__ import annotations

import torch


def synchronise(device: torch.device) -> None:
    """Wait until everything submitted to `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
