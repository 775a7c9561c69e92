"""Run folders -> tasks and methods: what may be ranked over tasks, and what is left out, in a sentence each.

A *task* is a data set, by the hash of its content, and its class set. Checkpoints and seeds on one data set
are *replicates* of one task: they share its examples and say nothing about other tasks, however many there
are. A data set most of whose texts are in a larger one with the same classes is a part of that, and no task.

A *row* is a method with its parameters and post-hoc step, as `store/naming.py` knows it anywhere. It is in a
task where it finished, with predictions, in every replicate. Ranks need every row in every task: rows that
are not are left out, or, with `min_tasks`, tasks that lack one of the rows kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibench.errors import UsageError
from calibench.registry import METRICS
from calibench.store.naming import anywhere, label
from calibench.store.predictions import has_its_predictions, load_predictions
from calibench.store.records import RECORDS, Record, dig, load_records

#: Share of a data set's texts in a larger one from which on it is a part of it.
A_PART = 0.5
#: What of a record makes a replicate of its task.
_REPLICATE = ("model.sha256", "model.config_sha256", "model.dtype", "seed")


@dataclass(frozen=True, eq=False)
class Cell:
    """A record and where it lies.

    Attributes:
        row: the method, as of `naming.anywhere`, in JSON.
        reference: the record that its costs are relative to; None where that is not there.
    """

    folder: Path
    record: Record
    row: str
    reference: Record | None

    @property
    def usable(self) -> str | None:
        """Why its predictions cannot be ranked; None where they can."""
        if self.record["status"] != "ok":
            return "failed"
        return None if has_its_predictions(self.folder, self.record) else "has no predictions stored"


@dataclass(frozen=True, eq=False)
class Replicate:
    """A checkpoint and a seed on the examples of a task: its cells, by row."""

    name: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with its class set.

    Attributes:
        name: unique among the tasks.
        data: the block of a record.
    """

    name: str
    data: Mapping[str, Any]
    replicates: tuple[Replicate, ...]

    @property
    def classes(self) -> int:
        """How many there are; 1 where predictions are confidences of answers."""
        return len(self.data["labels"])

    @property
    def examples(self) -> int:
        """How many there are, those out of scope included."""
        return int(self.data["n"])

    @property
    def rows(self) -> list[str]:
        """Those that finished, with predictions, in every replicate."""
        every = [{row for row, cell in one.cells.items() if not cell.usable} for one in self.replicates]
        return [row for row in self.replicates[0].cells if all(row in there for there in every)]


@dataclass(frozen=True, eq=False)
class Field:
    """What is ranked: every row in every task.

    Attributes:
        rows: the reference first.
        labels: what each row is called.
        left_out: what is not ranked, a sentence each.
        failed: how many cells failed.
        cells: how many there are.
    """

    tasks: tuple[Task, ...]
    rows: tuple[str, ...]
    labels: Mapping[str, str]
    left_out: tuple[str, ...]
    failed: int
    cells: int


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run folders at any depth, each once.

    Raises:
        UsageError: there is none under one of the paths.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob(RECORDS))
        if not files:
            raise UsageError(
                f"There is no run folder at or under {path}; expected folders with {RECORDS}, as calibench "
                "run and calibench score make them."
            )
        found |= {file.parent.resolve(): file.parent for file in files}
    return list(found.values())


