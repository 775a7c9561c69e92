"""Which output of the model a label is, where somebody has to say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from calibench.data.classes import classes_of
from calibench.data.labels import align, labelled, match_labels, matching
from calibench.errors import UsageError
from calibench.hashing import dataset_sha256
from calibench.types import Dataset

MODEL = ["NEGATIVE", "POSITIVE"]


def data(values: Sequence[Any]) -> Dataset:
    """A data set with these values in its label column, as they would be read."""
    from datasets import Value

    kind = {int: "int64", float: "float64", bool: "bool"}.get(type(values[0]), "string")
    found = classes_of(Value(kind), values, "label")
    texts = tuple(f"text {row}" for row in found.rows)
    digest = dataset_sha256(texts, found.labels, found.names, "test")
    return Dataset(
        texts, found.labels, found.names, found.rows, "made", None, "test", None, "folder", digest,
        order=found.order,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "label_map"),
    [
        (["pos", "neg", "pos"], {"pos": "positive", "neg": "negative"}),
        (["pos", "neg", "pos"], {"pos": "1", "neg": 0}),
        ([4, 0, 4], {"0": "negative", "4": "POSITIVE"}),
        ([4.0, 0.0, 4.0], {"0": 0, "4.0": 1}),
        ([2, 1, 2], {"1": "NEGATIVE", "2": "LABEL_1"}),
        ([1, -1, 1], {"-1": "negative", "1": "positive"}),
        ([True, False, True], {"True": "positive", "False": "negative"}),
        (["5", "1", "5"], {"1": 0, "2": 0, "4": 1, "5": 1}),
        ([" Pos", "neg ", " Pos"], {"pos": 1, "NEG": 0}),
        (["5 stars", "1 star", "4 stars"], {"1 star": 0, "4 stars": 1, "5 stars": 1}),
    ],
)
def test_any_spelling_can_be_mapped(values: list[Any], label_map: dict[str, str | int]) -> None:
    """By the model's name, whatever its case, or by the number of the output; several may be one."""
    dataset = labelled(data(values), label_map)
    aligned = align(dataset, MODEL, label_map=label_map)
    assert aligned.labels.tolist() == [1, 0, 1]
    (note, *_) = matching(dataset, MODEL, label_map=label_map).notes
    assert note.startswith("Labels were mapped as asked for: ")


def test_a_map_that_turns_names_round_wins_over_them() -> None:
    """Somebody said so."""
    labels = match_labels(["negative", "positive"], MODEL, label_map={"negative": 1, "positive": 0})
    assert labels.index.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "model", "label_map", "message"),
    [
        (["joy", "anger"], ["LABEL_0", "LABEL_1"], {}, r"words \(anger, joy\) .* \(LABEL_0, LABEL_1\)"),
        (["joy", "anger"], ["LABEL_0", "LABEL_1"], {"joy": 0}, "nobody says which is which"),
        (
            ["pos", "neg"],
            MODEL,
            {"pos": "positiv"},
            "output 'positiv'.* choose from NEGATIVE, POSITIVE, or 0",
        ),
        (["pos", "neg"], MODEL, {"pos": 2, "neg": 0}, "output '2', which the model does not have"),
        ([0, 4], MODEL, {}, r"has 0, 4, the model NEGATIVE, POSITIVE.*--label-map 0=OUTPUT,4=OUTPUT"),
        ([1, 2], MODEL, {}, "has 1, 2"),
        ([0, 4], MODEL, {"4": 1}, "has 0, 4"),
        ([0, 1, -2], MODEL, {}, "lacks"),
        ([0, 1], ["1", "2"], {}, "lacks 0"),
    ],
)
def test_what_nobody_says_is_refused(
    values: list[Any], model: list[str], label_map: dict[str, str | int], message: str
) -> None:
    """With both lists and the option that settles it; an alphabet is no order, and half a map is none."""
    with pytest.raises(UsageError, match=message):
        align(labelled(data(values), label_map), model, label_map=label_map)


@pytest.mark.parametrize("model", [["LABEL_0", "LABEL_1"], ["zero", "one"]])
@pytest.mark.parametrize("values", [[0, 1, 1], ["0", "1", "1"], [False, True, True], [0.0, 1.0, 1.0]])
def test_ids_are_places(values: list[Any], model: list[str]) -> None:
    """With a note, as the data say no names."""
    dataset = data(values)
    assert align(dataset, model).labels.tolist() == [0, 1, 1]
    assert "by position" in matching(dataset, model).notes[0]


def test_ids_that_are_the_model_s_names_are_matched_by_name() -> None:
    """Stars from 1 to 5, which the model calls so, are no places from 0."""
    dataset = data([5, 1, 3])
    assert align(dataset, ["1", "2", "3", "4", "5"]).labels.tolist() == [4, 0, 2]
    assert align(data([0, 1]), ["1", "0"]).labels.tolist() == [1, 0]


def test_twelve_classes_as_text_are_in_the_order_of_their_numbers() -> None:
    """Sorted as text, 10 and 11 come before 2."""
    values = [str(i) for i in range(12)]
    aligned = align(data(values), [f"LABEL_{i}" for i in range(12)])
    np.testing.assert_array_equal(aligned.labels, np.arange(12))


@pytest.mark.parametrize(
    ("values", "label_map", "left"),
    [([0, -1, 1, -1], {}, [0, 2]), (["a", "-", "b"], {"-": "", "a": 0, "b": 1}, [0, 2])],
)
def test_rows_without_a_label_are_left_out_and_counted(
    values: list[Any], label_map: dict[str, str | int], left: list[int]
) -> None:
    """A label of -1, or one that is mapped to nothing."""
    dataset = labelled(data(values), label_map)
    assert dataset.rows.tolist() == left
    assert dataset.unlabelled == len(values) - len(left)
    assert align(dataset, MODEL, label_map=label_map).labels.tolist() == [0, 1]


def test_minus_one_and_one_may_mean_either() -> None:
    """Two classes, or one class and no label: refused until somebody says which."""
    with pytest.raises(UsageError, match="-1 may be a class"):
        labelled(data([-1, 1, 1]))
    with pytest.raises(UsageError, match=r"No row .* has a label"):
        labelled(data(["a", "a"]), {"a": ""})


def test_a_posterior_goes_where_its_class_goes() -> None:
    """Classes that become one add up."""
    from dataclasses import replace

    posterior = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    dataset = replace(data([0, 2]), label_names=("a", "b", "c"), order="declared", posterior=posterior)
    aligned = align(dataset, MODEL, label_map={"a": 0, "b": 1, "c": 1})
    np.testing.assert_allclose(aligned.posterior, [[0.1, 0.9], [0.5, 0.5]])
