"""The peak memory of every method, on the batch with the most padded tokens."""

from __future__ import annotations

import dataclasses

import torch

from calibench.measure import memory
from calibench.measure.running import Running
from calibench.measure.session import Session


def measure_peaks(session: Session) -> dict[str, memory.Peak]:
    """Peaks by cell key; of those measured before only, where the suite measures no memory."""
    done = {entry["cell"]: entry["peak"] for entry in session.journal.of_kind("memory")}
    peaks = {
        key: memory.Peak(peak["peak_bytes"], peak["kind"], peak["reason"], peak["fit_bytes"])
        for key, peak in done.items()
    }
    left = [running for running in session.measured if running.key not in done]
    if not session.setting.suite.timing.memory or not left:
        return peaks
    session.progress.stage("Memory", len(left))
    for running, peak in zip(left, memory.measure([_task(session, item) for item in left]), strict=True):
        peaks[running.key] = peak
        session.journal.append({"kind": "memory", "cell": running.key, "peak": peak.as_dict()})
        session.progress.step(running.label)
    return peaks


def _task(session: Session, running: Running) -> memory.MemoryTask:
    setting = session.setting
    heaviest = max(setting.plan.batches, key=lambda batch: batch.inputs["input_ids"].numel())
    return memory.MemoryTask(
        checkpoint=dataclasses.asdict(setting.suite.model) | {"device": str(setting.checkpoint.device)},
        method=running.cell.method,
        runtime=running.cell.runtime,
        params=running.cell.params,
        texts=tuple(setting.plan.texts[position] for position in heaviest.index),
        rows=tuple(int(row) for row in setting.plan.rows[heaviest.index]),
        seed=running.cell.seed,
        threads=torch.get_num_threads(),
        padding=dataclasses.asdict(setting.checkpoint.padding),
        train=_train_data(session, running),
        seconds=None if session.limit is None else session.limit * len(setting.blocks),
    )


def _train_data(session: Session, running: Running) -> memory.TrainData | None:
    train, planner = session.setting.train, session.setting.planner
    if train is None or not running.cell.factory.needs_train:
        return None
    plan = train.labelled.plan
    return memory.TrainData(
        plan.texts,
        plan.rows.tolist(),
        train.labelled.labels.tolist(),
        planner.token_budget,
        planner.batch_size,
    )
