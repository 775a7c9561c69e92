"""A column of labels -> classes: what they are called, and what their order says.

Three kinds of columns say which output of a model a class is in different ways:

    declared   a `ClassLabel`: names in the order of their ids
    ids        numbers, also as text ("0" to "11", 1.0, True): they are the ids themselves
    none       words: nobody said which comes first, and an alphabet is no order
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from calibench.errors import UsageError
from calibench.types import IntArray, Order

MOST_CLASSES = 100_000
#: What a column of numbers says most often where there is no label.
NO_LABEL = "-1"
_TRUTH = {"false": 0, "true": 1}


@dataclass(frozen=True, eq=False)
class Classes:
    """The labelled rows of a column.

    Attributes:
        names: the classes.
        order: what their order says.
        rows: int64 [N], those with a label.
        labels: int64 [N], indices into `names`.
    """

    names: tuple[str, ...]
    order: Order
    rows: IntArray
    labels: IntArray

    @property
    def is_labelled(self) -> bool:
        """Whether any row has a label, a lone -1 being none."""
        return any(self.names[i] != NO_LABEL for i in np.unique(self.labels))


def classes_of(feature: Any, values: Sequence[Any], column: str) -> Classes:
    """What a column of a `datasets` table says.

    Classes of ids are called LABEL_0, LABEL_1, ... up to the largest; negative ids, of which -1 most often
    means that there is no label, come last under their own names (see `calibench.data.labels.labelled`).

    Args:
        feature: the column's type.
        values: as Python objects; None is missing.

    Raises:
        UsageError: values that are no classes.
    """
    from datasets import ClassLabel

    rows = np.array([row for row, value in enumerate(values) if not _missing(value)], dtype=np.int64)
    present = [values[row] for row in rows]
    if isinstance(feature, ClassLabel):
        ids = np.array(present, dtype=np.int64)
        return Classes(tuple(feature.names), "declared", rows[ids >= 0], ids[ids >= 0])
    numbers = _numbers(present)
    if numbers is not None:
        return _of_ids(numbers, rows, column)
    if not is_text(feature):
        raise UsageError(
            f"The column {column!r} does not hold class labels, which are words or whole numbers; it holds "
            f"{present[0]!r}: choose another with --label-column."
        )
    names = tuple(sorted(set(present)))
    index = {name: i for i, name in enumerate(names)}
    return Classes(names, "none", rows, np.array([index[value] for value in present], dtype=np.int64))


def is_text(feature: Any) -> bool:
    """Whether a column of this type holds text."""
    return getattr(feature, "dtype", None) in {"string", "large_string", "string_view"}


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and np.isnan(value))


def _numbers(values: Sequence[Any]) -> list[int] | None:
    """The whole numbers that all values are, also as text or as truth; None where one of them is none."""
    found = [number_of(value) for value in values]
    whole = [number for number in found if number is not None]
    return whole if len(whole) == len(found) else None


def number_of(value: Any) -> int | None:
    """The whole number that a value is, also as text, as LABEL_3 or as truth; None where it is none."""
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float | Decimal):
        return int(value) if value == value // 1 else None
    if not isinstance(value, str):
        return None
    text = value.strip().casefold()
    found = re.fullmatch(r"(?:label_)?([+-]?[0-9]+)(?:\.0+)?", text)
    return int(found[1]) if found else _TRUTH.get(text)


def _of_ids(numbers: Sequence[int], rows: IntArray, column: str) -> Classes:
    most = max(numbers, default=-1)
    if most >= MOST_CLASSES:
        raise UsageError(f"The column {column!r} holds {most}, which is no class: pass --label-column.")
    negative = sorted({number for number in numbers if number < 0}, reverse=True)
    places = {number: most + 1 + i for i, number in enumerate(negative)}
    names = (*(f"LABEL_{i}" for i in range(most + 1)), *map(str, negative))
    labels = np.array([places.get(number, number) for number in numbers], dtype=np.int64)
    return Classes(names, "ids", rows, labels)
