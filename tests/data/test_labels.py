"""The data's labels and the model's: matched by name, else by position with a note, else refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.labels import OUT_OF_SCOPE, align, match_labels, shorten
from calibench.data.subset import in_scope
from calibench.errors import UsageError
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
