"""New records take their own place, and no other is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calibench.errors import WriteError
from calibench.store.files import sha256
from calibench.store.merging import add_records
from calibench.store.records import SCHEMA, Record, load_records, write_records


def record(folder: Path, cell: str, *, status: str = "ok", method: str = "m", **changes: Any) -> Record:
    """A record with what merging reads, and its predictions in the folder."""
    found: Record = {
        "schema": SCHEMA,
        "cell": cell,
        "status": status,
        "suite": "s",
        "seed": 0,
        "method": {"name": method, "params": {}},
        "model": {"sha256": "w", "config_sha256": "c"},
        "data": {"sha256": "d"},
    }
    if status == "ok":
        file = folder / "predictions" / f"{cell}.parquet"
        file.parent.mkdir(exist_ok=True)
        file.write_text(cell)
        found |= {"predictions": f"predictions/{cell}.parquet", "predictions_sha256": sha256(cell.encode())}
    return found | changes


def older(found: Record) -> Record:
    """The record as it was before it told config and tokenizer."""
    return found | {"model": {"sha256": "w"}}


def cells(folder: Path) -> list[str]:
    return [item["cell"] for item in load_records(folder)]


def test_others_stay_where_they_are(tmp_path: Path) -> None:
    """Records of other plans and failed ones too, also those that another run wrote meanwhile."""
    others = [record(tmp_path, "b"), record(tmp_path, "c", status="error")]
    write_records(tmp_path, others)
    add_records(tmp_path, [record(tmp_path, "a")], {"a": 0})
    assert cells(tmp_path) == ["a", "b", "c"]
    assert load_records(tmp_path)[1:] == others
    assert len(list((tmp_path / "predictions").iterdir())) == 2


def test_a_replaced_record_takes_its_file_along_and_nobody_else_s(tmp_path: Path) -> None:
    """Only what a record named and none names now; never a file outside the folder."""
    outside = tmp_path / "outside.parquet"
    outside.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "predictions").mkdir()
    (folder / "predictions" / "notes.txt").write_text("mine")
    old = record(folder, "old") | {"cell": "a"}
    stray = record(folder, "b") | {"predictions": "../outside.parquet"}
    write_records(folder, [old, stray])
    add_records(folder, [record(folder, "a"), record(folder, "b")], {"a": 0, "b": 1})
    names = {path.name for path in (folder / "predictions").iterdir()}
    assert names == {"a.parquet", "b.parquet", "notes.txt"}
    assert outside.read_text() == "mine"


def test_a_failure_replaces_no_success(tmp_path: Path) -> None:
    """Unless the predictions of that are gone; one failure replaces another."""
    good, bad = record(tmp_path, "a"), record(tmp_path, "b", status="error")
    write_records(tmp_path, [good, bad])
    again = [
        record(tmp_path, "a", status="error", error="x"),
        record(tmp_path, "b", status="error", error="x"),
    ]
    assert add_records(tmp_path, again, {"a": 0, "b": 1}) == ["m"]
    assert load_records(tmp_path) == [good, again[1]]
    (tmp_path / "predictions" / "a.parquet").write_text("damaged")
    assert add_records(tmp_path, again[:1], {"a": 0}) == []
    assert load_records(tmp_path) == again


def test_older_records_go_once_all_beside_them_are_there_anew(tmp_path: Path) -> None:
    """Until then they stay with their reference; those of another suite are not concerned."""
    first, second = (older(record(tmp_path, f"old-{name}", method=name)) for name in ("p", "q"))
    other = older(record(tmp_path, "other", method="p", suite="t"))
    write_records(tmp_path, [first, second, other])
    add_records(tmp_path, [record(tmp_path, "new-p", method="p")], {"new-p": 0})
    assert cells(tmp_path) == ["new-p", "old-p", "old-q", "other"]
    add_records(tmp_path, [record(tmp_path, "new-q", method="q")], {"new-p": 0, "new-q": 1})
    assert cells(tmp_path) == ["new-p", "new-q", "other"]


def test_a_full_disk_leaves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are what they were, and the files that they name are there."""
    old = record(tmp_path, "old") | {"cell": "a"}
    write_records(tmp_path, [old])
    fresh = record(tmp_path, "a")

    def full(_: int, __: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calibench.store.files.put", full)
    with pytest.raises(WriteError, match="No space left on device"):
        add_records(tmp_path, [fresh], {"a": 0})
    assert load_records(tmp_path) == [old]
    assert (tmp_path / "predictions" / "old.parquet").exists()