def read_field(paths: Iterable[Path], *, reference: str | None = None, min_tasks: int | None = None) -> Field:
    """Join the records under `paths` over tasks.

    Args:
        reference: a row by its label, or by its method's name where only one row has it; None for the
            reference of the records.
        min_tasks: keep rows that are in so many tasks, and of the tasks those that have all of them; None
            keeps all tasks.

    Raises:
        UsageError: no records, nothing that can be ranked, or references that differ.
    """
    cells = [cell for folder in find_runs(paths) for cell in _cells(folder)]
    notes = _Notes()
    tasks = _whole(_comparable(_tasks(cells, notes), notes), notes)
    labels = _labels(dict.fromkeys(cell.row for cell in cells))
    own = {row: [task for task in tasks if row in task.rows] for row in labels}
    scores = {cell.row for cell in cells if cell.record["method"].get("score_only")}
    scores -= {cell.row for cell in cells if cell.record.get("reference")}
    notes.rows("add a score to the probabilities of another method, and none of their own", scores, labels)
    candidates = [row for row in labels if row not in scores and own[row]]
    kept, chosen = _chosen(tasks, candidates, own, min_tasks)
    notes.missing([row for row in candidates if row not in kept], labels, tasks, own)
    for task in tasks:
        if task not in chosen:
            notes.say(f"{task.name} lacks some of the methods that are ranked, and is left out.")
    if len(kept) < 2 or not chosen:
        asked = "" if min_tasks is None else f" with --min-tasks {min_tasks}"
        raise UsageError(
            f"No two methods are in {'every task' if min_tasks is None else 'all of that many tasks'}{asked} "
            f"({len(tasks)} tasks: {', '.join(task.name for task in tasks) or 'none'}); run the same methods "
            "with the same parameters on each data set, or set --min-tasks lower. " + " ".join(notes.said)
        )
    failed = [cell for cell in cells if cell.record["status"] != "ok"]
    if failed:
        notes.say(_failures(failed, labels))
    short = _labels(kept)
    first = _reference(chosen, kept, short, reference)
    rows = (first, *(row for row in kept if row != first))
    return Field(tuple(chosen), rows, short, tuple(notes.said), len(failed), len(cells))


@dataclass(frozen=True)
class _Notes:
    said: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def rows(self, why: str, rows: Iterable[str], labels: Mapping[str, str]) -> None:
        names = [name for row, name in labels.items() if row in set(rows)]
        if names:
            self.say(f"Left out, for they {why}: {', '.join(names)}.")

    def missing(
        self,
        rows: Iterable[str],
        labels: Mapping[str, str],
        tasks: Sequence[Task],
        own: Mapping[str, Sequence[Task]],
    ) -> None:
        """The rows that are not in every task, together where they lack the same ones alike."""
        grouped: dict[str, list[str]] = {}
        for row in rows:
            lacking = [task for task in tasks if task not in own[row]]
            where = ", ".join(f"{task.name} ({_why(task, row)})" for task in lacking[:3])
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            grouped.setdefault(where + more, []).append(labels[row])
        for where, names in grouped.items():
            self.say(f"Left out, for they are not in every task and lack {where}: {', '.join(names)}.")

    def twice(self, pairs: Iterable[tuple[Cell, Cell]]) -> None:
        """Rows that are there twice, the one that counts second."""
        grouped: dict[tuple[str, str, str], list[str]] = {}
        for first, second in pairs:
            where = (str(second.record["data"]["name"]), str(second.folder), str(first.folder))
            grouped.setdefault(where, []).append(str(second.record["method"]["name"]))
        for (data, kept, other), names in grouped.items():
            self.say(
                f"There twice on {data} with one checkpoint and seed, so that the later of {kept} counts "
                f"and not the other of {other}: {', '.join(dict.fromkeys(names))}."
            )


def row_of(record: Record) -> str:
    """The row that a record belongs to, in JSON."""
    return json.dumps(anywhere(record), sort_keys=True)


def _cells(folder: Path) -> list[Cell]:
    latest = {record["cell"]: record for record in load_records(folder)}
    made = []
    for record in latest.values():
        beside = (one for one in latest.values() if one.get("reference") and _beside(one) == _beside(record))
        made.append(Cell(folder, record, row_of(record), next(beside, None)))
    return made


def _beside(record: Record) -> tuple[Any, ...]:
    """What cells that were timed side by side have in common."""
    paths = ("data.sha256", "plan.sha256", "model.sha256", "model.dtype", "model.device")
    return (record["suite"], record["seed"], *(dig(record, *path.split(".")) for path in paths))


