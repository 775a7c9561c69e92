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
from calibench.models.sharing import alone, charge
from calibench.types import Batch, IntArray, LabelledPlan

#: Names another folder for the cache than the platform's own.
FOLDER_VARIABLE = "CALIBENCH_CACHE"
_VERSION = 1


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

    The seconds that it took are charged in either case, those of another run as they were measured then.
    Where the cache cannot be written, the work is done again next time.

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
            both = _run(encoder, train)
        stored = (*both, time.perf_counter() - start)
        _write(file, *stored)
    else:
        charge(stored[2])
    features, logits, _ = stored
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


def _run(encoder: Encoder, train: LabelledPlan) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    def both(batch: Batch) -> torch.Tensor:
        encoded = encoder(batch)
        return torch.cat([encoded.features.float(), encoded.logits.float()], dim=1)

    joined = map_batches(train.plan, both)
    width = encoder.head.linear.in_features
    return np.ascontiguousarray(joined[:, :width]), np.ascontiguousarray(joined[:, width:])


def _file(checkpoint: Checkpoint, train: LabelledPlan) -> Path:
    content = {
        "version": _VERSION,
        "model": checkpoint.sha256,
        "config": config_sha256(checkpoint.module.config),
        "dtype": str(checkpoint.dtype),
        "device": checkpoint.device.type,
        "runtime": checkpoint.runtime,
        "attention": checkpoint.attention,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),  # the seconds depend on it
        "texts": plan_sha256(train.plan),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder() / "features" / f"{digest}.npz"


def _read(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], float] | None:
    try:
        # Opened here: numpy leaves a file that it cannot read open.
        with file.open("rb") as stream, np.load(stream) as stored:
            return stored["features"], stored["logits"], float(stored["seconds"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):  # absent, or damaged
        return None


def _write(file: Path, features: NDArray[np.float32], logits: NDArray[np.float32], seconds: float) -> None:
    partial = file.with_name(f"{file.stem}-{os.getpid()}.npz")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(partial, allow_pickle=False, features=features, logits=logits, seconds=seconds)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
