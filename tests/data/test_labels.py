"""The data's labels and the model's: matched by name, else by position with a note, else refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from datasets import Value
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.classes import classes_of
from calibench.data.labels import OUT_OF_SCOPE, align, ids_of, labelled, match_labels, matching, shorten
from calibench.data.subset import in_scope, take
from calibench.errors import UsageError
from calibench.hashing import dataset_sha256
from calibench.types import Dataset
from made_data import example

names_strategy = st.lists(st.text("abcxyz_", min_size=1, max_size=6), min_size=2, max_size=6, unique=True)


@given(names_strategy, st.randoms(), st.data())
def test_aligned_labels_keep_their_names(names: list[str], random: Any, data: st.DataObject) -> None:
    """Whatever the model's order and case, each example keeps its label's name and its posterior."""
    model = [name.upper() if random.random() < 0.5 else name for name in random.sample(names, len(names))]
    labels = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=8))
    posterior = np.random.default_rng(0).dirichlet(np.ones(len(names)), size=len(labels))
    before = example(labels, names, posterior)
    after = align(before, model)
    assert sorted(after.label_names) == sorted(names)
    for old, new in zip(before.labels, after.labels, strict=True):
        assert after.label_names[new] == names[old]
        assert model[new].casefold() == names[old].casefold()
    for i, name in enumerate(after.label_names):
        np.testing.assert_array_equal(after.posterior[:, i], posterior[:, names.index(name)])
    assert after.sha256 == before.sha256


def test_names_that_differ_by_case_only_are_matched_exactly() -> None:
    """Where case tells two classes apart, it counts."""
    labels = match_labels(["us", "US"], ["US", "us"])
    np.testing.assert_array_equal(labels.index, [1, 0])


@pytest.mark.parametrize(
    ("data", "model", "names"),
    [
        (["negative", "positive"], ["LABEL_0", "LABEL_1"], ("negative", "positive")),
        (["LABEL_0", "LABEL_1"], ["NEGATIVE", "POSITIVE"], ("NEGATIVE", "POSITIVE")),
        (["0", "1"], ["LABEL_0", "LABEL_1"], ("LABEL_0", "LABEL_1")),
        (["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"], ("LABEL_0", "LABEL_1")),
    ],
)
def test_unnamed_labels_are_matched_by_position_with_a_note(
    data: list[str], model: list[str], names: tuple[str, ...]
) -> None:
    """Names win over numbers, and the record says what was assumed."""
    labels = match_labels(data, model)
    np.testing.assert_array_equal(labels.index, [0, 1])
    assert labels.names == names
    assert labels.notes == (
        f"Labels were matched by position, not by name: {model[0]} = {data[0]}, {model[1]} = {data[1]}.",
    )


def test_matching_by_name_needs_no_note() -> None:
    """SST-2 says negative and positive, its models NEGATIVE and POSITIVE."""
    labels = match_labels(["negative", "positive"], ["POSITIVE", "NEGATIVE"])
    np.testing.assert_array_equal(labels.index, [1, 0])
    assert (labels.names, labels.notes) == (("positive", "negative"), ())


def test_outputs_that_the_data_never_name_are_noted() -> None:
    """A split that lacks a class is scored with all of the model's outputs."""
    labels = match_labels(["neg", "pos"], ["NEG", "NEUTRAL", "POS"])
    np.testing.assert_array_equal(labels.index, [0, 2])
    assert labels.names == ("neg", "NEUTRAL", "pos")
    assert labels.notes == ("The model also outputs NEUTRAL, which the data set does not have.",)


def test_classes_out_of_scope_are_declared_by_name() -> None:
    """Wherever their id lies, their examples are kept apart and the others keep their names."""
    dataset = example([0, 1, 2, 1], ["alarm", "oos", "weather"])
    aligned = align(dataset, ["weather", "alarm"], out_of_scope=["OOS"])
    np.testing.assert_array_equal(aligned.labels, [1, OUT_OF_SCOPE, 0, OUT_OF_SCOPE])
    known = in_scope(aligned)
    np.testing.assert_array_equal(known.rows, [10, 12])
    assert (known.texts, known.label_names) == (("text 0", "text 2"), ("weather", "alarm"))
    assert known.sha256 != dataset.sha256
    assert in_scope(known) is known


