"""What has to be asked of a device by its type."""

from __future__ import annotations

import torch

from calibench.errors import UsageError


def synchronise(device: torch.device) -> None:
    """Wait until everything submitted to `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def has_bfloat16_instructions() -> bool:
    """Whether the CPU multiplies in bfloat16; True as well where PyTorch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    capabilities = torch.cpu.get_capabilities()
    x86, arm = ("avx512_bf16", "amx_bf16", "avx10_2"), ("bf16", "sve_bf16")
    return any(capabilities.get(name, False) for name in (*x86, *arm))


def find_device(name: str) -> torch.device:
    """The device that `name` stands for.

    Raises:
        UsageError: not a device name, or this machine has no such device.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"{name!r} is not a device: choose auto, cpu, cuda, cuda:N or mps.")
    if (kind == "cuda" and int(number or 0) >= cuda) or (kind == "mps" and not mps):
        there = ["cpu", *(f"cuda:{i}" for i in range(cuda)), *(["mps"] if mps else [])]
        raise UsageError(f"The device {name!r} is not available here: choose from {', '.join(there)}.")
    return torch.device(name)


def find_dtype(name: str) -> torch.dtype:
    """The dtype that `name` stands for; "auto" is float32.

    Raises:
        UsageError: not one of `DTYPES`.
    """
    if name == "auto":
        return torch.float32
    if name not in DTYPES:
        raise UsageError(f"{name!r} is not a dtype: choose auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "mps" and dtype == torch.float64:
        raise UsageError("The device 'mps' has no float64: choose another dtype, or the device cpu.")
