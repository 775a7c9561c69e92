"""What a sweep would do: which cells are there, missing or changed, and how long those take, about."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibench.store.paths import without_paths
from calibench.store.records import Record, dig
from calibench.suites.spec import TimingSpec
from calibench.sweep.executor import Answer, Executor, Failure, Job
from calibench.sweep.quality import sound_records
from calibench.sweep.spec import Pair, Sweep
from calibench.sweep.work import Look, Looked, LookedCell, pace_of


@dataclass(frozen=True)
class PlannedPair:
    """What would be done for a pair.

    Attributes:
        cells: rows of its table, of which so many are there, missing, and missing where a record stands that
            is of the same method and seed, and of other data, weights or versions.
        examples: that are scored; None where the pair cannot be loaded.
        seconds: of one process, about; None where nobody knows.
        failure: why it cannot be run, or None.
    """

    folder: str
    cells: int
    there: int
    missing: int
    changed: int
    examples: int | None
    seconds: float | None
    failure: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a sweep would do.

    Attributes:
        seconds: of the whole, on so many workers; None where it cannot be told of any pair.
    """

    pairs: tuple[PlannedPair, ...]
    quality_only: bool
    workers: int
    seconds: float | None

    def as_json(self) -> str:
        """The plan for other programs."""
        return json.dumps(asdict(self))


def plan(
    sweep: Sweep, folder: Path, executor: Executor, device: str, *, quality_only: bool, workers: int
) -> Plan:
    """Look at every pair, and time a batch of the methods that no record of the sweep tells the time of.

    Args:
        folder: the sweep's, which need not be there; nothing is written.
        workers: how many would do quality work.
    """
    records = {pair.folder: sound_records(folder / pair.folder) for pair in sweep.pairs}
    found: dict[str, PlannedPair] = {}
    for pair, answer in _looks(sweep, records, executor, device, quality_only=quality_only):
        if isinstance(answer.found, Failure):
            message = answer.found.error["message"]
            found[pair.folder] = PlannedPair(pair.folder, 0, 0, 0, 0, None, None, message)
        else:
            assert isinstance(answer.found, Looked)
            found[pair.folder] = _planned(pair, answer.found, records[pair.folder], quality_only=quality_only)
    pairs = tuple(found[pair.folder] for pair in sweep.pairs)
    known = [item.seconds for item in pairs if item.seconds is not None]
    shared = workers if quality_only else 1
    return Plan(pairs, quality_only, shared, sum(known) / shared if known else None)


def _looks(
    sweep: Sweep, records: dict[str, list[Record]], executor: Executor, device: str, *, quality_only: bool
) -> Iterator[tuple[Pair, Answer]]:
    ahead = list(enumerate(sweep.pairs))[::-1]
    under_way: dict[int, Pair] = {}
    while ahead or under_way:
        while ahead and len(under_way) < executor.slots:
            number, pair = ahead.pop()
            under_way[number] = pair
            known = _paces(pair, sweep, records)
            look = Look(pair.suite, device, tuple(records[pair.folder]), timed=not quality_only, known=known)
            executor.submit(Job(number, number, look))
        for answer in executor.answers():
            yield under_way.pop(answer.number), answer


def _paces(pair: Pair, sweep: Sweep, records: dict[str, list[Record]]) -> dict[str, float]:
    """Seconds of an example by `pace_of`, from records of the pair, or of its model on other data."""
    same_model = [other for other in sweep.pairs if other.model == pair.model]
    found = {}
    for other in sorted(same_model, key=lambda other: other.data == pair.data):  # its own last: they stand
        for record in records[other.folder]:
            rate = dig(record, "timing", "throughput", "sentences_per_s", "value")
            if rate:
                found[pace_of(record["method"]["name"], record["method"]["params"])] = 1.0 / rate
    return found


def _planned(pair: Pair, found: Looked, records: Sequence[Record], *, quality_only: bool) -> PlannedPair:
    missing = [cell for cell in found.cells if not cell.there]
    stands = {_row(record) for record in records} if records else set()
    changed = [cell for cell in missing if _row_of(cell) in stands and not _untimed_only(cell, records)]
    own = {cell.base or cell.key for cell in missing}
    known = [found.seconds.get(key) for key in own]
    seconds = None
    if not own:
        seconds = 0.0
    elif all(pace is not None for pace in known):
        timing = pair.suite.timing
        each = [seconds_of(timing, found, float(pace or 0.0), quality_only=quality_only) for pace in known]
        seconds = found.load_s + sum(each)
    return PlannedPair(
        pair.folder,
        len(found.cells),
        len(found.cells) - len(missing),
        len(missing),
        len(changed),
        found.examples,
        seconds,
    )


def seconds_of(timing: TimingSpec, found: Looked, pace: float, *, quality_only: bool) -> float:
    """Seconds of a cell, at `pace` seconds for an example: each once, or as often as it is timed."""
    if quality_only:
        return pace * (found.examples + found.besides)
    warmup = min(1.0, timing.warmup / found.blocks)  # at the most: of so many blocks it runs a batch
    latency = min(timing.latency, found.examples)
    return pace * (found.examples * (_runs(timing, pace, found) + warmup) + found.besides + latency)


def _runs(timing: TimingSpec, pace: float, found: Looked) -> float:
    needed = math.ceil(timing.min_time / (pace * found.examples)) if timing.min_time else 0
    return max(timing.runs, needed)


def _row(record: Record) -> tuple[Any, ...]:
    method = record["method"]
    return pace_of(method["name"], method["params"]), method["posthoc"], record["seed"]


def _row_of(cell: LookedCell) -> tuple[Any, ...]:
    return pace_of(cell.name, without_paths(cell.params)), cell.posthoc, cell.seed


def _untimed_only(cell: LookedCell, records: Sequence[Record]) -> bool:
    """Whether the cell's own record is there, and lacks something."""
    return any(record["cell"] == cell.key for record in records)
