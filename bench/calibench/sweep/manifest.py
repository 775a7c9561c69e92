"""`sweep.json`: what a sweep's folder holds, pair by pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import calibench
from calibench.errors import UsageError
from calibench.store.files import write_whole
from calibench.store.naming import label
from calibench.store.records import RECORDS, is_untimed, load_records
from calibench.sweep.spec import Pair, Sweep

MANIFEST = "sweep.json"
SCHEMA = "calibench.sweep/1"


@dataclass(frozen=True)
class Entry:
    """A run folder of the sweep.

    Attributes:
        folder: its name.
        model, data: their ids.
        rows: how many records are there that have not failed, `timed` of them with times.
        failed: labels of those that have.
    """

    folder: str
    model: str
    data: str
    rows: int
    timed: int
    failed: tuple[str, ...]


def load_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none.

    Raises:
        UsageError: it cannot be read, or is of another version.
    """
    file = folder / MANIFEST
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}); expected what calibench sweep wrote.") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise UsageError(
            f"{file} has schema {schema!r}; this version of calibench reads {SCHEMA!r}: choose another "
            "folder with -o."
        )
    return dict(found)


def refuse_other(sweep: Sweep, folder: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        UsageError: naming what.
    """
    found = load_manifest(folder)
    if found is not None and found["name"] != sweep.name:
        raise UsageError(
            f"{folder} holds the sweep {found['name']!r}, and this one is called {sweep.name!r}; choose "
            "another folder with -o."
        )
    if found is None and (folder / RECORDS).exists():
        raise UsageError(f"{folder} is a run folder; choose another folder for the sweep with -o.")


def write_manifest(sweep: Sweep, folder: Path, changed: Pair | None = None) -> None:
    """Write what the folder holds now, pairs that are no longer asked for among it.

    Args:
        changed: the only pair whose run folder is not what the manifest says; None to look at all of them,
            which takes the longer the more there are.

    Raises:
        WriteError: there is no room; the manifest is what it was.
    """
    earlier = {item["folder"]: item for item in (load_manifest(folder) or {}).get("pairs", [])}
    asked = {
        pair.folder: earlier[pair.folder] if changed not in (None, pair) else asdict(_entry(pair, folder))
        for pair in sweep.pairs
    }
    kept = [item for name, item in earlier.items() if name not in asked and (folder / name).is_dir()]
    content = {
        "schema": SCHEMA,
        "calibench": calibench.__version__,
        "name": sweep.name,
        "title": sweep.title,
        "pairs": [*asked.values(), *kept],
    }
    write_whole(folder / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")


def _entry(pair: Pair, folder: Path) -> Entry:
    run = folder / pair.folder
    records = load_records(run) if (run / RECORDS).exists() else []
    sound = [record for record in records if record["status"] == "ok"]
    failed: Sequence[str] = [label(record, records) for record in records if record["status"] != "ok"]
    timed = sum(not is_untimed(record) for record in sound)
    return Entry(pair.folder, pair.model, pair.data, len(sound), timed, tuple(failed))
