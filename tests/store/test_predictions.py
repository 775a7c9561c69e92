"""Predictions read back exactly, and missing ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.store.predictions import load_predictions, write_predictions
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