def test_a_declared_class_that_the_model_outputs_is_matched() -> None:
    """The declaration is for models that lack the class; for others it is a class like any."""
    labels = match_labels(["alarm", "oos"], ["oos", "alarm"], out_of_scope=["oos", "elsewhere"])
    np.testing.assert_array_equal(labels.index, [1, 0])


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (["negative", "positive"], ["sad", "happy"]),
        (["neg", "pos"], ["LABEL_0", "LABEL_1", "LABEL_2"]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["neg", "pos"]),
        (["alarm", "weather", "oos"], ["alarm", "weather"]),
    ],
)
def test_a_mismatch_is_refused_with_both_lists(data: list[str], model: list[str]) -> None:
    """Neither a foreign name nor another number of classes is guessed at."""
    with pytest.raises(UsageError) as caught:
        match_labels(data, model)
    assert ", ".join(data) in str(caught.value)
    assert ", ".join(model) in str(caught.value)


def test_a_mismatch_of_many_classes_is_shown_in_short() -> None:
    """150 intents are not printed; the ones at fault are."""
    intents = [f"intent {i:03}" for i in range(150)]
    with pytest.raises(UsageError) as caught:
        match_labels([*intents, "oos"], intents)
    assert len(str(caught.value)) < 500
    assert "(150 in all)" in str(caught.value)
    assert "lacks oos" in str(caught.value)
    assert shorten(intents[:8]) == ", ".join(intents[:8])


MODEL = ["NEGATIVE", "POSITIVE"]


def data(values: Sequence[Any]) -> Dataset:
    """A data set with these values in its label column, as they would be read."""
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
    posterior = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    dataset = replace(data([0, 2]), label_names=("a", "b", "c"), order="declared", posterior=posterior)
    aligned = align(dataset, MODEL, label_map={"a": 0, "b": 1, "c": 1})
    np.testing.assert_allclose(aligned.posterior, [[0.1, 0.9], [0.5, 0.5]])


STARS = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]


@pytest.mark.parametrize(
    ("values", "model"),
    [
        ([1, 2, 3, 4], STARS),
        (["0", "1"], ["LABEL_1", "LABEL_0"]),
        ([0, 1], ["True", "False"]),
        ([1, 2], ["class 1", "class 2", "class 3"]),
    ],
)
def test_ids_that_may_be_places_or_the_numbers_in_names_are_refused(
    values: list[Any], model: list[str]
) -> None:
    """Both readings name outputs for all of them, and other ones; a map settles it."""
    with pytest.raises(UsageError, match=r"may be the output .* or, counted from 0, .*--label-map"):
        align(data(values), model)
    label_map = {str(value): model[0] for value in values}
    assert set(align(data(values), model, label_map=label_map).labels) == {0}


def test_ids_beside_them_say_which_reading_is_right() -> None:
    """0 is no star, so that 1 to 4 are places; also of a split that lacks 0."""
    whole = data([0, 1, 2, 3, 4])
    assert align(whole, STARS).labels.tolist() == [0, 1, 2, 3, 4]
    part = take(whole, np.array([2, 4, 1, 3]))
    assert align(part, STARS, seen=ids_of(whole)).labels.tolist() == [2, 4, 1, 3]
    with pytest.raises(UsageError, match="lacks 0"):
        align(take(whole, np.array([1, 2])), ["1", "2", "3", "4", "5"], seen=ids_of(whole))
    assert ids_of(data(["a", "b"])) == ()


def test_outputs_called_by_other_numbers_than_their_places_are_noted() -> None:
    """1 is the output called 1, and the record says that this was not the place."""
    (note, *_) = matching(data([1, 2, 3]), ["1", "2", "3"]).notes
    assert note.startswith("Labels are the numbers that outputs are called, not their places: output 0 = 1,")


