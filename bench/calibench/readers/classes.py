"""A column of labels -> indices of classes, by name or by number, as `calibench.data.labels` has it.

Names are compared without regard to case. A number is the class that is called so; where classes have names,
numbers count them only if somebody gave their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from calibench.data.classes import number_of
from calibench.data.labels import shorten
from calibench.errors import UsageError
from calibench.stats.columns import filled
from calibench.types import IntArray

#: In place of a label that is missing.
MISSING = -1


@dataclass(frozen=True)
class Names:
    """What classes are called.

    Attributes:
        names: C names; of classes that only have numbers, "LABEL_0", "LABEL_1", ...
        origin: "asked" for those of `--classes`, "columns" for those in the names of columns, "none" where
            classes are numbers.
    """

    names: tuple[str, ...]
    origin: str

    @classmethod
    def numbered(cls, count: int) -> Names:
        """Of classes without names."""
        return cls(tuple(f"LABEL_{i}" for i in range(count)), "none")


@dataclass(frozen=True, eq=False)
class Coded:
    """Labels as indices: int64 [N], `MISSING` where there is none, and what was assumed, in sentences."""

    labels: IntArray
    notes: tuple[str, ...] = ()


def coded(column: Any, classes: Names, file: str, name: str) -> Coded:
    """The labels of a column as indices of classes.

    Args:
        column: a pyarrow array of words, numbers or truth; of categories, the words they stand for.
        file, name: of the file and the column, for messages.

    Raises:
        UsageError: labels that are no class, or of which nobody says which class they are.
    """
    column = plain(column)
    if pa.types.is_nested(column.type):
        raise UsageError(
            f"The column {name!r} of {file!r} holds lists; expected one label per row: choose another with "
            "--label."
        )
    encoded = pc.dictionary_encode(column)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    values = encoded.dictionary.to_pylist()
    found, notes = _indices(values, classes, file, name)
    places = np.array([found.get(value, MISSING) for value in values] + [MISSING], dtype=np.int64)
    index = filled(encoded.indices, len(values))
    return Coded(places[index], tuple(notes))


def plain(column: Any) -> Any:
    """Categories as the values they stand for, and blank words as missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _indices(
    values: Sequence[Any], classes: Names, file: str, name: str
) -> tuple[Mapping[Any, int], list[str]]:
    present = [value for value in values if value is not None]
    numbers = {value: number_of(value) for value in present}
    counted = all(number is not None for number in numbers.values())
    if classes.origin == "none":
        if not counted:
            raise UsageError(
                f"The labels of {file!r} are words ({_shown(present)}) and its {len(classes.names)} classes "
                "have no names; name them in the order of the columns with --classes."
            )
        return _by_place(numbers, classes, file, name), []
    named = {value: _called(value, number, classes.names) for value, number in numbers.items()}
    lacking = [value for value, place in named.items() if place is None]
    if not lacking:
        return {value: place for value, place in named.items() if place is not None}, []
    if not counted or len(lacking) < len(present):
        raise UsageError(
            f"The label {str(lacking[0])!r} of {file!r} is no class: the classes are "
            f"{shorten(classes.names)}; choose other columns with --probs, or the names with --classes."
        )
    if classes.origin == "columns":
        raise UsageError(
            f"The labels of {file!r} are numbers ({_shown(present)}) and its classes are called "
            f"{shorten(classes.names)}; name the classes in the order of these numbers with --classes."
        )
    _refuse_two_readings(numbers, classes.names, file)
    found = _by_place(numbers, classes, file, name)
    pairs = [f"{i} = {called}" for i, called in enumerate(classes.names)]
    return found, [f"Labels are numbers and were matched by position, counted from 0: {shorten(pairs)}."]


def _called(value: Any, number: int | None, names: Sequence[str]) -> int | None:
    """The class that a label names, or numbers where classes are called by numbers."""
    text = str(value)
    folded = [_folded(name) for name in names]
    if len(set(folded)) < len(names):
        return names.index(text) if text in names else None
    if _folded(text) in folded:
        return folded.index(_folded(text))
    if number is None or isinstance(value, bool):
        return None
    return next((i for i, name in enumerate(names) if number_of(name) == number), None)


def _folded(name: str) -> str:
    return name.strip().casefold()


def _by_place(numbers: Mapping[Any, int | None], classes: Names, file: str, name: str) -> dict[Any, int]:
    """Numbers as places, 0 being the first."""
    count = len(classes.names)
    outside = sorted(n for n in numbers.values() if n is not None and not 0 <= n < count)
    if outside:
        wrong = outside[0] if outside[0] < 0 else outside[-1]
        raise UsageError(
            f"The label {wrong} in the column {name!r} of {file!r} is no class: its {count} classes are "
            "counted from 0; name them as the labels do with --classes, or leave these rows out."
        )
    return {value: number for value, number in numbers.items() if number is not None}


def _refuse_two_readings(numbers: Mapping[Any, int | None], names: Sequence[str], file: str) -> None:
    """Refuse numbers that may be places, or be the numbers that stand in names, as in "4 stars"."""
    inside = [re.findall(r"[0-9]+", name) for name in names]
    held = {int(found[0]): i for i, found in enumerate(inside) if len(found) == 1}
    doubtful = sorted(n for n in numbers.values() if n is not None and held.get(n, n) != n)
    if doubtful and {n for n in numbers.values() if n is not None} <= held.keys():
        n = doubtful[0]
        raise UsageError(
            f"The label {n} of {file!r} may be the class {names[held[n]]!r} or, counted from 0, "
            f"{names[n] if 0 <= n < len(names) else 'none'!r}; write labels as names, or pass --classes with "
            "names that are these numbers."
        )


def _shown(values: Sequence[Any]) -> str:
    return shorten(sorted(map(str, values)))
