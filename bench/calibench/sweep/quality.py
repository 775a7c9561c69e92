"""Quality work: every pair cut into cells, every cell into parts, and the parts joined to records.

Nothing is timed. Only the sweep's own process writes: a part's outputs go into the journal of the pair's run
folder as they come, so that a killed sweep goes on behind them, and a cell's predictions and records once its
last part is there. Records are written some together: what a kill loses of them is made again of the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibench.errors import WriteError
from calibench.store.journal import Journal
from calibench.store.lock import sole_writer
from calibench.store.merging import add_records
from calibench.store.predictions import copy_predictions, has_its_predictions
from calibench.store.records import RECORDS, Record, load_records
from calibench.sweep.executor import Executor, Failure, Found, Job
from calibench.sweep.progress import Told
from calibench.sweep.spec import Pair, Sweep
from calibench.sweep.work import Join, Joined, Look, Looked, LookedCell, Part, Shard, Sharded, Task

#: Pieces into which a cell is cut for each process: enough to share out evenly, also where one cell is most
#: of the work.
_PIECES = 4
#: Seconds between two times that a pair's records are written: all of them are, each time.
_APART_S = 1.0


@dataclass(eq=False)
class _Cell:
    """A cell on its way.

    Attributes:
        looked: the cell.
        rows: those that lack a record, itself or with a post-hoc step, and by key what each is called.
        left: parts that nobody has predicted yet.
        found: what is there of it; the outputs of its parts are in the journal.
    """

    looked: LookedCell
    rows: dict[str, str]
    left: set[str]
    found: Sharded


@dataclass(eq=False)
class _Open:
    """A pair on its way."""

    number: int
    pair: Pair
    folder: Path
    lock: contextlib.ExitStack
    looked: bool = False
    order: Mapping[str, int] = field(default_factory=dict)
    journal: Journal | None = None
    cells: dict[str, _Cell] = field(default_factory=dict)
    unwritten: list[Record] = field(default_factory=list)
    written: float = field(default_factory=time.monotonic)


class Quality:
    """Does the quality work of a sweep.

    Args:
        folder: the sweep's; this process is its sole writer.
        device: as of `calibench.run.run`.
        told: who is told of cells that are done or have failed.
    """

    def __init__(self, sweep: Sweep, folder: Path, executor: Executor, device: str, told: Told) -> None:
        self._folder = folder
        self._executor = executor
        self._device = device
        self._told = told
        self._ahead = deque(enumerate(sweep.pairs))
        self._open: dict[int, _Open] = {}
        self._ready: deque[Job] = deque()
        self._under_way: dict[int, Job] = {}
        self._numbers = iter(range(10**9))

    def run(self) -> Generator[Pair]:
        """Do all that is missing; yields each pair once it is done.

        Raises:
            UsageError: another run writes to a pair's folder.
            WriteError: there is no room.
        """
        try:
            while self._fill():
                found = [(self._under_way.pop(item.number), item.found) for item in self._executor.answers()]
                while self._free and (ready := self._held_ready()) is not None:
                    self._hand_out(ready)  # so that no process waits while answers are written down
                while found:
                    job, answer = found.pop(0)
                    if isinstance(answer, Failure) and answer.fatal:
                        raise WriteError(answer.error["message"])
                    opened = self._open[job.pair]
                    self._take(opened, job.work, answer)
                    left = [*self._ready, *self._under_way.values(), *(job for job, _ in found)]
                    if not opened.cells and all(job.pair != opened.number for job in left):
                        yield self._close(opened)
        finally:
            with contextlib.ExitStack() as stack:
                for opened in self._open.values():
                    stack.push(opened.lock)
                    stack.callback(self._write, opened)

    @property
    def _free(self) -> bool:
        return len(self._under_way) < self._executor.slots

    def _fill(self) -> bool:
        """Hand out as much work as there are slots; returns whether any is under way."""
        while self._free and (job := self._next()) is not None:
            self._hand_out(job)
        return bool(self._under_way)

    def _hand_out(self, job: Job) -> None:
        self._under_way[job.number] = job
        self._executor.submit(job)

    def _next(self) -> Job | None:
        """Work on what an idle process holds, or else on a new pair, or else whatever there is."""
        ready = self._held_ready()
        if ready is not None:
            return ready
        if self._ahead:
            return self._look(*self._ahead.popleft())
        return self._ready.popleft() if self._ready else self._look_along()

    def _held_ready(self) -> Job | None:
        """Work on a pair that an idle process has loaded."""
        held = self._executor.held()
        for job in self._ready:
            if job.pair in held:
                self._ready.remove(job)
                return job
        return None

    def _job(self, opened: _Open, work: Task) -> Job:
        return Job(next(self._numbers), opened.number, work)

    def _look(self, number: int, pair: Pair) -> Job:
        folder, lock = self._folder / pair.folder, contextlib.ExitStack()
        lock.enter_context(sole_writer(folder))
        self._open[number] = opened = _Open(number, pair, folder, lock)
        return self._job(opened, Look(pair.suite, self._device, tuple(sound_records(folder))))

    def _look_along(self) -> Job | None:
        """What another process looks at, for one that is idle: it has the pair loaded when there is work."""
        looks = [job for job in self._under_way.values() if not self._open[job.pair].looked]
        crowd = Counter(job.pair for job in looks)
        least = min(looks, key=lambda job: crowd[job.pair], default=None)
        return least and self._job(self._open[least.pair], least.work)

    def _take(self, opened: _Open, work: Task, found: Found | Failure) -> None:
        if isinstance(work, Look):
            self._looked(opened, found)
        elif isinstance(work, Shard):
            cell = opened.cells.get(work.key)
            if cell is not None:  # else another shard of it has failed, and its record says so
                self._sharded(opened, cell, found)
        elif isinstance(work, Join):
            self._joined(opened, opened.cells.pop(work.key), found)

    def _looked(self, opened: _Open, found: Found | Failure) -> None:
        if opened.looked:  # by another process
            return
        opened.looked = True
        if isinstance(found, Failure):
            self._told.failed(opened.pair, "", found.error["message"])
            return
        assert isinstance(found, Looked)
        for sentence in found.said:
            self._told.say(f"{opened.pair.folder}: {sentence}")
        opened.order = {cell.key: position for position, cell in enumerate(found.cells)}
        keep = bool(opened.pair.suite.curve)
        opened.journal = Journal(opened.folder, _session(found.blocks), keep_samples=keep)
        missing = list(_missing(found.cells))
        self._told.expect(opened.pair, sum(len(cell.rows) for cell in missing))
        for cell in missing:
            opened.cells[cell.looked.key] = cell
            _resume(cell, opened.journal)
            pieces = 1 if cell.looked.whole else _PIECES * self._executor.slots
            for parts in _dealt(sorted(cell.left, key=cell.looked.parts.index), pieces):
                work = Shard(opened.pair.suite, self._device, cell.looked.key, parts)
                self._ready.append(self._job(opened, work))
            if not cell.left:
                self._join(opened, cell)

    def _sharded(self, opened: _Open, cell: _Cell, found: Found | Failure) -> None:
        if cell.found.failure is not None:  # of another shard
            return
        if isinstance(found, Failure):
            found = Sharded({}, None, None, found.error)
        assert isinstance(found, Sharded)
        if found.failure is not None:
            cell.found = found
            kept = [job for job in self._ready if not _is_of(job, opened, cell)]
            self._ready = deque(kept)
        else:
            assert opened.journal is not None
            for name, part in found.parts.items():
                _keep(opened.journal, cell, name, part, found)
        if found.failure is not None or not cell.left:
            self._join(opened, cell)

    def _join(self, opened: _Open, cell: _Cell) -> None:
        """Have the records of a cell made, before anything else is done."""
        assert opened.journal is not None
        parts = {} if cell.found.failure is not None else dict(_outputs(opened.journal, cell.looked.key))
        found = dataclasses.replace(cell.found, parts=parts)
        work = Join(opened.pair.suite, self._device, cell.looked.key, found, tuple(cell.rows))
        self._ready.appendleft(self._job(opened, work))

    def _joined(self, opened: _Open, cell: _Cell, found: Found | Failure) -> None:
        if isinstance(found, Failure):  # of what no record says anything
            for name in cell.rows.values():
                self._told.failed(opened.pair, name, found.error["message"])
            return
        assert isinstance(found, Joined)
        records = [
            record | copy_predictions(opened.folder, record["cell"], found.files[record["cell"]])
            if record["cell"] in found.files
            else record
            for record in found.records
        ]
        opened.unwritten += records
        if time.monotonic() - opened.written > _APART_S:
            self._write(opened)
        for record in records:
            name = cell.rows[record["cell"]]
            if record["status"] == "ok":
                self._told.done(opened.pair, name)
            else:
                self._told.failed(opened.pair, name, record["error"]["message"])

    def _write(self, opened: _Open) -> None:
        """The records that there are by now, among those of the run folder."""
        if opened.unwritten:
            for name in add_records(opened.folder, opened.unwritten, opened.order):
                self._told.say(f"{name} failed this time, and keeps the record that was there.")
        opened.unwritten, opened.written = [], time.monotonic()

    def _close(self, opened: _Open) -> Pair:
        self._write(opened)
        if opened.journal is not None:
            opened.journal.remove()
        opened.lock.close()
        del self._open[opened.number]
        return opened.pair


def sound_records(folder: Path) -> list[Record]:
    """The records of a run folder whose predictions are there."""
    if not (folder / RECORDS).exists():
        return []
    return [record for record in load_records(folder) if has_its_predictions(folder, record)]


def _session(blocks: int) -> str:
    """Names what parts mean: a block has its number, of so many."""
    return hashlib.sha256(f"quality work in {blocks} blocks".encode()).hexdigest()[:12]


def _missing(cells: Sequence[LookedCell]) -> Iterator[_Cell]:
    """The cells of which a row is missing, with nothing found of them."""
    for cell in cells:
        rows = {row.key: row.label for row in cells if not row.there and cell.key in (row.key, row.base)}
        if cell.base is None and rows:
            yield _Cell(cell, rows, set(cell.parts), Sharded({}, None, None, None))


def _dealt(parts: Sequence[str], pieces: int) -> list[tuple[str, ...]]:
    """The parts in so many pieces, or fewer, of like size."""
    return [tuple(parts[start::pieces]) for start in range(min(pieces, len(parts)))]


def _is_of(job: Job, opened: _Open, cell: _Cell) -> bool:
    return job.pair == opened.number and isinstance(job.work, Shard) and job.work.key == cell.looked.key


def _keep(journal: Journal, cell: _Cell, name: str, part: Part, found: Sharded) -> None:
    """Write a part down, with what its method said of itself."""
    key = cell.looked.key
    if part.predictive is not None:
        journal.save_outputs(_file(key, name), {key: part.predictive})
    journal.append(
        {
            "kind": "part",
            "order": [key],
            "part": name,
            "failure": part.failure,
            "described": found.described,
            "fit": found.fit,
        }
    )
    cell.left.discard(name)
    cell.found = dataclasses.replace(found, parts={})


def _resume(cell: _Cell, journal: Journal) -> None:
    """Take up what the journal holds of a cell."""
    for entry in _entries(journal, cell.looked.key):
        cell.left.discard(entry["part"])
        cell.found = Sharded({}, entry["described"], entry["fit"], None)


def _outputs(journal: Journal, key: str) -> Iterator[tuple[str, Part]]:
    """The parts of a cell that the journal holds."""
    for entry in _entries(journal, key):
        name, failure = entry["part"], entry["failure"]
        yield name, Part(None if failure else journal.load_outputs(_file(key, name), key), failure)


def _entries(journal: Journal, key: str) -> list[dict[str, Any]]:
    return [entry for entry in journal.of_kind("part") if entry["order"] == [key]]


def _file(key: str, part: str) -> str:
    """What the journal calls a part's outputs."""
    return f"{key}-{hashlib.sha256(part.encode()).hexdigest()[:12]}"
