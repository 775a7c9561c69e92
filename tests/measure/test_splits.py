"""Labelled texts beside the scored ones: each split holds what it should, or is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.measure.splits import Splits
from calibench.models.plan import Planner
from calibench.suites.loader import load_suite
from calibench.suites.spec import DataSpec, Suite, TrainSpec
from calibench.types import Dataset
from tiny_models import MAX_LENGTH, tiny_tokenizer

LABELS = ("negative", "positive")


def folder(path: Path, **splits: list[tuple[str, str]]) -> Path:
    """A data set folder of (text, label) rows."""
    path.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (path / f"{split}.jsonl").write_text("".join(lines))
    return path


def suite(path: Path, **changes: Any) -> Suite:
    data = DataSpec(name=str(path), split="test", out_of_scope=("beyond",))
    return replace(load_suite("embedded"), data=data, **changes)


def scored(*texts: str, split: str = "test") -> Dataset:
    zeros = np.zeros(len(texts), dtype=np.int64)
    return Dataset(texts, zeros, LABELS, zeros, "folder", None, split, None, "folder", "0")


PLANNER = Planner(tiny_tokenizer(), "cpu", MAX_LENGTH)
ROWS = [("film", "positive"), ("plot", "negative"), ("slow", "beyond"), ("cast", "negative")]


def test_texts_that_are_scored_or_out_of_scope_are_left_out(tmp_path: Path) -> None:
    """What is left keeps its rows and labels."""
    found = Splits(
        suite(folder(tmp_path, train=ROWS, test=ROWS[:1])), scored("plot"), LABELS, PLANNER
    ).train()
    assert found.dataset.texts == ("film", "cast")
    assert found.dataset.rows.tolist() == found.labelled.plan.rows.tolist() == [0, 3]
    assert found.dataset.labels.tolist() == found.labelled.labels.tolist() == [1, 0]


def test_a_limit_takes_a_random_subset(tmp_path: Path) -> None:
    """Of that size, the same for the same seed; the whole split has another hash."""
    rows = [(f"film {i}", LABELS[i % 2]) for i in range(50)]
    base = suite(folder(tmp_path, train=rows, test=ROWS[:1]))
    few = replace(base, train=TrainSpec(limit=20))
    first, again, other = (
        Splits(chosen, scored("plot"), LABELS, PLANNER).train().dataset
        for chosen in (few, few, replace(few, seeds=(1,)))
    )
    assert len(first) == 20
    assert first.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert first.sha256 != Splits(base, scored("plot"), LABELS, PLANNER).train().dataset.sha256


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("test", r"'test' is the one that is scored; name another with --train-split"),
        ("train", r"holds no labelled text that is not scored too"),
        ("training", r"no split 'training'"),
    ],
)
def test_a_split_that_teaches_nothing_is_refused(split: str, said: str, tmp_path: Path) -> None:
    """The scored one, one without any text of its own, and one that is not there."""
    chosen = suite(folder(tmp_path, train=ROWS[:3], test=ROWS[:1]), train=TrainSpec(split=split))
    with pytest.raises(UsageError, match=said):
        Splits(chosen, scored("film", "plot"), LABELS, PLANNER).train()
