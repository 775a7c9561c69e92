"""Peak memory of one method, above the loaded model, in a process of its own.

A process's high-water mark never falls, so methods that share one process would hide behind the largest.

On a host what counts is what is resident. Weights that are stored in the dtype they run in stay mapped to
their file, and of those only the pages that were used: of an embedding the rows of the batch's words.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from calibench.containment import contained
from calibench.measure.fork_server import answered
from calibench.measure.running import failure_of
from calibench.types import LabelledPlan, Text

if TYPE_CHECKING:
    import torch

    from calibench.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class TrainData:
    """What a method is fitted on: texts, their rows and labels, and how they are put into batches.

    The batches are those of the run, so that the features which it has made are found again.
    """

    texts: Sequence[Text]
    rows: Sequence[int]
    labels: Sequence[int]
    token_budget: int
    batch_size: int | None


@dataclass(frozen=True)
class MemoryTask:
    """What the process needs to load the model and run the method on one batch.

    Attributes:
        checkpoint: arguments of `calibench.models.loading.load_checkpoint`.
        method: registered name.
        runtime: registered name of what runs the model.
        params: its parameters.
        texts, rows: the batch with the most padded tokens.
        seed: for the prediction.
        threads: as in the measuring process.
        padding: fields of the checkpoint's `Padding`.
        train: of a method that learns from training data; else None.
        seconds: how long making, fitting and running it may take; None for as long as it likes.
    """

    checkpoint: Mapping[str, Any]
    method: str
    runtime: str
    params: Mapping[str, Any]
    texts: tuple[Text, ...]
    rows: tuple[int, ...]
    seed: int
    threads: int
    padding: Mapping[str, Any]
    train: TrainData | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Peak:
    """Bytes above the loaded model, or the reason why there is no figure.

    Attributes:
        bytes: peak during the prediction minus what the process held once the model was loaded.
        kind: "rss" (resident set of the process) or "cuda_allocator".
        reason: why `bytes` is None.
        fit_bytes: the same while fitting, with the features of the training texts at hand where they are
            cached; None where nothing is fitted. Making features takes what a prediction takes.
    """

    bytes: int | None
    kind: str
    reason: str | None = None
    fit_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "peak_bytes": self.bytes,
            "kind": self.kind,
            "reason": self.reason,
            "fit_bytes": self.fit_bytes,
        }


def measure(tasks: Sequence[MemoryTask]) -> Iterator[Peak]:
    """Run each task in a process of its own and yield its peak, in order, as it is known."""
    if not tasks:
        return
    kind = _kind(tasks[0].checkpoint)
    for line in answered(__name__, [dataclasses.asdict(task) for task in tasks]):
        if line is None:
            yield Peak(None, kind, "the measuring process ended early")
        else:
            yield Peak(**json.loads(line))


def answer(given: dict[str, Any]) -> str:
    """In the process of a task, made of its fields: its peak, or why there is none, as JSON."""
    train = given.pop("train")
    task = MemoryTask(**given, train=train and TrainData(**train))
    try:
        peak = _peak(task)
    except BaseException as error:  # the figure is one column; its failure must not cost the row
        failure = failure_of(error)
        peak = Peak(None, _kind(task.checkpoint), f"{failure['type']}: {failure['message']}")
    return json.dumps(dataclasses.asdict(peak))


def killed(given: Mapping[str, Any]) -> str:
    """The same of a task whose process gave no answer."""
    peak = Peak(None, _kind(given["checkpoint"]), "the process was killed, most likely for lack of memory")
    return json.dumps(dataclasses.asdict(peak))


def _kind(checkpoint: Mapping[str, Any]) -> str:
    return "cuda_allocator" if str(checkpoint["device"]).startswith("cuda") else "rss"


def _peak(task: MemoryTask) -> Peak:
    import torch

    from calibench.models.checkpoint import Padding
    from calibench.models.loading import load_checkpoint
    from calibench.models.padding import padded
    from calibench.models.plan import Planner
    from calibench.registry import METHODS
    from calibench.runtimes.start import start
    from calibench.suites.spec import TORCH

    torch.set_num_threads(task.threads)
    checkpoint = padded(load_checkpoint(**task.checkpoint), Padding(**task.padding))
    planner = Planner.of(checkpoint)
    rows = np.array(task.rows, dtype=np.int64)
    one_batch = [np.arange(len(rows), dtype=np.int64)]
    train = None if task.train is None else _labelled(checkpoint, task.train)
    if task.runtime != TORCH:
        checkpoint, _ = start(checkpoint, task.runtime)
    factory = METHODS.load(task.method)

    def peaks() -> tuple[int | None, int | None]:
        # A method made and thrown away brings in the libraries that it imports, which are not its own memory.
        factory(checkpoint, **task.params)
        gc.collect()
        # A method that is measured shall not find room that nobody counts.
        give_back_freed_memory()
        meter = _Meter(checkpoint.device)
        method = factory(checkpoint, **task.params)
        fit_bytes = None
        if train is not None:
            method.fit(train)
            fit_bytes = meter.peak()
            meter.restart()
        method.predict(planner.assemble(_texts(task.texts), rows, one_batch), seed=task.seed)
        return meter.peak(), fit_bytes

    peak, fit_bytes = contained(task.method, peaks, task.seconds)
    reason = None
    if peak is None:
        reason = "loading the model took more memory than predicting, which hides the peak"
    return Peak(peak, _kind(task.checkpoint), reason, fit_bytes)


def _texts(given: Sequence[Any]) -> list[Text]:
    """Texts, and pairs as tuples again after JSON has made lists of them."""
    return [text if isinstance(text, str) else (text[0], text[1]) for text in given]


def _labelled(checkpoint: Checkpoint, train: TrainData) -> LabelledPlan:
    from calibench.models.plan import Planner

    planner = Planner.of(checkpoint, token_budget=train.token_budget, batch_size=train.batch_size)
    plan = planner.plan(_texts(train.texts), np.array(train.rows, dtype=np.int64))
    return LabelledPlan(plan, np.array(train.labels, dtype=np.int64))


class _Meter:
    """Peak memory above what the process held when the meter was made."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._cuda = torch.cuda if device.type == "cuda" else None
        self._device = device
        self._synchronise()
        self._before = (
            self._cuda.memory_allocated(device) if self._cuda else psutil.Process().memory_info().rss
        )
        self.restart()

    def restart(self) -> None:
        """Start the high-water mark anew."""
        self._synchronise()
        if self._cuda:
            self._cuda.reset_peak_memory_stats(self._device)
        else:
            self._resettable = _reset_high_water_mark()

    def peak(self) -> int | None:
        """Bytes since the last start, or None where an earlier peak hides them."""
        self._synchronise()
        if self._cuda:
            return int(self._cuda.max_memory_allocated(self._device) - self._before)
        if not self._resettable and _high_water_mark() <= self._before:
            return None
        return max(0, _high_water_mark() - self._before)

    def _synchronise(self) -> None:
        if self._cuda:
            self._cuda.synchronize(self._device)


def give_back_freed_memory() -> None:
    """glibc only: return what is freed to the system; never where a clock runs, as it is fetched again.

    Of batches of many sizes more stays behind than any of them takes: on a CPU exact GELU of float32 keeps
    something of every size (torch 2.13.0, oneDNN), before which an answer that is freed leaves a hole.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
