"""Labelled texts beside the scored ones: each split holds what it should, or is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.measure.splits import Splits
from calibench.models.plan import Planner
from calibench.suites.loader import load_suite
from calibench.suites.spec import CalibrationSpec, DataSpec, ShiftSpec, Suite, TrainSpec
from calibench.types import Dataset, Plan
from tiny_models import MAX_LENGTH, tiny_tokenizer

LABELS = ("negative", "positive")


def folder(path: Path, **splits: list[tuple[str, str]]) -> Path:
    """A data set folder of (text, label) rows."""
    path.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (path / f"{split}.jsonl").write_text("".join(lines))
    return path


def suite(path: Path, *, limit: int | None = None, threshold: str | None = None, **changes: Any) -> Suite:
    data = DataSpec(
        name=str(path), split="test", out_of_scope=("beyond",), threshold_split=threshold, limit=limit
    )
    return replace(load_suite("embedded"), data=data, **changes)


def scored(*texts: str, split: str = "test", labels: Sequence[int] | None = None) -> Dataset:
    zeros = np.zeros(len(texts), dtype=np.int64)
    ids = zeros if labels is None else np.array(labels, dtype=np.int64)
    return Dataset(texts, ids, LABELS, zeros, "folder", None, split, None, "folder", "0")


PLANNER = Planner(tiny_tokenizer(), "cpu", MAX_LENGTH)
ROWS = [("film", "positive"), ("plot", "negative"), ("slow", "beyond"), ("cast", "negative")]


def splits(chosen: Suite, dataset: Dataset) -> Splits:
    return Splits(chosen, dataset, LABELS, PLANNER)


def same_examples(plan: Plan, dataset: Dataset) -> bool:
    """Whether a plan is one of the data set's examples, in its order."""
    return plan.texts == dataset.texts and plan.rows.tolist() == dataset.rows.tolist()


# --- training ----------------------------------------------------------------------------------------------


def test_texts_that_are_scored_or_out_of_scope_are_left_out(tmp_path: Path) -> None:
    """What is left keeps its rows and labels."""
    found = splits(suite(folder(tmp_path, train=ROWS, test=ROWS[:1])), scored("plot")).train()
    assert found.dataset.texts == ("film", "cast")
    assert found.dataset.rows.tolist() == found.labelled.plan.rows.tolist() == [0, 3]
    assert found.dataset.labels.tolist() == found.labelled.labels.tolist() == [1, 0]


def test_a_limit_takes_a_random_subset(tmp_path: Path) -> None:
    """Of that size, the same for the same seed; the whole split has another hash."""
    rows = [(f"film {i}", LABELS[i % 2]) for i in range(50)]
    base = suite(folder(tmp_path, train=rows, test=ROWS[:1]))
    few = replace(base, train=TrainSpec(limit=20))
    first, again, other = (
        splits(chosen, scored("plot")).train().dataset for chosen in (few, few, replace(few, seeds=(1,)))
    )
    assert len(first) == 20
    assert first.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert first.sha256 != splits(base, scored("plot")).train().dataset.sha256


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
        splits(chosen, scored("film", "plot")).train()


def test_the_limit_of_the_scored_data_is_not_that_of_training(tmp_path: Path) -> None:
    """The training split has one of its own."""
    chosen = suite(folder(tmp_path, train=ROWS, test=ROWS[:1]), limit=1)
    assert len(splits(chosen, scored("nothing")).train().dataset) == 3


# --- calibration -------------------------------------------------------------------------------------------


def test_a_suite_without_a_calibration_split_has_none(tmp_path: Path) -> None:
    """Steps are then cross-fitted."""
    assert splits(suite(folder(tmp_path, test=ROWS)), scored("film")).calibration() is None


def test_the_calibration_split_leaves_out_what_is_scored_and_counts_it(tmp_path: Path) -> None:
    """And what is out of scope, without counting that; the rest keeps rows and labels."""
    chosen = suite(
        folder(tmp_path, validation=ROWS, test=ROWS[:1]), calibration=CalibrationSpec("validation")
    )
    found = splits(chosen, scored("plot", "good")).calibration()
    assert found is not None
    assert (found.dataset.texts, found.shared) == (("film", "cast"), 1)
    assert found.dataset.labels.tolist() == [1, 0]
    assert same_examples(found.plan, found.dataset)
    with pytest.raises(UsageError, match="'validation' holds no labelled text that is not scored too"):
        splits(chosen, scored("film", "plot", "cast")).calibration()


@pytest.mark.parametrize(
    ("own", "common", "size"), [(None, None, 50), (20, None, 20), (None, 30, 30), (20, 30, 20), (40, 30, 30)]
)
def test_the_smaller_limit_holds_for_calibration(
    own: int | None, common: int | None, size: int, tmp_path: Path
) -> None:
    """Of the split's own and of the one for all data."""
    rows = [(f"film {i}", LABELS[i % 2]) for i in range(50)]
    chosen = suite(
        folder(tmp_path, validation=rows, test=ROWS), limit=common, calibration=CalibrationSpec("validation")
    )
    chosen = replace(chosen, calibration=replace(chosen.calibration, limit=own))
    found = splits(chosen, scored("nothing")).calibration()
    assert found is not None
    assert len(found.dataset) == len(found.plan) == size


