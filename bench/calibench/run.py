"""A suite -> a run folder: what is there already, what is missing, and the records of all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from calibench.callables import make_callable
from calibench.errors import UsageError
from calibench.measure.phases import measure
from calibench.measure.progress import Progress, Silent
from calibench.measure.running import Running, against_itself
from calibench.measure.session import Session
from calibench.measure.setting import Setting, load_setting
from calibench.score.prediction_sets import lacks_sets
from calibench.score.record import make_records
from calibench.store import records
from calibench.store.journal import remove_finished
from calibench.store.lock import sole_writer
from calibench.store.merging import add_records
from calibench.store.predictions import has_its_predictions
from calibench.store.records import Record, dig, is_older, is_untimed
from calibench.suites.cells import Cell, cells_of, identified, left_out
from calibench.suites.spec import Suite, recipes_of

Overwrite = Literal["always", "never", "only-missing"]

make_callable(__name__)


def run(
    suite: Suite,
    folder: Path,
    *,
    device: str = "auto",
    overwrite: Overwrite = "only-missing",
    self_check: bool = False,
    progress: Progress | None = None,
) -> list[Record]:
    """Measure every cell of `suite` that `folder` does not hold yet, and write their records.

    What the folder holds is replaced once what replaces it is written, and not before.

    Args:
        folder: the run folder; made where it does not exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        overwrite: what to do about records that are there already.
        self_check: race the reference against itself too, so that its record tells what the clock can tell.

    Returns:
        The records of all cells of the suite, in table order, also those that were there.

    Raises:
        UsageError: the suite cannot be run as it was asked for, or another run writes to the folder.
        CalibenchError: data or model could not be loaded, or the folder not be written.
    """
    with sole_writer(folder):
        existing = _existing(folder, overwrite)
        kept = [] if overwrite == "always" else existing
        found = _complete(suite, folder, kept, device, progress or Silent(), self_check=self_check)
        remove_finished(folder, {item["cell"] for item in _existing(folder) if item["status"] == "ok"})
        return found


def _complete(
    suite: Suite,
    folder: Path,
    existing: Sequence[Record],
    device: str,
    progress: Progress,
    *,
    self_check: bool,
) -> list[Record]:
    """The records of all cells: those among `existing` that are as asked for, and the others measured."""
    cells = identified(cells_of(suite, device))
    for sentence in left_out(suite, device):
        progress.say(sentence)
    sets = recipes_of(suite.conformal)
    progress.stage("Loading", 2)
    post_hoc = bool(sets) or any(cell.fits for cell in cells)
    learning = any(cell.factory.needs_train for cell in cells)
    setting = load_setting(suite, device, progress, post_hoc=post_hoc, learning=learning)
    runnings = runnings_of(cells, setting)
    order = {item.key: position for position, item in enumerate(runnings)}
    found = {record["cell"]: record for record in existing if record["cell"] in order}
    done = {
        key
        for key, record in found.items()
        if is_as_asked(record, setting, self_check=self_check) and has_its_predictions(folder, record)
    }
    missing = [item for item in runnings if item.key not in done]
    if missing:
        _say_older(existing, missing, setting, progress)
        session = _session(runnings, missing, setting, folder, progress, self_check=self_check)
        fresh = make_records(measure(session), folder, progress)
        fresh = [record for record in fresh if record["cell"] not in done]
        for label in add_records(folder, fresh, order):
            progress.say(f"{label} failed this time, and keeps the record that was there.")
        session.journal.remove()
        found |= {record["cell"]: record for record in fresh}
    return [found[key] for key in order]


def _session(
    runnings: Sequence[Running],
    missing: Sequence[Running],
    setting: Setting,
    folder: Path,
    progress: Progress,
    *,
    self_check: bool,
) -> Session:
    """What has to be measured side by side for what is missing."""
    wanted = {item.cell.seed for item in missing}
    references = [item for item in runnings if item.cell.reference and item.cell.seed in wanted]
    derived = [item for item in missing if item.base is not None]
    # A row that only lacks its post-hoc step needs its method measured again, beside the reference.
    needed = {item.key for item in [*missing, *references]} | {item.base for item in derived}
    active = [item for item in runnings if item.key in needed and item.base is None]
    active += [against_itself(item) for item in references if self_check]
    return Session(setting, active, folder, progress, derived)


def is_as_asked(record: Record, setting: Setting, *, self_check: bool = False, timed: bool = True) -> bool:
    """Whether a cell's record holds all that was asked for.

    Args:
        timed: whether its times are asked for too, which a record of quality work lacks.
    """
    extra_data = {extra.key for extra in setting.extra_data}
    return (
        record["status"] == "ok"
        and not (timed and is_untimed(record))
        and not (self_check and record["reference"] and not record.get("self_check"))
        and extra_data <= set(record.get("asides") or [])
        and not lacks_sets(record, setting)
    )


def _say_older(
    existing: Sequence[Record], missing: Sequence[Running], setting: Setting, progress: Progress
) -> None:
    """That rows are measured again which have a record, though not one that says of which model exactly."""
    names = {item.cell.name for item in missing}
    older = [
        record
        for record in existing
        if is_older(record)
        and (record["suite"], record["method"]["name"] in names) == (setting.suite.name, True)
        and dig(record, "data", "sha256") == setting.dataset.sha256
        and dig(record, "model", "sha256") == setting.checkpoint.sha256
    ]
    if older:
        count = "1 record here is" if len(older) == 1 else f"{len(older)} records here are"
        progress.say(
            f"{count} older than keys that tell a model's config and tokenizer from another's: what they are "
            "of is measured again."
        )


def runnings_of(cells: Sequence[Cell], setting: Setting) -> list[Running]:
    """The cells with their keys in this setting, before anything is measured."""
    return [Running(cell, cell.key(setting.context), base=_base(cell, setting)) for cell in cells]


def _base(cell: Cell, setting: Setting) -> str | None:
    """The key of the cell without the post-hoc step that was added to it."""
    return None if cell.posthoc is None else replace(cell, posthoc=None).key(setting.context)


def _existing(folder: Path, overwrite: Overwrite = "only-missing") -> list[Record]:
    """The records that are there."""
    file = folder / records.RECORDS
    if not os.path.lexists(file):
        return []
    if overwrite == "never":
        raise UsageError(
            f"{folder} holds records already; choose another folder with -o, or --overwrite-strategy "
            "only-missing."
        )
    return records.load_records(folder)