def test_one_of_two_outputs_of_one_name_is_meant_by_its_number() -> None:
    """Neither the first nor the last is a guess worth making."""
    model = ["neg", "neg", "pos"]
    for label_map in ({}, {"neg": "neg"}):
        with pytest.raises(UsageError, match=r"several outputs 'neg' \(0, 1\).*by its number"):
            align(data(["neg", "pos"]), model, label_map=label_map)
    assert align(data(["neg", "pos"]), model, label_map={"neg": 1}).labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "label_map"),
    [(["Pos", "neg"], {"pos": 1, "POS": 0}), ([0, 1], {"1": 0, "LABEL_1": 1}), ([0, 1], {"1": 0, "True": 1})],
)
def test_a_map_that_contradicts_itself_is_refused(values: list[Any], label_map: dict[str, int]) -> None:
    """Two spellings of one label."""
    with pytest.raises(UsageError, match=r"says '\w+' and '\w+' for one label"):
        align(labelled(data(values), label_map), MODEL, label_map=label_map)
    exact = align(data(["pos", "POS"]), MODEL, label_map={"pos": 1, "POS": 0})
    assert exact.labels.tolist() == [1, 0]


def test_a_key_that_no_label_is_is_named() -> None:
    """A typing error for a label that is left unmapped is refused; else the split may lack it: a note."""
    with pytest.raises(UsageError, match=r"says 'negativ', which no label .* did you mean 'negative'"):
        match_labels(["negative", "positive"], MODEL, order="none", label_map={"negativ": 1, "positive": 0})
    with pytest.raises(UsageError, match=r"\(the label map says anger, which no label of the data set is\)"):
        match_labels(["fear", "joy"], MODEL, order="none", label_map={"anger": 1, "joy": 0})
    labels = match_labels(["1 star", "4 stars"], STARS, order="none", label_map={"3 stars": "", "1 star": 0})
    assert labels.index.tolist() == [0, 3]
    assert "The label map also says 3 stars, which no label of the data set is." in labels.notes
    known = match_labels(["neg", "pos"], MODEL, order="none", label_map={"neg": 0, "pos": 1})
    assert len(known.notes) == 1


def test_numbers_out_of_scope_are_declared_in_any_spelling() -> None:
    """Also -1, which otherwise is no label; a map wins over the declaration."""
    for values, name in (([0, 1, 2], "2"), ([0, 1, 2], "LABEL_2"), ([0, 1, -2], "-2"), ([0, 1, -1], "-1")):
        dataset = labelled(data(values), None, (name,))
        assert align(dataset, MODEL, out_of_scope=(name,)).labels.tolist() == [0, 1, OUT_OF_SCOPE]
    mapped = align(data([0, 1, 2]), MODEL, out_of_scope=("2",), label_map={"0": 0, "1": 1, "2": 0})
    assert mapped.labels.tolist() == [0, 1, 0]


def test_declared_numbers_keep_their_places() -> None:
    """Where one of them is left out; names are counted."""
    labels = match_labels(["0", "1", "2"], ["a", "b", "c"], label_map={"1": ""})
    assert labels.index.tolist() == [0, OUT_OF_SCOPE, 2]
    with pytest.raises(UsageError, match="which lacks 0, 2"):
        match_labels(["0", "1", "2"], ["a", "b"], out_of_scope=["1"])
    named = match_labels(["x", "oos", "y"], ["LABEL_0", "LABEL_1"], out_of_scope=["oos"])
    assert named.index.tolist() == [0, OUT_OF_SCOPE, 1]


@pytest.mark.parametrize("model", [["neg", "neutral", "pos"], ["LABEL_0", "LABEL_1", "LABEL_2"]])
def test_minus_one_is_no_missing_label_where_a_class_would_be_lost(model: list[str]) -> None:
    """-1, 0 and 1 for three outputs; SNLI's -1 beside 0, 1 and 2 is none."""
    with pytest.raises(UsageError, match="-1 may be a class, or say that there is no label"):
        align(labelled(data([-1, 0, 1])), model)
    label_map = {"-1": "", "0": 0}
    assert align(labelled(data([-1, 0, 1]), {"-1": 0, "0": 1, "1": 2}), model,
                 label_map={"-1": 0, "0": 1, "1": 2}).labels.tolist() == [0, 1, 2]  # fmt: skip
    assert align(labelled(data([-1, 0, 1, 2])), model).labels.tolist() == [0, 1, 2]
    assert len(labelled(data([-1, 0, 1]), label_map)) == 2


def test_letters_are_the_same_however_they_are_composed() -> None:
    """An accent of its own, or within the letter."""
    assert match_labels(["cafe\u0301", "x"], ["x", "caf\u00e9"], order="none").index.tolist() == [1, 0]
