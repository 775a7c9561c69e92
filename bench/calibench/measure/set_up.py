"""From nothing to methods that can predict, and that have predicted once."""

from __future__ import annotations

import time

import torch

from calibench.errors import CalibenchError
from calibench.measure.running import Running
from calibench.measure.session import Session
from calibench.method import Method
from calibench.models.sharing import charges


def set_up(session: Session) -> None:
    """Make and fit every method, and note how long it took."""
    session.progress.stage("Setting up", len(session.active))
    for running in session.active:
        start = time.perf_counter()
        try:
            running.method = running.cell.factory(session.setting.checkpoint, **running.cell.params)
            charged = _fit(session, running, running.method)
        except Exception as error:
            charged = 0.0
            session.failed(running, error)
        running.setup_s = time.perf_counter() - start + charged
        session.progress.step(running.label)


def _fit(session: Session, running: Running, method: Method) -> float:
    """Fit a method that learns from training data; returns the seconds charged beside the clock's."""
    if not method.needs_train:
        return 0.0
    train = session.setting.train
    if train is None:
        raise CalibenchError(
            f"{running.cell.name} learns from training data, and there is none. "
            f"{session.setting.train_missing}"
        )
    start = time.perf_counter()
    with charges() as charged:
        method.fit(train.labelled)
    running.fit = {
        "seconds": time.perf_counter() - start + charged.seconds,
        "examples": len(train.dataset),
        "folds": None,
        "split": train.dataset.split,
        "unseen": None,
        "parameters": dict(method.learnt),
    }
    return charged.seconds


def warm_up(session: Session) -> None:
    """Every shape once through the model, then each method on whole blocks; on accelerators on all."""
    setting = session.setting
    everything = setting.checkpoint.device.type != "cpu"
    count = len(setting.blocks) if everything else min(setting.suite.timing.warmup, len(setting.blocks))
    session.progress.stage("Warming up", count * len(session.alive))
    with torch.inference_mode():
        for batch in setting.plan.batches:
            setting.checkpoint.module(**batch.inputs)
    for block in range(count):
        for running in session.alive:
            few = running.cell.replicates is not None  # too slow to be run whole for nothing
            groups = setting.blocks[block]
            session.predict(running, groups[:1] if few else groups, "block", block)
            session.progress.step(running.label)
