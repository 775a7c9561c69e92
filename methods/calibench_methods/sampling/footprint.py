"""How much memory a forward pass needs and how much is free: what chunk sizes are decided from."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20
CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that tensors on `device` could still take.

    On CUDA what the driver reports free and what torch's allocator holds unused; elsewhere the host's
    available memory, or what a container's limit leaves if that is less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    available = int(psutil.virtual_memory().available)
    limit = _cgroup_headroom(CGROUP)
    return available if limit is None else min(available, limit)


def _cgroup_headroom(root: Path) -> int | None:
    """Bytes left under the memory limit of this container (cgroup v2, then v1), or None without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors alive at once on `device` during `run()`, above what was there before.

    On CUDA the peak of torch's allocator, whose statistics this resets. Elsewhere the sum of the storages
    that each operation hands out, until they are freed; what a kernel allocates for itself is not seen.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    storages = _LiveStorages()
    with storages:
        run()
    return storages.peak


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its modes untyped
    """Adds up the storages that operations make, and takes them off when they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            # Weights and inputs were there before, and views of them cost nothing.
            self._meet(tensor, new=False)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._meet(tensor, new=True)
        self.peak = max(self.peak, self._alive)
        return result

    def _meet(self, tensor: Tensor, *, new: bool) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        size = storage.nbytes() if new else 0
        self._known.add(storage._cdata)
        self._alive += size
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