# --- threshold ---------------------------------------------------------------------------------------------


def test_a_threshold_is_chosen_on_texts_of_both_kinds(tmp_path: Path) -> None:
    """Those out of scope stay in, marked; those that are scored go."""
    chosen = suite(folder(tmp_path, validation=ROWS, test=ROWS), threshold="validation")
    found = splits(chosen, scored("film", "slow too", labels=[0, -1])).threshold()
    assert found is not None
    assert found.dataset.texts == ("plot", "slow", "cast")
    assert found.dataset.labels.tolist() == [0, -1, 0]
    assert same_examples(found.plan, found.dataset)
    assert (found.name, found.kind, found.strength, found.of) == ("threshold on validation", None, None, None)
    assert found.key == f"threshold on validation {found.dataset.sha256[:12]}"


def test_there_is_no_threshold_where_there_is_nothing_to_choose(tmp_path: Path) -> None:
    """Without a split to choose it on, or with all that is scored in scope."""
    data = folder(tmp_path, validation=ROWS, test=ROWS)
    assert splits(suite(data), scored("a", labels=[-1])).threshold() is None
    assert splits(suite(data, threshold="validation"), scored("a", labels=[1])).threshold() is None


@pytest.mark.parametrize(
    ("rows", "split", "said"),
    [
        (ROWS, "test", "The threshold split 'test' is the one that is scored"),
        (ROWS[:2], "validation", "The threshold split 'validation' holds no example out of scope"),
        (ROWS[2:3], "validation", "The threshold split 'validation' holds no example in scope"),
    ],
)
def test_a_split_that_shows_no_threshold_is_refused(
    rows: list[tuple[str, str]], split: str, said: str, tmp_path: Path
) -> None:
    """The scored one, and one that lacks texts of either kind."""
    chosen = suite(folder(tmp_path, validation=rows, test=ROWS), threshold=split)
    with pytest.raises(UsageError, match=said):
        splits(chosen, scored("nothing", labels=[-1])).threshold()


# --- shifts ------------------------------------------------------------------------------------------------


def test_a_shift_is_of_each_scored_text_in_scope(tmp_path: Path) -> None:
    """Each corruption once at each strength once, from weak to strong; each text knows which it was."""
    shift = ShiftSpec(("typos", "truncate", "typos"), (0.5, 0.2, 0.5))
    dataset = scored("the film", "beyond us", "a dull plot", labels=[1, -1, 0])
    dataset = replace(dataset, rows=np.array([4, 5, 9]))
    found = splits(suite(folder(tmp_path, test=ROWS), shift=shift, seeds=(3,)), dataset).shifted()
    named = [(item.name, item.kind, item.strength) for item in found]
    assert named == [
        ("typos 0.2", "typos", 0.2),
        ("typos 0.5", "typos", 0.5),
        ("truncate 0.2", "truncate", 0.2),
        ("truncate 0.5", "truncate", 0.5),
    ]
    for item in found:
        assert item.of is not None
        assert item.of.tolist() == [0, 2]
        assert item.dataset.labels.tolist() == [1, 0]
        assert item.dataset.rows.tolist() == [4, 9]
        assert same_examples(item.plan, item.dataset)
    assert found[3].dataset.texts == ("the", "a dull")
    assert len({item.key for item in found}) == 4


def test_without_corruptions_there_is_no_shift(tmp_path: Path) -> None:
    """Strengths alone shift nothing."""
    assert splits(suite(folder(tmp_path, test=ROWS)), scored("film")).shifted() == []


# --- other data sets ---------------------------------------------------------------------------------------


def test_other_data_sets_are_taken_in_scope_and_once(tmp_path: Path) -> None:
    """With the model's labels, up to the common limit; a text that is scored too stays."""
    one = folder(tmp_path / "one", test=ROWS)
    two = folder(tmp_path / "two", validation=[(f"film {i}", LABELS[i % 2]) for i in range(9)])
    shift = ShiftSpec(also=(str(one), str(two), str(one)))
    chosen = suite(folder(tmp_path / "base", test=ROWS), limit=5, shift=shift)
    first, second = splits(chosen, scored("film")).others()
    assert (first.name, second.name) == ("also one, split test", "also two, split validation")
    assert (first.kind, first.strength, first.of) == ("also", None, None)
    assert first.dataset.texts == ("film", "plot", "cast")
    assert len(second.dataset) == 5
    assert all(same_examples(item.plan, item.dataset) for item in (first, second))


def test_another_data_set_without_the_model_s_labels_is_refused(tmp_path: Path) -> None:
    """Nothing in scope leaves nothing to score."""
    other = folder(tmp_path / "other", test=[*ROWS[2:3], ("dull", "beyond")])
    chosen = suite(folder(tmp_path / "base", test=ROWS), shift=ShiftSpec(also=(str(other),)))
    with pytest.raises(UsageError, match=r"'other' holds no example with a label of the model; leave it out"):
        splits(chosen, scored("film")).others()
