"""Record files side by side: which cells are the same, whether they may be compared, and in what.

A cell is found again by suite, method, parameters, post-hoc step and seed. What the two saw must agree, or
the comparison is refused with the field that differs. Checkpoints, versions and number formats may differ:
finding out what they change is what comparing records is for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibench.compare.verdicts import Pair, ranked
from calibench.errors import UsageError, unknown
from calibench.store.naming import label
from calibench.store.predictions import Predictions, load_predictions
from calibench.store.records import Record, dig, is_older, load_records, optimism_of
from calibench.types import IntArray

_DATA = ("name", "config", "split", "revision", "limit", "n", "labels", "sha256")
_HASHES = ("model.config_sha256", "model.tokenizer_sha256")
_MAY_DIFFER = ("model.sha256", *_HASHES, "model.dtype", "model.device", "model.attention", "calibench")


@dataclass(frozen=True, eq=False)
class Run:
    """A records file, the last record of each cell.

    Attributes:
        path: as it was given.
        name: how messages call it.
    """

    path: Path
    name: str
    records: tuple[Record, ...]

    def label(self, record: Record) -> str:
        """The record's name among those of the run."""
        return label(record, self.records)

    @property
    def by_confidence(self) -> bool:
        """Whether its predictions are confidences of answers, without classes."""
        return all(len(dig(record, "data", "labels") or []) == 1 for record in self.records)

    @property
    def reference(self) -> Record:
        """The record that this run's costs are relative to, or its first.

        Raises:
            UsageError: where that cell failed.
        """
        chosen = next((record for record in self.records if record.get("reference")), self.records[0])
        if chosen["status"] != "ok":
            raise UsageError(
                f"The reference of {self.name}, {self.label(chosen)}, failed; compare with a run in which it "
                "finished."
            )
        return chosen

    def rows(self, name: str) -> list[Record]:
        """The row of this label; else all rows of a method, such as its seeds: `mc-dropout + temperature`.

        Raises:
            UsageError: there is none.
        """
        labelled = [record for record in self.records if self.label(record) == name]
        found = labelled or [record for record in self.records if label(record, [record]) == name]
        if not found:
            raise unknown(f"{self.name} has no row {name!r}", name, map(self.label, self.records))
        return found

    def row(self, name: str) -> Record:
        """The one row of a name, which finished.

        Raises:
            UsageError: there is none, there are several, or it failed.
        """
        found = self.rows(name)
        if len(found) > 1:
            labels = ", ".join(dict.fromkeys(map(self.label, found)))
            raise UsageError(
                f"{self.name} has {len(found)} rows {name!r} ({labels}); name one of them, or give a folder "
                "with one."
            )
        if found[0]["status"] != "ok":
            raise UsageError(f"{name} failed in {self.name}; choose a row that finished.")
        return found[0]

    def reference_of(self, record: Record) -> Record | None:
        """The finished cell that costs of a record are relative to; None where it is not there."""
        for other in self.records:
            if other.get("reference") and other["status"] == "ok" and _setting(other) == _setting(record):
                return other
        return None


@dataclass(frozen=True, eq=False)
class Match:
    """Two finished cells that may be compared.

    Attributes:
        label: as the base calls it.
        notes: what differs and does not forbid the comparison.
        references: of each run the one that costs of the cell are relative to, where it is there.
    """

    label: str
    base: Record
    new: Record
    notes: tuple[str, ...]
    references: tuple[Record | None, Record | None] = (None, None)


@dataclass(frozen=True, eq=False)
class Matching:
    """The cells of two runs.

    Attributes:
        pairs: those that both finished.
        failed: those of the base that failed in the new run: label and message.
        missing: labels of those of the base that the new run does not have.
        added: labels of those that only the new run has.
    """

    base: Run
    new: Run
    pairs: tuple[Match, ...]
    failed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]


def load_run(path: Path) -> Run:
    """Read a run folder or records file.

    Raises:
        UsageError: nothing there that this version reads.
    """
    latest = {record["cell"]: record for record in load_records(path)}
    return Run(path, str(path), tuple(latest.values()))


def split_row(text: str) -> tuple[Path, str | None]:
    """`FOLDER::ROW` as the two; a row is None where none is named.

    Raises:
        UsageError: nothing stands behind the colons.
    """
    folder, colons, row = text.partition("::")
    if not colons or Path(text).exists():
        return Path(text), None
    if not row.strip():
        raise UsageError(f"{text!r} names no row; write FOLDER::ROW with a row's label, or leave :: out.")
    return Path(folder), row.strip()


