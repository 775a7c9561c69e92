"""What a process does with a piece of work; see `calibench.sweep.work`."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibench.errors import WriteError
from calibench.measure.checks import Described, described
from calibench.measure.measured import DerivedCell, Measured, MeasuredCell
from calibench.measure.progress import Progress, Silent
from calibench.measure.running import Running, failure_of
from calibench.measure.session import Session
from calibench.measure.set_up import set_up
from calibench.measure.setting import Setting, load_setting
from calibench.measure.untimed import add_calibration, add_extra
from calibench.posthoc.conformal import Recipe
from calibench.run import is_as_asked, run, runnings_of
from calibench.score.record import make_records
from calibench.store.journal import Journal
from calibench.store.naming import label
from calibench.suites.cells import cells_of, identified, left_out
from calibench.suites.spec import recipes_of
from calibench.sweep.executor import Answer, Failure, Job
from calibench.sweep.work import (
    CALIBRATION,
    REASON,
    Join,
    Joined,
    Look,
    Looked,
    LookedCell,
    Part,
    Shard,
    Sharded,
    Task,
    Timed,
    Timing,
    pace_of,
)
from calibench.types import Coverage, DropoutSite, Plan, Predictive

#: Pairs whose model and data a process holds: two, since one pair's last work meets the next one's first.
_HELD = 2


@dataclass
class _Held:
    """A pair's model, data and methods in a process."""

    task: Task
    session: Session
    runnings: dict[str, Running]
    load_s: float

    @property
    def setting(self) -> Setting:
        return self.session.setting


class Worker:
    """Does work in this process, and keeps model and data of the last pairs.

    Args:
        progress: who is told how far a timed run has come.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or Silent()
        self._held: list[_Held] = []
        self._does: Mapping[type, Callable[[Any], Any]] = {
            Look: self._look,
            Shard: self._shard,
            Join: self._join,
            Timing: self._timing,
        }

    def do(self, work: Task) -> Looked | Sharded | Joined | Timed:
        """The answer to a piece of work.

        Raises:
            CalibenchError: the pair cannot be run, or what its methods share is no longer what it was.
        """
        try:
            found: Looked | Sharded | Joined | Timed = self._does[type(work)](work)
            return found
        except BaseException:
            self._held.clear()  # nobody knows what it left behind
            raise

    def _pair(self, work: Task) -> _Held:
        """The pair of a piece of work, loaded once."""
        name = Task(work.suite, work.device)
        held = next((item for item in self._held if item.task == name), None)
        if held is not None:
            self._held.sort(key=lambda item: item is not held)
            return held
        gc.unfreeze()
        self._held = [_load(name), *self._held][:_HELD]
        # Every prediction collects garbage before its clock starts, and shall not walk all that is loaded.
        gc.collect()
        gc.freeze()
        return self._held[0]

    def _timing(self, work: Timing) -> Timed:
        found = run(work.suite, work.folder, device=work.device, progress=self._progress)
        rows = [
            (label(item, found), item["status"], item["error"] and item["error"]["message"]) for item in found
        ]
        return Timed(tuple(rows))

    def _look(self, work: Look) -> Looked:
        held = self._pair(work)
        setting, runnings = held.setting, held.runnings
        there = {record["cell"]: record for record in work.there}
        done = {
            key for key in runnings if key in there and is_as_asked(there[key], setting, timed=work.timed)
        }
        cells = tuple(_looked(setting, running, runnings, done) for running in runnings.values())
        seconds = {} if work.known is None else _paces(held, cells, work.known)
        besides = sum(len(extra.plan) for extra in setting.extra_data)
        return Looked(
            cells,
            tuple(left_out(work.suite, work.device)) + setting.notes,
            len(setting.plan),
            besides + (0 if setting.calibration is None else len(setting.calibration.plan)),
            len(setting.blocks),
            held.load_s,
            seconds,
        )

    def _shard(self, work: Shard) -> Sharded:
        held = self._pair(work)
        session, running = held.session, held.runnings[work.key]
        _make_ready(held, running)
        parts: dict[str, Part] = {}
        for part in work.parts if running.alive else ():
            found = _predicted(session, running, part)
            if not running.alive:
                break
            parts[part] = found
        said = None
        if running.method is not None:
            said, error = session.attempt(
                running.cell.name, lambda: described(running.cell.name, running.method)
            )
            if error is not None:
                session.failed(running, error)
        session.watch.verify_weights()
        failure = running.failure
        if failure is not None:  # whoever asks again shall not be answered by what is left of it
            held.runnings[work.key] = dataclasses.replace(running, failure=None, method=None, scores=None)
        return Sharded(parts, None if said is None else dataclasses.asdict(said), running.fit, failure)

    def _join(self, work: Join) -> Joined:
        held = self._pair(work)
        running = held.runnings[work.key]
        if work.found.failure is None:  # another process may have predicted it: the record says what ran it
            held.session.checkpoint(running.cell.runtime)
        with tempfile.TemporaryDirectory(prefix="calibench-join-") as name:
            folder = Path(name)
            measured = _measured(held, running, work.found, folder)
            records = make_records(measured, folder, Silent(), untimed=REASON)
            wanted = [record for record in records if record["cell"] in work.rows]
            files = {
                record["cell"]: (folder / record["predictions"]).read_bytes()
                for record in wanted
                if record.get("predictions")
            }
        return Joined(tuple(wanted), files)


def answered(worker: Worker, job: Job) -> Answer:
    """What a process answers: what is raised becomes data, so that nobody has to know its class."""
    try:
        return Answer(job.number, worker.do(job.work))
    except BaseException as error:  # other people's code may raise what ends a process
        return Answer(job.number, Failure(failure_of(error), fatal=isinstance(error, WriteError)))


def _load(work: Task) -> _Held:
    start = time.perf_counter()
    suite, device = work.suite, work.device
    cells = identified(cells_of(suite, device))
    post_hoc = bool(recipes_of(suite.conformal)) or any(cell.fits for cell in cells)
    learning = any(cell.factory.needs_train for cell in cells)
    setting = load_setting(suite, device, Silent(), post_hoc=post_hoc, learning=learning)
    runnings = {item.key: item for item in runnings_of(cells, setting)}
    session = Session(setting, [], Path(tempfile.gettempdir()) / "calibench-no-run-folder", Silent())
    return _Held(work, session, runnings, time.perf_counter() - start)


def _looked(setting: Setting, running: Running, rows: Mapping[str, Running], done: set[str]) -> LookedCell:
    cell = running.cell
    parts = [str(block) for block in range(len(setting.blocks))]
    fits = bool(setting.suite.conformal.kinds) or any(
        item.cell.fits for item in rows.values() if running.key in (item.key, item.base)
    )
    if setting.calibration is not None and fits:
        parts.append(CALIBRATION)
    parts += [extra.key for extra in setting.extra_data]
    return LookedCell(
        running.key,
        cell.label,
        cell.name,
        dict(cell.params),
        cell.posthoc,
        cell.seed,
        cell.reference,
        running.base,
        running.key in done,
        () if running.base is not None else tuple(parts),
        cell.factory.needs_train,
    )


def _make_ready(held: _Held, running: Running) -> None:
    """Set the cell's method up, and let go of the one before it."""
    if running.alive:
        return
    for other in held.runnings.values():
        other.method = None
    held.session.active = [running]
    set_up(held.session)


