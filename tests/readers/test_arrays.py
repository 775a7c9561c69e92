"""Arrays of any kind are the same predictions, and are refused in the words of the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal

import scored_files
from calibench.errors import UsageError
from calibench.readers.arrays import read_arrays
from calibench.readers.asked import Asked
from calibench.readers.scored import Scored

PROBS, LABELS = scored_files.predictions(60)
TWO, TRUTH = scored_files.predictions(60, classes=2)


def read(probs: Any, labels: Any, asked: Asked | None = None, **given: Any) -> Scored:
    (table,) = read_arrays({"m": probs}, labels, asked or Asked(), **given)
    return table


def with_gradient(array: Any) -> torch.Tensor:
    return torch.tensor(array, requires_grad=True)


@pytest.mark.parametrize("probs", [np.asarray, np.ndarray.tolist, pd.DataFrame, with_gradient])
@pytest.mark.parametrize("labels", [np.asarray, np.ndarray.tolist, pd.Series, torch.tensor, pa.array])
def test_what_holds_the_numbers_does_not_matter(
    probs: Callable[[Any], Any], labels: Callable[[Any], Any]
) -> None:
    """numpy, lists, pandas, torch with a gradient, pyarrow: the same table, to the last bit."""
    found, plain = read(probs(PROBS), labels(LABELS)), read(PROBS, LABELS)
    assert found.sha256() == plain.sha256()
    assert found.data_sha256() == plain.data_sha256()


def test_what_was_given_is_left_alone() -> None:
    """Division by sums and softmax are done on a copy."""
    rounded, logits = np.round(PROBS, 2), np.log(PROBS)
    before = rounded.copy(), logits.copy()
    read(rounded, LABELS, Asked(renormalise=True))
    read(logits, LABELS, Asked(logits=True))
    assert_array_equal(rounded, before[0])
    assert_array_equal(logits, before[1])


def test_one_column_is_the_second_of_two_classes() -> None:
    """As of --prob."""
    assert read(TWO[:, 1], TRUTH).probs == pytest.approx(TWO)


@pytest.mark.parametrize("words", [list, pd.Series, pd.Categorical, np.array])
def test_labels_are_names_where_classes_have_names(words: Callable[[Any], Any]) -> None:
    """By the columns of a data frame, or by those that are asked for."""
    named = words([scored_files.NAMES[label] for label in LABELS])
    frame = pd.DataFrame(PROBS, columns=list(scored_files.NAMES))
    for table in (read(frame, named), read(PROBS, named, Asked(classes=scored_files.NAMES))):
        assert_array_equal(table.labels, LABELS)
        assert table.classes.names == scored_files.NAMES


def test_answers_have_confidences_and_are_right_or_wrong() -> None:
    """Each method gave its own, so that labels may differ between methods, and only then."""
    right = PROBS.argmax(axis=1) == LABELS
    sure = {"a": PROBS.max(axis=1), "b": PROBS.max(axis=1) ** 2}
    tables = read_arrays(sure, {"a": right, "b": ~right}, Asked(), by_confidence=True)
    assert [table.by_confidence for table in tables] == [True, True]
    assert_array_equal(tables[0].labels, 1 - right)
    assert_array_equal(tables[1].labels, right)
    with pytest.raises(UsageError, match="differ in 1 row of 60"):
        read_arrays({"a": PROBS, "b": PROBS}, {"a": LABELS, "b": [*LABELS[:-1], 1 - LABELS[-1] % 2]}, Asked())


def test_rows_that_are_called_otherwise_are_not_put_side_by_side() -> None:
    """An order that only one of two pandas objects has would give wrong numbers without a sign of it."""
    frame, labels = pd.DataFrame(PROBS), pd.Series(LABELS)
    read(frame, labels)
    shuffled = labels.sample(frac=1.0, random_state=0)
    with pytest.raises(UsageError, match=r"^The index of the labels of 'm' is not that of the predictions"):
        read(frame, shuffled)
    with pytest.raises(UsageError, match="The index of the predictions of 'b'"):
        read_arrays({"a": frame, "b": frame.loc[shuffled.index]}, LABELS, Asked())
    assert_array_equal(read(frame.loc[shuffled.index], shuffled).labels, shuffled)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_refused_or_left_out(missing: Any) -> None:
    """Whatever stands for them."""
    labels = pd.Series([missing, *LABELS[1:].tolist()], dtype=object)
    with pytest.raises(UsageError, match=r"^1 row of 60 in 'm' has no label \(the first is row 1\)"):
        read(PROBS, labels)
    assert len(read(PROBS, labels, Asked(skip_nulls=True))) == 59


REFUSED: list[tuple[Any, Any, str]] = [
    (PROBS[:0], LABELS[:0], "'m' holds no rows; expected one per example."),
    (PROBS, LABELS[:-1], "'m' has 60 rows of predictions and 59 labels; expected one per row."),
    (PROBS[:, :1], LABELS, "have shape [60, 1] and type float64; expected numbers, [N, C] for C classes"),
    (PROBS[None], LABELS, "have shape [1, 60, 3]"),
    (0.5, LABELS, "have shape []"),
    (PROBS.astype(str), LABELS, "and type <U"),
    (PROBS.astype(complex), LABELS, "and type complex128"),
    ([[0.5, 0.5], [1.0]], [0, 1], "are no array"),
    ([["a", None], [1.0, 2.0]], [0, 1], "and type object"),
    (np.ma.masked_greater(PROBS, 0.9), LABELS, "are a masked array"),
    (PROBS, np.eye(3)[LABELS], "take the argmax of each row where labels are one-hot"),
    (PROBS, [{}] * 60, "holds lists"),
    (PROBS, [0, "a", *LABELS[2:]], "are words"),
    (PROBS, LABELS + 1, "is no class: its 3 classes are counted from 0"),
    (PROBS.astype(np.float16), LABELS, "float16"),
    (torch.tensor(PROBS).bfloat16(), LABELS, "float16"),
    (pd.DataFrame(PROBS, columns=["a", "b", "b"]), LABELS, "two columns called 'b'"),
    (pd.DataFrame(PROBS, columns=["a", "b", "c"]), LABELS, "The labels of 'm' are numbers"),
]


@pytest.mark.parametrize(("probs", "labels", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_is_no_prediction_is_refused(probs: Any, labels: Any, words: str) -> None:
    """In one sentence that names the method."""
    with pytest.raises(UsageError) as raised:
        read(probs, labels)
    assert words in str(raised.value)
    assert str(raised.value).endswith(".")


def test_options_that_say_nothing_here_are_refused() -> None:
    """Nobody is to take them for heeded."""
    for asked in (Asked(logits=True), Asked(classes=("a", "b")), Asked(renormalise=True)):
        with pytest.raises(UsageError, match="has no meaning beside --confidence"):
            read(PROBS.max(axis=1), LABELS == 0, asked, by_confidence=True)
    with pytest.raises(UsageError, match="--renormalise is about rows of several"):
        read(TWO[:, 1], TRUTH, Asked(renormalise=True))
    with pytest.raises(UsageError, match="--classes names 2 classes"):
        read(PROBS, LABELS, Asked(classes=("a", "b")))
    with pytest.raises(UsageError, match="There are no labels for b"):
        read_arrays({"a": PROBS, "b": PROBS}, {"a": LABELS}, Asked())