def same_cells(base: Run, new: Run) -> bool:
    """Whether some cell of one run is in the other."""
    return bool(_by_identity(base).keys() & _by_identity(new).keys())


def match(base: Run, new: Run, *, quality_only: bool = False) -> Matching:
    """Find each cell of `base` in `new`.

    Args:
        quality_only: let batch plans differ; timings are then left alone.

    Raises:
        UsageError: no cell is in both, one is there twice, or two are not comparable.
    """
    found, theirs = _by_identity(base), _by_identity(new)
    pairs, failed, missing = [], [], []
    for key, record in found.items():
        other = theirs.get(key)
        if other is None:
            missing.append(base.label(record))
        elif record["status"] == "ok" and other["status"] != "ok":
            failed.append((base.label(record), str((other.get("error") or {}).get("message"))))
        elif record["status"] == "ok":
            pairs.append(matched(base, record, new, other, quality_only=quality_only))
    added = [new.label(record) for key, record in theirs.items() if key not in found]
    if not pairs and not failed:
        raise UsageError(
            f"No finished cell of {base.name} is in {new.name}: one has {_names(base)}, and the other "
            f"{_names(new)}; compare runs of the same suite, method, parameters and seed."
        )
    return Matching(base, new, tuple(pairs), tuple(failed), tuple(missing), tuple(added))


def match_reference(base: Run, new: Run, *, quality_only: bool = False) -> Matching:
    """Hold every finished cell of `new` against the reference of `base`: for runs that share no cell.

    Raises:
        UsageError: the reference failed, nothing in `new` finished, or the two are not comparable.
    """
    return match_against(base, base.reference, new, new.records, quality_only=quality_only)


def match_rows(
    base: Run, base_row: str | None, new: Run, new_row: str | None, *, quality_only: bool = False
) -> Matching:
    """Hold a row of `new` against a row of `base`, whatever their methods.

    Args:
        base_row: None for the same cell as in `new` or, where there is none, the reference.
        new_row: None for every finished row.

    Raises:
        UsageError: no such row, or the two are not comparable.
    """
    others = new.records if new_row is None else (new.row(new_row),)
    if base_row is None:
        same = _by_identity(base).get(_identity(others[0]))
        record = base.reference if same is None or same["status"] != "ok" else same
    else:
        record = base.row(base_row)
    if new_row is None and base.path == new.path:  # of a row against itself there is nothing to say
        others = tuple(other for other in others if other["cell"] != record["cell"])
    return match_against(base, record, new, others, quality_only=quality_only)


def match_against(
    base: Run, record: Record, new: Run, others: Sequence[Record], *, quality_only: bool = False
) -> Matching:
    """Hold the finished ones of some rows of `new` against a row of `base`.

    Raises:
        UsageError: none of them finished, or two are not comparable.
    """
    finished = [other for other in others if other["status"] == "ok"]
    pairs = [matched(base, record, new, other, quality_only=quality_only) for other in finished]
    if not pairs:
        raise UsageError(f"No cell of {new.name} finished, so there is nothing to compare.")
    named = [replace(pair, label=f"{new.label(pair.new)} against {base.label(record)}") for pair in pairs]
    failed = [
        (new.label(other), str((other.get("error") or {}).get("message")))
        for other in others
        if other["status"] != "ok"
    ]
    return Matching(base, new, tuple(named), tuple(failed), (), ())


def matched(base: Run, record: Record, new: Run, other: Record, *, quality_only: bool = False) -> Match:
    """Two cells as a match, whatever their methods.

    Raises:
        UsageError: they are not comparable; names the field that differs, and both values.
    """
    for path in _must_agree(record, other, quality_only=quality_only):
        ours, theirs = dig(record, *path.split(".")), dig(other, *path.split("."))
        if ours != theirs:
            advice = "; --quality-only leaves timings out and allows it" if path == "plan.sha256" else ""
            raise UsageError(
                f"{base.label(record)} cannot be compared: {path} is {shortened(ours)} in {base.name} and "
                f"{shortened(theirs)} in {new.name}{advice}."
            )
    notes = [
        f"{path} is {shortened(ours)} in {base.name} and {shortened(theirs)} in {new.name}"
        for path in _MAY_DIFFER
        if (ours := dig(record, *path.split("."))) != (theirs := dig(other, *path.split(".")))
        # A record that is older than a hash says nothing about what it is of.
        and not (path in _HASHES and None in (ours, theirs))
    ]
    references = (base.reference_of(record), new.reference_of(other))
    return Match(base.label(record), record, other, tuple(notes), references)


