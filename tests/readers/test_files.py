"""Files as record batches: every kind gives the same columns, and only those that are asked for are read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from calibench.errors import UsageError
from calibench.readers.files import FORMATS, Source, npz_arrays, npz_names, open_file, source_of

TABLE = pa.table({"label": ["a", "b", "None"], "p_a": [0.25, 1.0, 0.5], "p_b": [0.75, 0.0, 0.5]})


def write(folder: Path, kind: str) -> Path:
    path = folder / f"preds.{kind}"
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        rows = [TABLE.column_names, *(row.values() for row in TABLE.to_pylist())]
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()))
    elif kind == "parquet":
        pq.write_table(TABLE, path, row_group_size=2)
    elif kind == "npz":
        np.savez(path, **{name: np.array(TABLE[name].to_pylist()) for name in TABLE.column_names})
    else:
        make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, make(sink, TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=2)
    return path


@pytest.mark.parametrize("kind", [*dict.fromkeys(FORMATS.values()), "stream"])
def test_every_kind_of_file_gives_the_same_columns(kind: str, tmp_path: Path) -> None:
    """In the order asked for, the words None and NA among them; twice, if asked twice."""
    path = write(tmp_path, kind)
    opened = open_file(source_of(str(path), "arrow" if kind == "stream" else None))
    assert opened.columns == tuple(TABLE.column_names)
    for _ in range(2):
        found = pa.Table.from_batches(opened.read(["p_b", "label"], ["label"]))
        assert found.to_pydict() == TABLE.select(["p_b", "label"]).to_pydict()


def test_standard_input_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` with its format."""
    content = write(tmp_path, "parquet").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    source = source_of("-", "parquet")
    assert (source.name, source.path) == ("stdin", None)
    assert pa.Table.from_batches(open_file(source).read(["p_a"])).to_pydict() == {"p_a": [0.25, 1.0, 0.5]}


def test_columns_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    """A column that nothing could read does not matter."""
    (tmp_path / "a.jsonl").write_text('{"p": 1, "x": 1}\n{"p": 0.5, "x": {"deep": [1]}}\n')
    (tmp_path / "a.csv").write_text('p,text\n1,"two\nlines, and a comma"\n.5,x\n')
    for name in ("a.jsonl", "a.csv"):
        found = pa.Table.from_batches(open_file(source_of(str(tmp_path / name))).read(["p"]))
        assert found.to_pydict() == {"p": [1.0, 0.5]}


def test_a_delimiter_is_of_text_files(tmp_path: Path) -> None:
    """Named for a csv file, and refused for another."""
    path = tmp_path / "a.csv"
    path.write_text("label;p\n0;1\n")
    assert open_file(source_of(str(path)), ";").columns == ("label", "p")
    with pytest.raises(UsageError, match="no delimiter"):
        open_file(source_of(str(write(tmp_path, "parquet"))), ";")


def test_quotes_in_a_tsv_file_are_characters_unless_told(tmp_path: Path) -> None:
    """As in the data sets of `calibench run`; a line of names in quotes is refused with the option."""
    path = tmp_path / "a.tsv"
    path.write_text('"label"\t"p"\n"a\tb"\t1\n')
    with pytest.raises(UsageError, match="--quoting double"):
        open_file(source_of(str(path)))
    opened = open_file(source_of(str(path)), quoting="double")
    assert pa.Table.from_batches(opened.read(["label"], ["label"])).to_pydict() == {"label": ["a\tb"]}
    path.write_text('label\tp\n"a\t1\n')
    opened = open_file(source_of(str(path)))
    assert pa.Table.from_batches(opened.read(["label"], ["label"])).to_pydict() == {"label": ['"a']}


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    """What would run code is refused where it is asked for, and does no harm where it is not."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return pytest.fail, ("it was unpickled",)

    path = tmp_path / "a.npz"
    np.savez(path, good=np.arange(2), bad=np.array([Bomb(), Bomb()], object))
    source = source_of(str(path))
    assert npz_names(source) == ("good", "bad")
    assert npz_arrays(source, ["good"])["good"].tolist() == [0, 1]
    with pytest.raises(UsageError, match="would run them"):
        npz_arrays(source, ["bad"])
    with pytest.raises(UsageError, match="no array 'ugly'"):
        npz_arrays(source, ["ugly"])


def test_a_lone_array_has_no_names() -> None:
    """An npy file in an npz file's clothes."""
    content = io.BytesIO()
    np.save(content, np.arange(3))
    with pytest.raises(UsageError, match="one array and no names"):
        npz_names(Source("a.npz", "npz", content=content.getvalue()))
