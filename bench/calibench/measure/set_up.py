"""From nothing to methods that can predict, and that have predicted once."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from calibench.errors import CalibenchError
from calibench.measure.checks import check_parameters, described, learnt_by
from calibench.measure.running import Running
from calibench.measure.session import Session
from calibench.method import Method
from calibench.models.sharing import charges
from calibench.suites.spec import TORCH
from calibench.types import Batch, LabelledPlan


def set_up(session: Session) -> None:
    """Make and fit every method, and note how long it took."""
    session.progress.stage("Setting up", len(session.active))
    for running in session.active:
        make = partial(_make, session, running)
        method, error = session.attempt(running.cell.name, make, blocks=len(session.setting.blocks))
        if error is not None:
            session.failed(running, error)
        running.method = method
        session.progress.step(running.label)


def _make(session: Session, running: Running) -> Method:
    """The method of a cell, fitted where it learns from training data."""
    cell = running.cell
    check_parameters(cell.name, cell.params)
    checkpoint = session.checkpoint(cell.runtime)
    start = time.perf_counter()
    method = cell.factory(checkpoint, **cell.params)
    running.setup_s = time.perf_counter() - start
    described(cell.name, method)
    if method.needs_train:
        running.fit = _fit(session, running, method)
        running.setup_s += running.fit["seconds"]
    return method


def _fit(session: Session, running: Running, method: Method) -> dict[str, Any]:
    """Fit a method that learns from training data; returns what its record says of that."""
    train = session.setting.train
    if train is None:
        raise CalibenchError(
            f"{running.cell.name} learns from training data, and there is none. "
            f"{session.setting.train_missing}"
        )
    labelled = _copied(train.labelled)
    start = time.perf_counter()
    with charges() as charged:
        method.fit(labelled)
    seconds = time.perf_counter() - start + charged.seconds
    return {
        "seconds": seconds,
        "examples": len(train.dataset),
        "folds": None,
        "split": train.dataset.split,
        "unseen": None,
        "parameters": learnt_by(running.cell.name, method),
    }


def _copied(train: LabelledPlan) -> LabelledPlan:
    """The same in memory of its own: what one method writes to, no other reads."""
    plan = train.plan
    batches = tuple(
        Batch({name: tensor.clone() for name, tensor in batch.inputs.items()}, batch.index.copy())
        for batch in plan.batches
    )
    return LabelledPlan(replace(plan, rows=plan.rows.copy(), batches=batches), train.labels.copy())


def warm_up(session: Session) -> None:
    """Each method on a batch of each of the first blocks; on accelerators on all blocks, for every shape.

    A CPU has next to nothing to find out about a shape: after a batch, a block takes hardly longer the first
    time than later.
    """
    setting = session.setting
    everything = setting.checkpoint.device.type != "cpu"
    count = len(setting.blocks) if everything else min(setting.suite.timing.warmup, len(setting.blocks))
    session.progress.stage("Warming up", count * len(session.alive))
    for runtime in dict.fromkeys(running.cell.runtime for running in session.alive):
        if runtime != TORCH:  # which may have something to find out about every shape
            with torch.inference_mode():
                for batch in setting.plan.batches:
                    session.checkpoint(runtime).module(**batch.inputs)
    for block in range(count):
        for running in session.alive:
            # Whole ones of a method with few replicates would take too long for nothing.
            whole = everything and running.cell.replicates is None
            groups = setting.blocks[block]
            session.predict(running, groups if whole else groups[:1], "block", block)
            session.progress.step(running.label)
