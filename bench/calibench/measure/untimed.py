"""What cells predict apart from the scored data, once and without a clock that counts."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from calibench.errors import CalibenchError
from calibench.measure.memory import give_back_freed_memory
from calibench.measure.running import Running, failure_of
from calibench.measure.session import Session
from calibench.measure.splits import CalibrationSplit, ExtraData
from calibench.method import bind
from calibench.models.sharing import sharing
from calibench.registry import METHODS
from calibench.seeds import derived_seed
from calibench.store.journal import Journal
from calibench.suites.cells import Cell
from calibench.types import FloatArray, Plan, Predictive


def predict_references(session: Session) -> FloatArray | None:
    """Two long references of a yardstick's limit, float64 [2, N, C], in runs that are journalled one by one.

    None for a suite without a yardstick.
    """
    setting, journal = session.setting, session.journal
    spec = setting.suite.yardstick
    if spec is None:
        return None
    seed = setting.suite.seeds[0]
    each = -(-spec.reference_passes // spec.passes)
    done = {entry["run"] for entry in journal.of_kind("reference")}
    left = [run for run in range(2 * each) if run not in done]
    session.progress.stage("Long references", len(left))
    name = spec.reference or spec.method
    factory = METHODS.load(name)
    params = bind(name, factory, {"passes": spec.passes})
    running = Running(Cell(name, factory, params, seed, reference=False), "reference")
    groups, blocks = [batch.index for batch in setting.plan.batches], len(setting.blocks)
    running.method, error = session.attempt(
        name, partial(factory, setting.checkpoint, **params), blocks=blocks
    )
    for run in left if error is None else ():
        drawn = derived_seed(seed, "reference", run)
        found, error = session.predict_apart(running, setting.plan, groups, drawn, blocks=blocks)
        if found is None:
            break
        kept = dataclasses.replace(found[0], samples=None)
        journal.save_outputs(f"reference-{run}", {"reference": kept})
        journal.append({"kind": "reference", "run": run})
        session.progress.step(f"{spec.passes} passes of {name}")
    if error is not None:
        raise CalibenchError(
            f"{name}, the reference of the yardstick, failed: {failure_of(error)['message']}"
        ) from error
    probs = np.stack([journal.load_outputs(f"reference-{run}", "reference").probs for run in range(2 * each)])
    mean: FloatArray = probs.reshape(2, each, *probs.shape[1:]).mean(axis=1)
    return mean


def predict_calibration(session: Session) -> None:
    """Run the methods that have something to fit over the calibration split, if there is one."""
    split = session.setting.calibration
    if split is None:
        return
    sets = bool(session.setting.suite.conformal.kinds)
    bases = {running.base for running in session.derived}
    done = {entry["cell"] for entry in _calibration_entries(session.journal, split)}
    left = [
        running
        for running in session.measured
        if running.key not in done and (sets or running.cell.fits or running.key in bases)
    ]
    session.progress.stage("Calibration split", len(left))
    with sharing():
        for running in left:
            # Where it fails, it is the rows with post-hoc steps that do, not the method's own.
            part = _calibration_part(running.key, split)
            found = _predict_once(session, running, split.plan, "calibration", part)
            session.journal.append(_calibration_entry(running.key, split) | found)
            session.progress.step(running.label)


def predict_extra_data(session: Session) -> None:
    """Run every method once over all other data; what fails there costs these numbers only."""
    done = {(entry["cell"], entry["aside"]) for entry in session.journal.of_kind("aside")}
    for extra in session.setting.extra_data:
        left = [item for item in session.measured if (item.key, extra.key) not in done]
        session.progress.stage(extra.name.capitalize(), len(left))
        with sharing():
            for running in left:
                give_back_freed_memory()
                found = _predict_once(session, running, extra.plan, "aside", _extra_part(running.key, extra))
                session.journal.append(_extra_entry(running.key, extra) | found)
                session.progress.step(running.label)


def _predict_once(session: Session, running: Running, plan: Plan, purpose: str, part: str) -> dict[str, Any]:
    """Predict a plan apart from the scored one, and keep the outputs as `part` of the journal."""
    groups = [batch.index for batch in plan.batches]
    blocks = len(session.setting.blocks)
    found, error = session.predict_apart(running, plan, groups, running.seed(purpose), blocks=blocks)
    if found is None:
        assert error is not None
        return {"failure": failure_of(error)["message"]}
    predictive, timed = found
    kept = dataclasses.replace(predictive, samples=None)
    session.journal.save_outputs(part, {running.key: kept})
    return {"failure": None, "seconds": timed.end_to_end_s}


def add_calibration(
    journal: Journal, key: str, split: CalibrationSplit, outputs: Predictive | None, failure: str | None
) -> None:
    """Write down what the cell `key` predicted for the calibration split elsewhere, or why it failed."""
    if outputs is not None:
        journal.save_outputs(_calibration_part(key, split), {key: outputs})
    journal.append(_calibration_entry(key, split) | {"failure": failure, "seconds": 0.0})


def add_extra(
    journal: Journal, key: str, extra: ExtraData, outputs: Predictive | None, failure: str | None
) -> None:
    """The same of other data."""
    if outputs is not None:
        journal.save_outputs(_extra_part(key, extra), {key: outputs})
    journal.append(_extra_entry(key, extra) | {"failure": failure, "seconds": 0.0})


def _calibration_entry(key: str, split: CalibrationSplit) -> dict[str, Any]:
    return {"kind": "calibration", "cell": key, "data": split.dataset.sha256}


def _extra_entry(key: str, extra: ExtraData) -> dict[str, Any]:
    return {"kind": "aside", "cell": key, "aside": extra.key}


def extra_outputs(journal: Journal, key: str, extra: ExtraData) -> Predictive:
    """What the cell `key` predicted for other data.

    Raises:
        CalibenchError: it failed there.
    """
    entry = next(
        item for item in journal.of_kind("aside") if (item["cell"], item["aside"]) == (key, extra.key)
    )
    if entry["failure"] is not None:
        raise CalibenchError(f"it failed on {extra.name}: {entry['failure']}")
    return journal.load_outputs(_extra_part(key, extra), key)


def calibration_outputs(
    journal: Journal, key: str, label: str, split: CalibrationSplit
) -> tuple[Predictive, float]:
    """What the cell `key` predicted for the calibration split, and the seconds it took.

    Args:
        label: how the message names it.

    Raises:
        CalibenchError: it failed there.
    """
    entry = next(item for item in _calibration_entries(journal, split) if item["cell"] == key)
    if entry["failure"] is not None:
        raise CalibenchError(f"{label} failed on the calibration split: {entry['failure']}")
    return journal.load_outputs(_calibration_part(key, split), key), entry["seconds"]


def _calibration_entries(journal: Journal, split: CalibrationSplit) -> list[dict[str, Any]]:
    entries = journal.of_kind("calibration")
    return [entry for entry in entries if entry["data"] == split.dataset.sha256]


def _calibration_part(key: str, split: CalibrationSplit) -> str:
    """What the journal calls a cell's predictions for the calibration split."""
    return f"{key}-{split.dataset.sha256[:12]}"


def _extra_part(key: str, extra: ExtraData) -> str:
    """What the journal calls a cell's predictions for other data."""
    return f"{key}-aside-{extra.dataset.sha256[:12]}"
