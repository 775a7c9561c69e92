"""Records read back exactly, and broken files are named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.errors import UsageError
from calibench.store.records import RECORDS, SCHEMA, load_records, to_json, write_records


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_exactly(value: float) -> None:
    """Every finite float64 survives the file bit by bit, numpy's too."""
    back = json.loads(to_json({"value": value, "numpy": np.float64(value)}))
    assert math.copysign(1, back["value"]) == math.copysign(1, value)
    assert back["value"] == back["numpy"] == value


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float64("nan")])
def test_a_record_never_holds_nan(value: float) -> None:
    """NaN and infinity are refused, and the field is named."""
    with pytest.raises(ValueError, match=r"record\.metrics\.ece is"):
        to_json({"metrics": {"ece": value}})


def test_what_a_record_cannot_hold_is_refused() -> None:
    """Arrays and other objects do not slip into a record as their repr."""
    with pytest.raises(TypeError, match=r"record\.x is a ndarray"):
        to_json({"x": np.zeros(2)})


def test_records_round_trip(tmp_path: Path) -> None:
    """What is written is what is read, by folder and by file."""
    written: list[dict[str, Any]] = [{"schema": SCHEMA, "name": "Łódź", "values": [0.1, None, True]}]
    write_records(tmp_path, written)
    assert load_records(tmp_path) == load_records(tmp_path / RECORDS) == written
    assert [path.name for path in tmp_path.iterdir()] == [RECORDS]


def test_only_a_newline_ends_a_record(tmp_path: Path) -> None:
    """Labels may hold U+2028 and U+0085; a line that is there twice counts once."""
    written = [{"schema": SCHEMA, "labels": ["a\u2028b", "c\x85d", "e\x1cf"]}, {"schema": SCHEMA, "n": 1}]
    file = write_records(tmp_path, [written[0], written[1], written[0]])
    assert load_records(tmp_path) == written
    assert file.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no records"),
        ("{", r"Line 1 of .* is not JSON"),
        ('{"schema": "calibench.record/99"}', r"Line 1 .* schema 'calibench.record/99'; .* reads"),
        ("3", "has schema None"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    """A file that holds something else is refused with the line that shows it."""
    (tmp_path / RECORDS).write_text(content)
    with pytest.raises(UsageError, match=message):
        load_records(tmp_path)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    """Half a character, and a folder in the place of the file."""
    (tmp_path / RECORDS).write_bytes('{"a": "Ł'.encode()[:-1])
    with pytest.raises(UsageError, match=r"Line 1 of .* is not JSON \(not UTF-8 text\)"):
        load_records(tmp_path)
    (tmp_path / RECORDS).unlink()
    (tmp_path / RECORDS).mkdir()
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        load_records(tmp_path)


def test_missing_records_are_named(tmp_path: Path) -> None:
    """A folder without records says what was expected there."""
    with pytest.raises(
        UsageError, match=r"There are no records at .*expected a run folder with records\.jsonl"
    ):
        load_records(tmp_path)
