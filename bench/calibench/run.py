"""A suite -> a run folder: what is there already, what is missing, and the records of all of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

from calibench.errors import UsageError
from calibench.measure.phases import measure
from calibench.measure.progress import Progress, Silent
from calibench.measure.running import Running, against_itself
from calibench.measure.session import Session
from calibench.measure.setting import Setting, load_setting
from calibench.score.prediction_sets import lacks_sets
from calibench.score.record import make_records
from calibench.store import records
from calibench.store.records import Record
from calibench.suites.cells import Cell, cells_of, identified, left_out
from calibench.suites.spec import Suite, recipes_of

Overwrite = Literal["always", "never", "only-missing"]


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

    Args:
        folder: the run folder; made where it does not exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        overwrite: what to do about records that are there already.
        self_check: race the reference against itself too, so that its record tells what the clock can tell.

    Returns:
        The records of all cells of the suite, in table order, also those that were there.

    Raises:
        UsageError: the suite cannot be run as it was asked for.
        CalibenchError: data or model could not be loaded, or the folder not be written.
    """
    progress = progress or Silent()
    cells = identified(cells_of(suite, device))
    for sentence in left_out(suite, device):
        progress.say(sentence)
    sets = recipes_of(suite.conformal)
    existing = _existing(folder, overwrite)
    progress.stage("Loading", 2)
    post_hoc = bool(sets) or any(cell.fits for cell in cells)
    learning = any(cell.factory.needs_train for cell in cells)
    setting = load_setting(suite, device, progress, post_hoc=post_hoc, learning=learning)
    runnings = [Running(cell, cell.key(setting.context), base=_base(cell, setting)) for cell in cells]
    order = {item.key: position for position, item in enumerate(runnings)}
    unchecked = {r["cell"] for r in existing if self_check and r["reference"] and not r.get("self_check")}
    extra_data = {extra.key for extra in setting.extra_data}
    lacking = {
        r["cell"]
        for r in existing
        if r["cell"] in order and (not extra_data <= set(r.get("asides") or []) or lacks_sets(r, setting))
    }
    done = {record["cell"] for record in existing if record["status"] == "ok"} - unchecked - lacking
    missing = [item for item in runnings if item.key not in done]
    if missing:
        wanted = {item.cell.seed for item in missing}
        references = [item for item in runnings if item.cell.reference and item.cell.seed in wanted]
        derived = [item for item in missing if item.base is not None]
        # A row that only lacks its post-hoc step needs its method measured again, beside the reference.
        needed = {item.key for item in [*missing, *references]} | {item.base for item in derived}
        active = [item for item in runnings if item.key in needed and item.base is None]
        active += [against_itself(item) for item in references if self_check]
        session = Session(setting, active, folder, progress, derived)
        fresh = make_records(measure(session), folder, progress)
        kept = [record for record in existing if record["cell"] in done]
        existing = kept + [record for record in fresh if record["cell"] not in done]
        existing.sort(key=lambda record: order.get(record["cell"], len(order)))
        records.write_records(folder, existing)
        session.journal.remove()
    return [record for record in existing if record["cell"] in order]


def _base(cell: Cell, setting: Setting) -> str | None:
    """The key of the cell without the post-hoc step that was added to it."""
    return None if cell.posthoc is None else replace(cell, posthoc=None).key(setting.context)


def _existing(folder: Path, overwrite: Overwrite) -> list[Record]:
    file = folder / records.RECORDS
    if overwrite == "always" and folder.exists():
        for name in (records.RECORDS, "predictions", "journal"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if not file.exists():
        return []
    if overwrite == "never":
        raise UsageError(
            f"{folder} holds records already; choose another folder with -o, or --overwrite-strategy "
            "only-missing."
        )
    return records.load_records(folder)
