"""Features and logits of training texts: made once, kept on disk by content, charged at every use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from calibench.errors import CalibenchError
from calibench.hashing import plan_sha256
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.identity import config_sha256
from calibench.models.plan import map_batches
from calibench.models.sharing import alone, charge, counted
from calibench.types import Batch, IntArray, LabelledPlan, Plan

#: Names another folder for the cache than the platform's own.
FOLDER_VARIABLE = "CALIBENCH_CACHE"
_VERSION = 2
#: What is timed of a pass that the cache has the results of: at least so many batches, and so many seconds.
_BATCHES, _SECONDS = 8, 1.0
#: By entry of the cache, the seconds of its pass as this process has found them.
_known: dict[Path, float] = {}

_Stored = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class TrainFeatures:
    """What a last layer was trained on.

    Attributes:
        features: float32 [N, D], what the last linear layer is given.
        logits: float32 [N, C], what it makes of them.
        labels: int64 [N].
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: IntArray


def train_features(checkpoint: Checkpoint, encoder: Encoder, train: LabelledPlan) -> TrainFeatures:
    """Run the training texts through the model, or read what an earlier run has made of them.

    The seconds of the pass are charged in either case: what it took, or where it is read, what it would take
    here and now, by a random part of its batches. Those of another run would be of another machine, or of one
    that was busy. Where the cache cannot be written, the work is done again next time.

    Args:
        train: N texts, labelled with the model's classes.

    Raises:
        CalibenchError: a feature is not finite.
    """
    file = _file(checkpoint, train)
    stored = _read(file)
    if stored is None:
        start = time.perf_counter()
        with alone():
            stored = _run(encoder, train.plan)
        _known[file] = time.perf_counter() - start
        _write(file, *stored)
    elif counted():  # a process that measures memory makes no pass that its method does not
        start = time.perf_counter()
        if file not in _known:
            _known[file] = _timed(encoder, train.plan)
        charge(_known[file] - (time.perf_counter() - start))
    features, logits = stored
    bad = np.flatnonzero(~(np.isfinite(features).all(axis=1) & np.isfinite(logits).all(axis=1)))
    if len(bad):
        raise CalibenchError(
            f"The model's features are not finite for row {train.plan.rows[bad].min()} of the training "
            "split; run it with --dtype float32, or check the checkpoint."
        )
    return TrainFeatures(features, logits, train.labels)


def cache_folder() -> Path:
    """Where features are kept: what the environment variable CALIBENCH_CACHE names, else the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_dir("calibench"))


def _run(encoder: Encoder, plan: Plan) -> _Stored:
    joined = map_batches(plan, lambda batch: _both(encoder, batch))
    width = encoder.head.linear.in_features
    return np.ascontiguousarray(joined[:, :width]), np.ascontiguousarray(joined[:, width:])


def _both(encoder: Encoder, batch: Batch) -> torch.Tensor:
    """Features and logits side by side, float32 [B, D + C], on the CPU."""
    encoded = encoder(batch)
    return torch.cat([encoded.features.float(), encoded.logits.float()], dim=1).cpu()


def _timed(encoder: Encoder, plan: Plan) -> float:
    """The seconds of a pass: those of some batches, for as many positions as there are in all."""
    size = [batch.inputs["input_ids"].numel() for batch in plan.batches]
    order = np.random.default_rng(0).permutation(len(size))
    took, done = 0.0, 0
    with alone():
        _both(encoder, plan.batches[order[-1]])  # the first is slower
        for count, number in enumerate(order):
            if count >= _BATCHES and took >= _SECONDS:
                break
            start = time.perf_counter()
            _both(encoder, plan.batches[number])
            took, done = took + time.perf_counter() - start, done + size[number]
    return took * sum(size) / done


def _file(checkpoint: Checkpoint, train: LabelledPlan) -> Path:
    content = {
        "version": _VERSION,
        "model": checkpoint.sha256,
        "config": config_sha256(checkpoint.module.config),
        "dtype": str(checkpoint.dtype),
        "device": checkpoint.device.type,
        "runtime": checkpoint.runtime,
        "attention": checkpoint.attention,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),  # the last bits depend on it
        "texts": plan_sha256(train.plan),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder() / "features" / f"{digest}.npz"


def _read(file: Path) -> _Stored | None:
    try:
        # Opened here: numpy leaves a file that it cannot read open.
        with file.open("rb") as stream, np.load(stream) as stored:
            return stored["features"], stored["logits"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):  # absent, or damaged
        return None


def _write(file: Path, features: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
    partial = file.with_name(f"{file.stem}-{os.getpid()}.npz")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(partial, allow_pickle=False, features=features, logits=logits)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