def _predicted(session: Session, running: Running, part: str) -> Part:
    """What a cell predicts for a part; where that is a block, its failure is the cell's."""
    setting = session.setting
    if part.isdecimal():
        found = session.predict_block(running, int(part))
        if found is None:
            return Part(None)
        predictive = found[0]
        keep = bool(setting.suite.curve)
        return Part(predictive if keep else dataclasses.replace(predictive, samples=None))
    plan, purpose = _other_plan(setting, part)
    groups, blocks = [batch.index for batch in plan.batches], len(setting.blocks)
    result, error = session.predict_apart(running, plan, groups, running.seed(purpose), blocks=blocks)
    if result is None:
        assert error is not None
        return Part(None, failure_of(error)["message"])
    return Part(dataclasses.replace(result[0], samples=None))


def _other_plan(setting: Setting, part: str) -> tuple[Plan, str]:
    """The plan of a part that is no block, and what its seed is derived from."""
    if part == CALIBRATION:
        assert setting.calibration is not None
        return setting.calibration.plan, "calibration"
    return next(extra.plan for extra in setting.extra_data if extra.key == part), "aside"


def _paces(held: _Held, cells: Sequence[LookedCell], known: Mapping[str, float]) -> dict[str, float]:
    """Seconds of an example, by key of the cells that predict what is missing; none of those that fail."""
    found = {}
    for key in dict.fromkeys(cell.base or cell.key for cell in cells if not cell.there):
        running = held.runnings[key]
        pace = known.get(pace_of(running.cell.name, running.cell.params)) or _seconds(held, running)
        if pace is not None:
            found[key] = pace
    return found


def _seconds(held: _Held, running: Running) -> float | None:
    """Seconds of an example, from one batch of middling length; None where the method fails."""
    _make_ready(held, running)
    plan = held.setting.plan
    batch = plan.batches[len(plan.batches) // 2].index
    times = []
    for _ in range(2):  # the first pays for what later ones find ready
        found = held.session.predict(running, [batch], "estimate") if running.alive else None
        if found is None:
            held.runnings[running.key] = dataclasses.replace(running, failure=None, method=None, scores=None)
            return None
        times.append(found[1].end_to_end_s)
    return float(np.min(times)) / len(batch)


def _measured(held: _Held, running: Running, found: Sharded, folder: Path) -> Measured:
    """The parts of a cell, as a run would have measured them."""
    setting, said, key = held.setting, _described(found.described), running.key
    journal = Journal(folder, "0" * 12, keep_samples=False)
    blocks: dict[int, Predictive] = {}
    for name, part in found.parts.items():
        if name.isdecimal():
            assert part.predictive is not None
            blocks[int(name)] = part.predictive
        elif name == CALIBRATION:
            assert setting.calibration is not None
            add_calibration(journal, key, setting.calibration, part.predictive, part.failure)
        else:
            extra = next(extra for extra in setting.extra_data if extra.key == name)
            add_extra(journal, key, extra, part.predictive, part.failure)
    cell = MeasuredCell(
        cell=running.cell,
        key=key,
        failure=found.failure,
        setup_s=0.0,
        fit=found.fit,
        passes=1 if said is None else said.passes,
        coverage=None if said is None else said.coverage,
        conformal=None if said is None else said.conformal,
        tokenises=said is not None and said.tokenises,
        outputs={0: blocks},
        peak=None,
        self_checked=False,
    )
    derived = [DerivedCell(row.cell, row.key, key) for row in held.runnings.values() if row.base == key]
    return Measured(setting, (cell,), tuple(derived), journal, held.session.runtimes, None)


def _described(table: Mapping[str, Any] | None) -> Described | None:
    """What `dataclasses.asdict` made a table of."""
    if table is None:
        return None
    coverage, recipe = table["coverage"], table["conformal"]
    return Described(
        passes=table["passes"],
        coverage=coverage and Coverage(tuple(DropoutSite(**site) for site in coverage["sites"])),
        conformal=recipe and Recipe(**recipe),
        tokenises=table["tokenises"],
    )
