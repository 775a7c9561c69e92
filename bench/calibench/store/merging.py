"""New records among those of a run folder: each takes its own place, and no other is touched."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from calibench.errors import UsageError
from calibench.store.files import sweep
from calibench.store.naming import label
from calibench.store.predictions import has_its_predictions, predictions_file
from calibench.store.records import RECORDS, Record, dig, is_older, load_records, write_records


def add_records(
    folder: Path,
    fresh: Sequence[Record],
    order: Mapping[str, int],
    replaced: Collection[str] = (),
) -> list[str]:
    """Write new records beside those that are there now, and remove predictions that none names any more.

    A record replaces that of its cell, unless it is of a failure and the other is not. One that is older than
    keys that tell configs and tokenizers apart goes once all rows that it was measured beside are there anew.

    Args:
        order: the position of each cell of the suite; other records follow as they stand.
        replaced: cells in whose place the new ones come.

    Returns:
        Labels of those that failed and replaced nothing.

    Raises:
        WriteError: there is no room; the records are what they were.
    """
    current = load_records(folder) if (folder / RECORDS).exists() else []
    failed = {record["cell"] for record in fresh if record["status"] != "ok"}
    rivals = [record for record in current if record["cell"] in failed and record["status"] == "ok"]
    sound = {record["cell"] for record in rivals if has_its_predictions(folder, record)}
    unneeded = [record for record in fresh if record["cell"] in sound & failed]
    new = {record["cell"]: record for record in fresh if record not in unneeded}
    gone = new.keys() | set(replaced) | _superseded([*current, *new.values()])
    kept = [record for record in current if record["cell"] not in gone]
    written = sorted([*kept, *new.values()], key=lambda record: order.get(record["cell"], len(order)))
    write_records(folder, written)
    named = _files(folder, written)
    for file in _files(folder, current) - named:
        file.unlink(missing_ok=True)
    sweep(folder, RECORDS)
    sweep(folder / "predictions")
    return [label(record, fresh) for record in unneeded]


def _files(folder: Path, records: Iterable[Record]) -> set[Path]:
    """The files inside the folder that records name."""
    found = set()
    for record in records:
        with contextlib.suppress(UsageError):
            found |= {predictions_file(folder, record)} if record.get("predictions") else set()
    return found


def _superseded(records: Sequence[Record]) -> set[str]:
    """Cells of older records whose rows are there anew, where that is so of all that they stood beside."""
    anew = {_row(record) for record in records if record["status"] == "ok" and not is_older(record)}
    older = [record for record in records if is_older(record)]
    left = {_table(r) for r in older if r["status"] == "ok" and _row(r) not in anew}
    return {r["cell"] for r in older if _row(r) in anew and _table(r) not in left}


def _table(record: Record) -> str:
    """What rows that stand beside each other have in common."""
    hashes = [dig(record, block, "sha256") for block in ("data", "model", "plan")]
    where = [dig(record, "model", "dtype"), dig(record, "model", "device")]
    return json.dumps([record["suite"], record.get("seed"), *hashes, *where])


def _row(record: Record) -> str:
    method = record["method"]
    own = [method["name"], method.get("params"), method.get("posthoc")]
    return _table(record) + json.dumps(own, sort_keys=True)