def _labels(among: Iterable[str]) -> dict[str, str]:
    """The name of each row among these, those of two packages told apart by them."""
    rows = {row: json.loads(row) for row in among}
    named = {row: label(record, list(rows.values())) for row, record in rows.items()}
    twice = {name for name in named.values() if list(named.values()).count(name) > 1}
    return {
        row: f"{name} from {rows[row]['method']['package']}" if name in twice else name
        for row, name in named.items()
    }


def _tasks(cells: Sequence[Cell], notes: _Notes) -> list[Task]:
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        data = cell.record.get("data") or {}
        if data.get("sha256"):
            grouped.setdefault((data["sha256"], *sorted(data["labels"])), []).append(cell)
    made = [
        Task(str(own[0].record["data"]["name"]), own[0].record["data"], _replicates(own, notes))
        for own in grouped.values()
    ]
    return [replace(task, name=name) for task, name in zip(made, _names(made), strict=True)]


def _names(tasks: Sequence[Task]) -> list[str]:
    """The data sets' names, and as much beside as tells them apart."""
    names = [task.name for task in tasks]
    for more in ("config", "split", "n", "sha256"):
        beside: dict[str, set[str]] = {}
        for name, task in zip(names, tasks, strict=True):
            beside.setdefault(name, set()).add(str(task.data.get(more)))
        names = [
            f"{name}, {str(task.data.get(more))[:12]}" if len(beside[name]) > 1 else name
            for name, task in zip(names, tasks, strict=True)
        ]
    return names


def _replicates(cells: Sequence[Cell], notes: _Notes) -> tuple[Replicate, ...]:
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        key = tuple(dig(cell.record, *path.split(".")) for path in _REPLICATE)
        grouped.setdefault(key, []).append(cell)
    return tuple(Replicate(_replicate_name(own[0].record), _once(own, notes)) for own in grouped.values())


def _replicate_name(record: Record) -> str:
    model = dig(record, "model", "name")
    return f"seed {record['seed']}" if model is None else f"{model}, seed {record['seed']}"


def _once(cells: Sequence[Cell], notes: _Notes) -> dict[str, Cell]:
    """One cell for each row: of several the last that was made, and one that can be used before others."""
    found: dict[str, Cell] = {}
    replaced = []
    for cell in cells:
        other = found.get(cell.row)
        found[cell.row] = cell
        if other is not None:
            first, second = sorted((other, cell), key=lambda one: (not one.usable, one.record["created"]))
            found[cell.row] = second
            hashes = [one.record.get("predictions_sha256") for one in (first, second)]
            if not first.usable and (None in hashes or hashes[0] != hashes[1]):
                replaced.append((first, second))
    notes.twice(replaced)
    return found


def _comparable(tasks: Sequence[Task], notes: _Notes) -> list[Task]:
    """The tasks with predictions whose metrics are those of this version."""
    found = []
    for task in tasks:
        other = _other_version(task)
        if not task.rows:
            every = {cell.usable for one in task.replicates for cell in one.cells.values()}
            why = "no predictions are stored" if every != {"failed"} else "every method failed"
            notes.say(f"{task.name} is left out: {why} that all its checkpoints and seeds share.")
        elif other is not None:
            notes.say(
                f"{task.name} is left out: its records hold another version of the metric {other}; make them "
                "anew with this version of calibench."
            )
        else:
            found.append(task)
    return found


def _other_version(task: Task) -> str | None:
    """The first metric that a record defines otherwise than this version does."""
    known = set(METRICS.names())
    for one in task.replicates:
        for cell in one.cells.values():
            for name, estimate in (cell.record.get("metrics") or {}).items():
                written = estimate.get("definition")
                if written and name in known and _definition(written) != _current(name):
                    return str(name)
    return None


def _current(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(METRICS.load(name).definition)))
    return _definition(found)


