"""Peak memory of one method, above the loaded model, in a process of its own.

A process's high-water mark never falls, so methods that share one process would hide behind the largest.
Processes are forked from a server that has imported the libraries and nothing else.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from calibench.types import IntArray, Text


@dataclass(frozen=True, eq=False)
class MemoryTask:
    """What the process needs to load the model and run the method on one batch.

    Attributes:
        checkpoint: arguments of `calibench.models.load_checkpoint`.
        planner: arguments of `calibench.data.plan.Planner` besides tokenizer, device and maximum length.
        method: registered name.
        params: its parameters.
        texts, rows: the batch with the most padded tokens.
        seed: for the prediction.
        threads: as in the measuring process.
    """

    checkpoint: Mapping[str, Any]
    method: str
    params: Mapping[str, Any]
    texts: tuple[Text, ...]
    rows: IntArray
    seed: int
    threads: int


@dataclass(frozen=True)
class Peak:
    """Bytes above the loaded model, or the reason why there is no figure.

    Attributes:
        bytes: peak during the prediction minus what the process held once the model was loaded.
        kind: "rss" (resident set of the process) or "cuda_allocator".
        reason: why `bytes` is None.
    """

    bytes: int | None
    kind: str
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"peak_bytes": self.bytes, "kind": self.kind, "reason": self.reason}


def measure(task: MemoryTask) -> Peak:
    """Run `task` in a new process and return its peak."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["calibench.memory", "torch", "transformers"])
    kind = "cuda_allocator" if str(task.checkpoint["device"]).startswith("cuda") else "rss"
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_peak, task).result()
        except BrokenProcessPool:
            return Peak(None, kind, "the process was killed, most likely for lack of memory")
        except Exception as error:  # the figure is one column; its failure must not cost the row
            return Peak(None, kind, f"{type(error).__name__}: {error}")


def _peak(task: MemoryTask) -> Peak:
    import torch

    from calibench.data.plan import Planner
    from calibench.models import load_checkpoint
    from calibench.registry import METHODS

    torch.set_num_threads(task.threads)
    checkpoint = load_checkpoint(**task.checkpoint)
    planner = Planner.of(checkpoint)
    groups = [np.arange(len(task.texts), dtype=np.int64)]
    device = checkpoint.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        before = psutil.Process().memory_info().rss
        resettable = _reset_high_water_mark()
    method = METHODS.load(task.method)(checkpoint, **task.params)
    method.predict(planner.assemble(task.texts, task.rows, groups), seed=task.seed)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return Peak(int(torch.cuda.max_memory_allocated(device) - before), "cuda_allocator")
    if not resettable and _high_water_mark() <= before:
        return Peak(None, "rss", "loading the model took more memory than predicting, which hides the peak")
    return Peak(max(0, _high_water_mark() - before), "rss")


def _reset_high_water_mark() -> bool:
    """Linux only: start the process's high-water mark anew; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water_mark() -> int:
    """The process's peak resident set in bytes, since the reset where there was one."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
