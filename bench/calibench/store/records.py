"""The result record: its schema and its file.

A run folder holds `records.jsonl`, one JSON object per cell, and `predictions/CELL.parquet`, one row per
example, written before the record that names it. docs/record.md describes every field. Files are replaced
whole, so a reader never sees half a record. Floats are written so that they read back exactly; a value that
could not be had is null with a reason beside it, never NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibench.errors import UsageError
from calibench.store.files import write_whole

SCHEMA = "calibench.record/1"
RECORDS = "records.jsonl"
Record = dict[str, Any]


def to_json(record: Mapping[str, Any]) -> str:
    """The record on one line; raises ValueError for NaN or infinity, naming the field."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError):
        _refuse(record, "record")
        raise


def _plain(value: Any) -> Any:
    """What numpy holds, as Python does."""
    if isinstance(value, (np.floating, np.integer)):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _refuse(value: Any, where: str) -> None:
    """Say which value it is that a record cannot hold; walked only once there is one."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse(item, where)
    elif isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}; a record holds null with a reason instead")
    elif value is not None and not isinstance(value, (bool, int, str, np.integer)):
        raise TypeError(f"{where} is a {type(value).__name__}, which a record cannot hold")


def write_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Replace the records of a run folder."""
    path = folder / RECORDS
    write_whole(path, "".join(to_json(record) + "\n" for record in records).encode())
    return path


def records_file(path: Path) -> Path:
    """The records file that `path` means: itself, or the one in a run folder."""
    return path / RECORDS if path.is_dir() else path


def load_records(path: Path) -> list[Record]:
    """Read a run folder or a records file; a line that is there twice counts once.

    Raises:
        UsageError: nothing there, a line that is not a record, or a schema this version does not know.
    """
    file = records_file(path)
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"There are no records at {path}; expected a run folder with {RECORDS}, or such a file."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror}); expected a file with one record per line."
        ) from error
    # Only a newline ends a line: a label may hold what else Unicode takes for a line's end.
    lines = content.split(b"\n")
    first = {line: number for number, line in reversed(list(enumerate(lines, start=1))) if line.strip()}
    records = [_record(line, first[line], file) for line in dict.fromkeys(lines) if line in first]
    if not records:
        raise UsageError(f"{file} holds no records; run `calibench run -o FOLDER` to make some.")
    return records


def _record(line: bytes, number: int, file: Path) -> Record:
    """The record on a line of a file; `number` is the line's."""
    try:
        record: Record = json.loads(line)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8 text"
        raise UsageError(
            f"Line {number} of {file} is not JSON ({reason}); expected one record per line."
        ) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise UsageError(
            f"Line {number} of {file} has schema {schema!r}; this version of calibench reads {SCHEMA!r}."
        )
    return record


def is_older(record: Record) -> bool:
    """Whether a record is older than keys that tell a model's config and tokenizer from another's."""
    return not is_scored(record) and dig(record, "model", "config_sha256") is None


def is_scored(record: Record) -> bool:
    """Whether it is of predictions that came in a file: it has no model, no batches and no times."""
    return record.get("scored") is not None


def is_of_arrays(record: Record) -> bool:
    """Whether these predictions came in arrays, by a call of the library."""
    return bool(dig(record, "scored", "options", "from") == "arrays")


def is_untimed(record: Record) -> bool:
    """Whether nothing of it was timed: predictions that came in a file, and quality work of a sweep."""
    return is_scored(record) or ("timing" in record and record["timing"] is None)


def dig(record: Record, *path: str) -> Any:
    """The value at a path of keys, or None as soon as one is absent or null."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def optimism_of(record: Record) -> dict[str, float]:
    """What cross-fitting hides from the metrics of a row, by metric; empty where nothing was cross-fitted."""
    found: dict[str, float] = dig(record, "fit", "optimism") or {}
    return found