def _definition(written: Mapping[str, Any]) -> dict[str, Any]:
    """What fixes the estimator, without what is the method's own."""
    return {key: value for key, value in written.items() if key not in ("score", "distribution")}


def _whole(tasks: Sequence[Task], notes: _Notes) -> list[Task]:
    """The tasks that are no part of a larger one."""
    texts = {task: _texts(task) for task in tasks}
    found: list[Task] = []
    for task in sorted(tasks, key=lambda one: -one.examples):
        larger = next((one for one in found if _is_part(task, one, texts)), None)
        if larger is None:
            found.append(task)
        else:
            notes.say(f"{task.name} is left out: most of its texts are in {larger.name}.")
    return [task for task in tasks if task in found]


def _texts(task: Task) -> set[str]:
    cell = task.replicates[0].cells[task.rows[0]]
    return set(load_predictions(cell.folder, cell.record).text_sha256) - {""}


def _is_part(task: Task, larger: Task, texts: Mapping[Task, set[str]]) -> bool:
    if sorted(task.data["labels"]) != sorted(larger.data["labels"]):
        return False
    return len(texts[task] & texts[larger]) > A_PART * max(1, len(texts[task]))


def _chosen(
    tasks: Sequence[Task],
    rows: Sequence[str],
    own: Mapping[str, Sequence[Task]],
    min_tasks: int | None,
) -> tuple[list[str], list[Task]]:
    """The rows that are ranked, and the tasks that have them all."""
    needed = len(tasks) if min_tasks is None else min_tasks
    kept = [row for row in rows if len(own[row]) >= needed]
    return kept, [task for task in tasks if all(task in own[row] for row in kept)]


def _why(task: Task, row: str) -> str:
    for one in task.replicates:
        cell = one.cells.get(row)
        why = "not there" if cell is None else cell.usable
        if why:
            return why if len(task.replicates) == 1 else f"{why} with {one.name}"
    return "not there"


def _reference(
    tasks: Sequence[Task], rows: Sequence[str], labels: Mapping[str, str], asked: str | None
) -> str:
    if asked is not None:
        found = [row for row in rows if asked in (labels[row], json.loads(row)["method"]["name"])]
        exact = [row for row in found if labels[row] == asked]
        if len(exact or found) != 1:
            raise UsageError(
                f"The reference {asked!r} is {len(found) or 'none'} of the methods ranked; expected one of "
                f"{', '.join(labels[row] for row in rows)}."
            )
        return (exact or found)[0]
    theirs: dict[str, list[str]] = {row: [] for row in rows}
    for task in tasks:
        for row in _references(task):
            theirs.setdefault(row, []).append(task.name)
    everywhere = [row for row in rows if len(theirs[row]) == len(tasks)]
    if len(everywhere) != 1:
        named = "; ".join(f"{_called(row, labels)} in {', '.join(own)}" for row, own in theirs.items() if own)
        raise UsageError(
            f"The records do not have one reference that is in every task ({named or 'none at all'}); choose "
            f"with --reference one of {', '.join(labels[row] for row in rows)}."
        )
    return everywhere[0]


def _references(task: Task) -> set[str]:
    """The rows that costs in a task's records are relative to."""
    return {row for one in task.replicates for row, cell in one.cells.items() if cell.record.get("reference")}


def _called(row: str, labels: Mapping[str, str]) -> str:
    return labels.get(row) or str(json.loads(row)["method"]["name"])


def _failures(failed: Sequence[Cell], labels: Mapping[str, str]) -> str:
    named = [f"{labels[cell.row]} on {dig(cell.record, 'data', 'name')}" for cell in failed]
    counted = {name: named.count(name) for name in dict.fromkeys(named)}
    listed = ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in counted.items())
    count = "1 cell" if len(failed) == 1 else f"{len(failed)} cells"
    return f"{count} failed and cannot be ranked: {listed}."
