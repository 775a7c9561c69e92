"""Predictions read back exactly, and missing ones are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.store.predictions import has_its_predictions, load_predictions, write_predictions
from calibench.types import Dataset, Predictive


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
    named = write_predictions(tmp_path, "cell", dataset, predictive, later)
    record = {**named, "data": {"labels": list(dataset.label_names)}, "method": {"name": "m"}}
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


def test_another_file_is_not_taken_for_real(tmp_path: Path) -> None:
    """Two swapped files are refused by name; a record that is older than hashes is read as it was."""
    dataset, predictive = example()
    records = []
    for cell, probs in (("a", predictive.probs), ("b", predictive.probs[::-1])):
        named = write_predictions(tmp_path, cell, dataset, replace(predictive, probs=probs))
        records.append({**named, "data": {"labels": list(dataset.label_names)}, "method": {"name": cell}})
    first, second = (tmp_path / record["predictions"] for record in records)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for record in records:
        assert not has_its_predictions(tmp_path, record)
        with pytest.raises(UsageError, match=r"is not the file that the record of . was made from"):
            load_predictions(tmp_path, record)
    del records[0]["predictions_sha256"]
    np.testing.assert_array_equal(load_predictions(tmp_path, records[0]).probs, predictive.probs[::-1])


def test_a_file_that_is_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    """The old record holds until the new one is written; what is the same is the same file."""
    dataset, predictive = example()
    old = write_predictions(tmp_path, "a", dataset, predictive)
    before = (tmp_path / old["predictions"]).read_bytes()
    new = write_predictions(tmp_path, "a", dataset, replace(predictive, probs=predictive.probs[::-1]))
    assert (tmp_path / old["predictions"]).read_bytes() == before
    assert new["predictions"] != old["predictions"] == "predictions/a.parquet"
    assert write_predictions(tmp_path, "a", dataset, predictive) == old


@pytest.mark.parametrize(
    "named", ["../a.parquet", "/etc/passwd", "predictions/../../a", "C:/a", r"..\\a", r"\\host\a", "."]
)
def test_a_path_never_leaves_the_folder(tmp_path: Path, named: str) -> None:
    """However it is written, and whatever is there."""
    (tmp_path / "a.parquet").write_text("")
    record = {"predictions": named, "data": {"labels": ["a"]}, "method": {"name": "mine"}}
    with pytest.raises(UsageError, match="expected a path inside the run folder"):
        load_predictions(tmp_path / "run", record)
