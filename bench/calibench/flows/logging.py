"""A run folder -> the stores of other tools: which sinks, what they are given, and what became of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from calibench.containment import contained
from calibench.errors import UsageError
from calibench.registry import SINKS
from calibench.report.pages.exports import IDENTITY, estimates_of, plain
from calibench.report.sections import Entry, sections
from calibench.sinks.logged import LoggedRow, LoggedRun, Sink
from calibench.store.records import dig, load_records, records_file

#: What of a run folder tells of the whole of it; predictions are as many as there are examples.
_FILES = ("*.jsonl", "*.md", "*.html", "*.csv", "*.json", "*.yaml", "figures/*")
#: Who logs in at an address, and with what.
_WHO = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True)
class Sent:
    """What became of a run in one sink: `where` it is now, or the sentence of its `failure`."""

    sink: str
    where: str | None
    failure: str | None


def sinks(names: Iterable[str]) -> dict[str, Sink]:
    """The sinks of these names, ready to be used: what could not be is said before anything is measured.

    Raises:
        UsageError: an unknown name, or a package is not installed; says what installs it.
        CalibenchError: a third party's sink fails to import.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        lacking = SINKS.lacks(name)
        if lacking is not None:
            raise UsageError(f"The sink {name!r} {lacking}.")
    return {name: SINKS.load(name) for name in chosen}


def log(folder: Path, chosen: Mapping[str, Sink]) -> Iterator[Sent]:
    """Send a run folder, or what lies beside a records file, to sinks, one after the other.

    A sink is other people's code: whatever it raises is a failure of its own and stops no other.

    Raises:
        UsageError: no records there, or records this version does not read.
    """
    run = logged(folder)
    for name, sink in chosen.items():
        try:
            where = contained(f"The sink {name!r}", partial(sink, run))
        except Exception as error:
            yield Sent(name, None, _failure(name, error, run.folder))
        else:
            yield Sent(name, _without_passwords(str(where)), None)


def _failure(name: str, error: Exception, folder: Path) -> str:
    said = _without_passwords(" ".join(str(error).split())).rstrip(".")
    return (
        f"The sink {name!r} failed ({type(error).__name__}: {said}); all that was measured is in {folder}, "
        f"and `calibench log {folder} --to {name}` tries again."
    )


def _without_passwords(text: str) -> str:
    """Addresses without who logs in there: some hold a password, and output is read by many."""
    return _WHO.sub("//", text)


def logged(path: Path) -> LoggedRun:
    """What sinks are given of a run folder or records file."""
    folder = records_file(path).parent
    files = {file for pattern in _FILES for file in folder.glob(pattern) if file.is_file()}
    found = sections(load_records(path))
    rows: dict[str, LoggedRow] = {}
    for section in found:
        for entry in section.entries:
            name = entry.label if len(found) == 1 else f"{section.slug}/{entry.label}"
            name = f"{name} {entry.record['cell']}" if name in rows else name
            rows[name] = _row(name, entry)
    return LoggedRun(folder.resolve().name, folder, tuple(rows.values()), tuple(sorted(files)))


def _row(name: str, entry: Entry) -> LoggedRow:
    estimates = {} if entry.failure is not None else dict(estimates_of(entry.record))
    known = {metric: found for metric, found in estimates.items() if found.get("value") is not None}
    ends = {
        f"{metric}_{end}": float(found[end])
        for metric, found in known.items()
        for end in ("low", "high")
        if found.get(end) is not None
    }
    return LoggedRow(
        name=name,
        created=datetime.fromisoformat(entry.record["created"]),
        values={metric: float(found["value"]) for metric, found in known.items()},
        ends=ends,
        config=_config(entry, estimates),
        failure=entry.failure,
    )


def _config(entry: Entry, estimates: Mapping[str, Mapping[str, Any]]) -> dict[str, str | int | float | bool]:
    """What identifies a row, and why numbers are absent that are, or all of them."""
    config = {name: plain(dig(entry.record, *path)) for name, path in IDENTITY.items()}
    config["failure"] = entry.failure
    absent = {name: found.get("reason") for name, found in estimates.items() if found.get("value") is None}
    config |= {"absent": json.dumps(absent, ensure_ascii=False)} if absent else {}
    return {name: value for name, value in config.items() if value is not None}
