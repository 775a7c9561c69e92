"""Records and predictions read back exactly, and broken files are named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.errors import CalibenchError, UsageError
from calibench.store.files import write_whole
from calibench.store.predictions import load_predictions, write_predictions
from calibench.store.records import RECORDS, SCHEMA, load_records, to_json, write_records
from calibench.types import Dataset, Predictive


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


def test_missing_records_are_named(tmp_path: Path) -> None:
    """A folder without records says what was expected there."""
    with pytest.raises(
        UsageError, match=r"There are no records at .*expected a run folder with records\.jsonl"
    ):
        load_records(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the file stays what it was and nothing is left lying about."""
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CalibenchError, match="No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def example(n: int = 5, classes: int = 3) -> tuple[Dataset, Predictive]:
    draw = np.random.default_rng(0)
    probs = draw.dirichlet(np.ones(classes), n)
    dataset = Dataset(
        texts=tuple(f"text {i}" for i in range(n)),
        labels=draw.integers(classes, size=n),
        label_names=tuple("abc"[:classes]),
        rows=np.arange(n) * 7,
        name="d",
        config=None,
        split="test",
        revision=None,
        source="folder",
        sha256="0",
        posterior=draw.dirichlet(np.ones(classes), n),
    )
    predictive = Predictive(
        probs=probs,
        passes=np.arange(n) + 1,
        standard_error=draw.random(n),
        scores={"mutual_information": draw.random(n)},
    )
    return dataset, predictive


def test_predictions_round_trip(tmp_path: Path) -> None:
    """Everything per example reads back exactly, running means after k passes included."""
    dataset, predictive = example()
    later = {1: predictive.probs[::-1], 20: predictive.probs}
    path = write_predictions(tmp_path, "cell", dataset, predictive, later)
    record = {"predictions": path, "data": {"labels": list(dataset.label_names)}, "method": {"name": "m"}}
    back = load_predictions(tmp_path, record)
    for stored, given_ in (
        (back.index, dataset.rows),
        (back.label, dataset.labels),
        (back.probs, predictive.probs),
        (back.passes, predictive.passes),
        (back.standard_error, predictive.standard_error),
        (back.posterior, dataset.posterior),
        (back.scores["mutual_information"], predictive.scores["mutual_information"]),
        (back.at_passes[1], later[1]),
        (back.at_passes[20], later[20]),
    ):
        np.testing.assert_array_equal(stored, given_)
    assert len(set(back.text_sha256)) == len(dataset)


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    """A record without its predictions says which file is missing."""
    record = {"predictions": "predictions/x.parquet", "data": {"labels": ["a"]}, "method": {"name": "mine"}}
    with pytest.raises(UsageError, match=r"x\.parquet is missing; the record of mine names it"):
        load_predictions(tmp_path, record)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "x.parquet").write_text("no parquet")
    with pytest.raises(UsageError, match="not a readable parquet file"):
        load_predictions(tmp_path, record)
