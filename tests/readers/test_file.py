"""Tables: the same predictions however they are laid out, and what is said of rows and columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import scored_files
from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.file import read
from calibench.readers.files import source_of
from calibench.readers.scored import Scored

PROBS, LABELS = scored_files.predictions(12)


def scored(folder: Path, columns: dict[str, Any], **said: Any) -> Scored:
    path = folder / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=5)
    return read(source_of(str(path)), Asked(**{"label": "label", **said}), "A")


def by_class(order: tuple[int, ...] = (0, 1, 2), prefix: str = "p_") -> dict[str, Any]:
    return {f"{prefix}{scored_files.NAMES[i]}": PROBS[:, i] for i in order}


WORDS = [scored_files.NAMES[label] for label in LABELS]


def test_columns_lists_and_logits_are_one(tmp_path: Path) -> None:
    """Known answer: one distribution per row, whichever way it is written."""
    named = scored(tmp_path, {"label": WORDS, **by_class()}, probs="p_*")
    assert named.classes.names == scored_files.NAMES
    assert_array_equal(named.probs, PROBS)
    assert_array_equal(named.labels, LABELS)
    for columns, said in (
        ({"label": LABELS, "p": PROBS.tolist()}, {"probs": "p"}),
        ({"label": LABELS, "p": PROBS.astype("f4").tolist()}, {"probs": "p"}),
        ({"label": LABELS, "z": np.log(PROBS).tolist()}, {"probs": "z", "logits": True}),
        ({"label": LABELS, **{f"p_{i}": PROBS[:, i] for i in (2, 0, 1)}}, {"probs": "p_*"}),
        ({"label": WORDS, "p": PROBS.tolist()}, {"probs": "p", "classes": scored_files.NAMES}),
    ):
        found = scored(tmp_path, columns, **said)
        assert_allclose(found.probs, PROBS, atol=1e-7)
        assert_array_equal(found.labels, LABELS)


def test_the_order_of_named_columns_is_that_of_the_file(tmp_path: Path) -> None:
    """Labels follow the names, so that nothing depends on it."""
    found = scored(tmp_path, {"label": WORDS, **by_class((2, 0, 1))}, probs="p_*")
    assert found.classes.names == ("positive", "negative", "neutral")
    assert_array_equal(found.probs[np.arange(12), found.labels], PROBS[np.arange(12), LABELS])


def test_ten_numbered_columns_are_counted(tmp_path: Path) -> None:
    """p_10 follows p_9, though not in the alphabet."""
    probs = np.eye(12)[::-1]
    columns = {f"p_{i}": probs[:, i] for i in sorted(range(12), key=str)}
    found = scored(tmp_path, {"label": np.arange(12), **columns}, probs="p_*")
    assert_array_equal(found.probs, probs)


def test_columns_with_another_meaning_are_no_classes(tmp_path: Path) -> None:
    """A pattern that is too wide takes neither label nor id, group or price."""
    columns = {"p_label": WORDS, **by_class(), "p_id": np.arange(12), "p_usd": np.ones(12)}
    found = scored(tmp_path, columns, label="p_label", probs="p_*", id="p_id", price="p_usd")
    assert found.classes.names == scored_files.NAMES
    assert found.ids.to_pylist() == [str(i) for i in range(12)]
    assert_array_equal(found.price, np.ones(12))


def test_two_classes_from_one_column(tmp_path: Path) -> None:
    """1 is the class that the probability is of, and so is the second name."""
    columns = {"label": [0, 1, 1], "p": [0.1, 0.7, 0.4]}
    assert_array_equal(scored(tmp_path, columns, prob="p").probs[:, 1], [0.1, 0.7, 0.4])
    columns["label"] = ["ham", "spam", "spam"]
    found = scored(tmp_path, columns, prob="p", classes=("ham", "spam"))
    assert_array_equal(found.labels, [0, 1, 1])


@pytest.mark.parametrize(
    "correct", [[True, False, None], [1, 0, None], ["true", "False", ""], [1.0, 0.0, None]]
)
def test_confidences_and_correctness(correct: list[Any], tmp_path: Path) -> None:
    """Label 0 is right and 1 is wrong; what lacks a value says so."""
    columns = {"c": [0.9, 0.6, 0.5], "k": correct}
    found = scored(tmp_path, columns, label=None, confidence="c", correct="k")
    assert found.by_confidence
    assert_array_equal(found.probs, [[0.9], [0.6], [0.5]])
    assert_array_equal(found.labels, [0, 1, -1])
    assert_array_equal(found.lacking, [False, False, True])


@pytest.mark.parametrize(
    ("columns", "said", "message"),
    [
        ({"label": [0], "p": [["a", "b"]]}, {"probs": "p"}, "holds string values; expected numbers"),
        ({"label": [0], "p": [{"a": 1.0}]}, {"probs": "p"}, "expected lists of numbers"),
        ({"label": [0], "p": ["x"]}, {"prob": "p"}, "holds string values"),
        ({"label": [0], "p": [0.5]}, {"prob": "p", "renormalise": True}, "leave it out"),
        ({"label": [0], "p": [0.5]}, {"prob": "p", "id": "x"}, "has no column 'x'; it has label, p"),
        ({"label": [0], "p": [0.5]}, {"prob": "p", "normalise": "bytes"}, "--from lm-eval"),
        ({"c": [[0.5]], "k": [1]}, {"label": None, "confidence": "c", "correct": "k"}, "one confidence"),
    ],
)
def test_columns_of_another_kind_are_refused(
    columns: dict[str, Any], said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Naming the column and what it holds."""
    with pytest.raises(UsageError, match=message):
        scored(tmp_path, columns, **said)


def test_categories_decimals_and_fixed_lists_are_read(tmp_path: Path) -> None:
    """Other types that say the same."""
    labels = pa.array(WORDS).dictionary_encode()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(PROBS.ravel()), 3)
    found = scored(tmp_path, {"label": labels, "p": lists}, probs="p", classes=scored_files.NAMES)
    assert_array_equal(found.labels, LABELS)
    assert_array_equal(found.probs, PROBS)
    halves = pa.array([0.5, 0.25]).cast(pa.decimal128(5, 2))
    assert_array_equal(scored(tmp_path, {"label": [0, 1], "p": halves}, prob="p").probs[:, 1], [0.5, 0.25])