def _must_agree(record: Record, other: Record, *, quality_only: bool) -> list[str]:
    paths = ["data.split", "data.n", "data.labels", "data.sha256"]
    if dig(record, "data", "sha256") != dig(other, "data", "sha256"):
        # A hash says that the content differs; where a name or a number differs too, that says more.
        paths = [f"data.{name}" for name in _DATA]
    elif None not in (dig(record, "data", "revision"), dig(other, "data", "revision")):
        # A folder has no revision, though its content may be that of one.
        paths.append("data.revision")
    return paths if quality_only else [*paths, "plan.sha256"]


def examples(base: Run, new: Run, pair: Match) -> Pair:
    """What the two cells predicted for the same examples, in the order of their rows, by the match's label.

    Raises:
        UsageError: a file is missing, or the two are about different examples.
    """
    stored = [load_predictions(run.path, record) for run, record in ((base, pair.base), (new, pair.new))]
    orders = [np.argsort(item.index, kind="stable") for item in stored]
    ours, theirs = (keys_of(item, order) for item, order in zip(stored, orders, strict=True))
    if ours != theirs:
        differing = next((a for a, b in zip(ours, theirs, strict=False) if a != b), None)
        where = "their number" if differing is None else f"row {differing[0]}"
        raise UsageError(
            f"The predictions of {pair.label} in {base.name} and {new.name} are about different examples "
            f"({where} differs), though their records name the same data; run one of them again."
        )
    reference, evaluation = (
        ranked(item.probs, item.label, item.own_score(record), optimism_of(record)).take(order)
        for item, record, order in zip(stored, (pair.base, pair.new), orders, strict=True)
    )
    return Pair(pair.label, reference, evaluation)


def grouped(matching: Matching) -> list[tuple[list[int], list[Pair]]]:
    """Matched cells by what they were evaluated on: positions among the pairs, and what they predicted."""
    groups: dict[str, tuple[list[int], list[Pair]]] = {}
    for number, pair in enumerate(matching.pairs):
        positions, found = groups.setdefault(pair.base["data"]["sha256"], ([], []))
        positions.append(number)
        found.append(examples(matching.base, matching.new, pair))
    return list(groups.values())


def _identity(record: Record) -> str:
    method = record["method"]
    parts = [record["suite"], method["name"], method.get("params"), method.get("posthoc"), record["seed"]]
    return json.dumps(parts, sort_keys=True)


def _by_identity(run: Run) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in run.records:
        key = _identity(record)
        if key in found and is_older(found[key]) != is_older(record):
            found[key] = found[key] if is_older(record) else record
            continue
        if key in found:
            first = found[key]
            path, ours, theirs = next(
                (".".join(keys), ours, theirs)
                for keys in (("data", "sha256"), ("model", "sha256"), ("model", "config_sha256"), ("cell",))
                if (ours := dig(first, *keys)) != (theirs := dig(record, *keys))
            )
            raise UsageError(
                f"{run.name} holds {run.label(record)} twice, with {path} {shortened(ours)} and "
                f"{shortened(theirs)}; compare runs of one data set and model each."
            )
        found[key] = record
    return found


def _setting(record: Record) -> tuple[Any, ...]:
    """What cells that are timed side by side have in common."""
    shared = ("data.sha256", "plan.sha256", "model.sha256", "model.dtype", "model.device", "model.attention")
    return (record["suite"], record["seed"], *(dig(record, *path.split(".")) for path in shared))


def keys_of(stored: Predictions, order: IntArray) -> list[tuple[int, str, int]]:
    """Row, text and label of each example, in an order: what two cells about the same examples share."""
    # Where there are no classes the labels say which answers were right, and each method gave its own.
    labels = np.zeros_like(stored.label) if stored.probs.shape[1] == 1 else stored.label
    return [(int(stored.index[i]), stored.text_sha256[i], int(labels[i])) for i in order]


def shortened(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:12]}..."


def _names(run: Run) -> str:
    return ", ".join(run.label(record) for record in run.records)
