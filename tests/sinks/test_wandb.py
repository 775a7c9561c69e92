"""Rows that Weights & Biases keeps offline are read back from its own files as the records have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logged_runs

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'calibench[wandb]'")

#: How the file is laid out: a header, then blocks, in which parts of records have heads of their own.
HEADER, BLOCK, HEAD = 7, 2**15, 7


def records(file: Path) -> Iterator[bytes]:
    """What the log holds, record by record; a record's parts are whole, first, middle and last, 1 to 4."""
    data, at, parts = file.read_bytes(), HEADER, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:  # no room for a head: the rest of a block is padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 4):
            yield parts
            parts = b""


def items(found: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in found}


def read(file: Path) -> dict[str, Any]:
    """The kinds of records that say something, each by its name."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {}
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, getattr(record, kind))
    return found


def test_each_row_is_a_run_with_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, in the group of the folder; the failed one is marked so, and one holds the report."""
    from calibench.sinks.wandb import log

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    run = logged_runs.make(tmp_path / "first")
    assert log(run) == "project 'mine', group 'first'"
    found = [read(file) for file in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    by_name = {one["run"].display_name: one for one in found}
    assert by_name.keys() == {row.name for row in run.rows}
    for row in run.rows:
        one = by_name[row.name]
        assert (one["run"].project, one["run"].run_group) == ("mine", "first")
        config = items(one["run"].config.update)
        assert {name: config[name] for name in row.config} == row.config
        history = items(one["history"].item) if "history" in one else {}
        assert {name: value for name, value in history.items() if name[0] != "_"} == logged_runs.numbers(row)
        assert one["exit"].exit_code == (row.failure is not None)
    (report,) = (one["artifact"] for one in found if "artifact" in one)
    assert {item.path for item in report.manifest.contents} == {
        "figures/front.svg",
        "records.jsonl",
        "report.md",
    }
