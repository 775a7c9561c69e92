"""A table with a column per class, one of lists, one for two classes, or confidences alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from calibench.data.classes import number_of
from calibench.data.labels import shorten
from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.classes import Names, coded, plain
from calibench.readers.files import Opened, Source, open_file
from calibench.readers.probabilities import confidences, of_two, probabilities
from calibench.readers.scored import Scored
from calibench.stats.columns import array_of, filled
from calibench.stats.mapped import let_go, room_for
from calibench.types import BoolArray, FloatArray, IntArray

#: Of an answer that is right and of one that is wrong, where there are no classes.
RIGHT, WRONG = 0, 1
#: What the one class is called where there are none.
ANSWER = Names(("answer",), "none")


def read(source: Source, asked: Asked, name: str) -> Scored:
    """The predictions of a file; rows that lack a value are among them.

    Args:
        name: of the method.

    Raises:
        UsageError: the file is not what was said of it.
    """
    if asked.normalise != "none":
        raise UsageError("--normalise is about the log-likelihoods of --from lm-eval; leave it out.")
    asked = asked.checked_columns()
    opened = open_file(source, asked.delimiter, asked.quoting)
    if asked.by_confidence:
        return _by_confidence(opened, asked, name)
    numbers, label = _number_columns(opened, asked), str(asked.label)
    found = _Columns(opened, numbers, _words(asked, label), asked.price)
    probs, classes, notes = _of_two(found, asked) if asked.prob else _of_all(found, asked)
    labels = coded(found.word(label), classes, opened.name, label)
    return _scored(name, opened, asked, found, probs, labels.labels, classes, (*notes, *labels.notes))


def _of_all(found: _Columns, asked: Asked) -> tuple[FloatArray, Names, tuple[str, ...]]:
    """Probabilities of all classes, what these are called, and notes."""
    file = found.opened.name
    if found.width == 1:
        raise UsageError(
            f"--probs {asked.probs!r} is one column of numbers in {file!r}, {found.columns[0]!r}; expected "
            "one per class: pass --prob for the probability of the second of two classes."
        )
    probs, notes = probabilities(
        found.numbers(),
        file,
        found.columns,
        logits=asked.logits,
        renormalise=asked.renormalise,
        half=found.half,
    )
    return probs, _class_names(found.opened, asked, found.columns, found.width), notes


def _of_two(found: _Columns, asked: Asked) -> tuple[FloatArray, Names, tuple[str, ...]]:
    """The same from the probability of the second of two classes."""
    file, column = found.opened.name, str(asked.prob)
    if found.listed:
        raise UsageError(
            f"The column {column!r} of {file!r} holds lists; pass --probs for one number per class."
        )
    if asked.renormalise:
        raise UsageError("--renormalise is about rows of several probabilities; leave it out.")
    probs = of_two(found.numbers()[:, 0], file, column, logits=asked.logits, half=found.half)
    return probs, _named(asked, found.opened, 2), ()


def _by_confidence(opened: Opened, asked: Asked, name: str) -> Scored:
    sure, right = str(asked.confidence), str(asked.correct)
    found = _Columns(opened, [sure], _words(asked, right), asked.price)
    if found.listed:
        raise UsageError(f"The column {sure!r} of {opened.name!r} holds lists; expected one confidence.")
    probs = confidences(found.numbers()[:, 0], opened.name, sure)
    return _scored(
        name, opened, asked, found, probs, correctness(found.word(right), opened.name, right), ANSWER, ()
    )


def correctness(values: Any, file: str, column: str) -> IntArray:
    """`RIGHT` where the answer is, `WRONG` where not, of a pyarrow chunked array.

    Raises:
        UsageError: values that are neither true nor false.
    """
    values = plain(values)
    if pa.types.is_nested(values.type):
        raise UsageError(f"The column {column!r} of {file!r} holds lists; expected true or false.")
    strange = [
        value for value in values.unique().to_pylist() if value is not None and number_of(value) not in (0, 1)
    ]
    if strange:
        raise UsageError(
            f"The column {column!r} of {file!r} holds {str(strange[0])!r}; expected true or false, or 1 or "
            "0: choose another with --correct."
        )
    return coded(_flipped(values), Names(("right", "wrong"), "none"), file, column).labels


def _flipped(values: Any) -> Any:
    """1 for what is not right; missing values stay so."""
    encoded = values.dictionary_encode().combine_chunks()
    numbers = [number_of(value) for value in encoded.dictionary.to_pylist()]
    table = pa.array([None if number is None else 1 - number for number in numbers], pa.int64())
    return table.take(encoded.indices)


def _scored(
    name: str,
    opened: Opened,
    asked: Asked,
    found: _Columns,
    probs: FloatArray,
    labels: IntArray,
    classes: Names,
    notes: tuple[str, ...],
) -> Scored:
    return Scored(
        name,
        opened.name,
        probs,
        labels,
        classes,
        ids=None if asked.id is None else _as_text(found.word(asked.id)),
        group=None if asked.group is None else _as_text(found.word(asked.group)),
        price=found.price(),
        held_out=None if asked.calibration_split is None else _held_out(found, asked),
        notes=notes,
        said=asked.as_options(),
        rows=np.arange(len(labels)),
    )


def _words(asked: Asked, label: str) -> list[str]:
    """The columns whose values stand for something and are no amounts."""
    others = (asked.id, asked.group, asked.held_out[0])
    return list(dict.fromkeys([label, *(name for name in others if name)]))


def _held_out(found: _Columns, asked: Asked) -> BoolArray:
    """Whether a row is held out, bool [N]."""
    (column, value), file = asked.held_out, found.opened.name
    words = _as_text(found.word(column))
    if words.null_count:
        raise UsageError(
            f"{words.null_count:,} of the {len(words):,} rows of {file!r} have no {column!r}; write into "
            "each row which part it belongs to."
        )
    held = array_of(pc.equal(words, value))
    if held.any() and not held.all():
        return held
    raise UsageError(
        f"--calibration-split {asked.calibration_split!r} fits {'all rows' if held.any() else 'no row'} of "
        f"{file!r}, where {column!r} is {shorten(sorted(words.unique().to_pylist()))}; expected some rows to "
        "fit on and others to score."
    )


def _as_text(column: Any) -> Any:
    """Words, also where they are numbers; a number that is whole is written so."""
    column = plain(column)
    if pa.types.is_floating(column.type):
        encoded = column.dictionary_encode().combine_chunks()
        text = [f"{v:g}" if v != v // 1 else str(int(v)) for v in encoded.dictionary.to_pylist()]
        return pa.array(text, pa.string()).take(encoded.indices)
    column = column.cast(pa.string())
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _number_columns(opened: Opened, asked: Asked) -> list[str]:
    """The columns of the numbers, those of `--probs` in the file's order, or in that of their patterns."""
    if asked.prob is not None:
        return [asked.prob]
    others = {asked.label, asked.id, asked.group, asked.price, asked.held_out[0]}
    found: dict[str, None] = {}
    for pattern in str(asked.probs).split(","):
        pattern = pattern.strip()
        matched = [c for c in opened.columns if c == pattern or (fnmatchcase(c, pattern) and c not in others)]
        if not matched:
            raise UsageError(
                f"--probs {pattern!r} is no column of {opened.name!r}; it has {shorten(opened.columns)}."
            )
        found |= dict.fromkeys(matched)
    return _counted(list(found), str(asked.probs))


def _counted(columns: list[str], pattern: str) -> list[str]:
    """p_0, p_1, ..., p_10 by their numbers, whatever the order in the file; others as they stand."""
    numbers = [number_of(name) for name in _parts(columns, pattern)]
    if any(number is None for number in numbers) or len(set(numbers)) < len(numbers):
        return columns
    return [columns[i] for i in sorted(range(len(columns)), key=lambda i: numbers[i] or 0)]


def _parts(columns: Sequence[str], pattern: str) -> list[str]:
    """What the star of a pattern stands for in each name; the names themselves without one."""
    head, star, tail = pattern.strip().partition("*")
    if not star or "," in pattern or any(mark in tail for mark in "*?["):
        return list(columns)
    return [column[len(head) : len(column) - len(tail)] for column in columns]


def _class_names(opened: Opened, asked: Asked, columns: Sequence[str], width: int) -> Names:
    if len(columns) < width or asked.classes:
        return _named(asked, opened, width)
    parts = _parts(columns, str(asked.probs))
    if [number_of(part) for part in parts] == list(range(width)):
        return Names.numbered(width)
    return Names(tuple(parts), "columns")


def _named(asked: Asked, opened: Opened, width: int) -> Names:
    """The names of `--classes`, in the order of the columns; numbers where there are none."""
    if not asked.classes:
        return Names.numbered(width)
    if len(asked.classes) != width:
        raise UsageError(
            f"--classes names {len(asked.classes)} classes ({shorten(asked.classes)}) and {opened.name!r} "
            f"has {width}; name each once, in the order of the columns."
        )
    return Names(asked.classes, "asked")


@dataclass(eq=False)
class _Columns:
    """The columns of a file that were asked for, put together batch by batch.

    Attributes:
        columns: of numbers, in order.
        words: of what is no amount.
        priced: the column of prices, or None.
        width: numbers in a row.
        half: whether they are stored in float16.
        listed: whether they are lists.
    """

    opened: Opened
    columns: Sequence[str]
    words: Sequence[str]
    priced: str | None
    width: int = 0
    half: bool = False
    listed: bool = False
    _filled: list[FloatArray] = field(default_factory=list)
    _whole: FloatArray | None = None
    _texts: dict[str, list[Any]] = field(default_factory=dict)
    _prices: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in (*self.columns, *self.words, *([self.priced] if self.priced else [])):
            if name not in self.opened.columns:
                raise UsageError(
                    f"{self.opened.name!r} has no column {name!r}; it has {shorten(self.opened.columns)}."
                )
        priced = [] if self.priced is None else [self.priced]
        every = list(dict.fromkeys([*self.columns, *self.words, *priced]))
        start = 0
        for batch in self.opened.read(every, self.words):
            if not len(batch):
                continue
            self._put(self._block(batch), start)
            for name in self.words:
                self._texts.setdefault(name, []).append(plain(batch.column(name)))
            if self.priced is not None:
                self._prices.append(_floats(batch.column(self.priced), self.opened.name, self.priced))
            start += len(batch)
        pa.default_memory_pool().release_unused()
        if not start:
            raise UsageError(f"{self.opened.name!r} holds no rows; expected one per example.")

    def _block(self, batch: Any) -> FloatArray:
        """The numbers of a batch, float64 [n, C]."""
        arrays = [batch.column(name) for name in self.columns]
        file = self.opened.name
        if len(arrays) == 1 and pa.types.is_nested(arrays[0].type):
            block, self.listed = _lists(arrays[0], self.width, file, self.columns[0]), True
            self.half |= pa.types.is_float16(arrays[0].type.value_type)
            return block
        self.half |= any(pa.types.is_float16(array.type) for array in arrays)
        block = np.empty((len(batch), len(arrays)))
        for place, (array, name) in enumerate(zip(arrays, self.columns, strict=True)):
            block[:, place] = _floats(array, file, name)
        return block

    def _put(self, block: FloatArray, start: int) -> None:
        self.width = self.width or block.shape[1]
        if self.opened.rows is None:
            self._filled.append(block)
            return
        if self._whole is None:
            self._whole = room_for(self.opened.rows, self.width)
        self._whole[start : start + len(block)] = block
        let_go(self._whole)

    def numbers(self) -> FloatArray:
        """float64 [N, C], NaN where a value is missing."""
        return np.concatenate(self._filled) if self._whole is None else self._whole

    def word(self, name: str) -> Any:
        """A column of words, or of numbers that stand for something."""
        return pa.chunked_array(self._texts[name])

    def price(self) -> FloatArray | None:
        """float64 [N], or None."""
        if self.priced is None:
            return None
        prices = np.concatenate(self._prices)
        wrong = np.flatnonzero(~(np.isnan(prices) | (np.isfinite(prices) & (prices >= 0.0))))
        if len(wrong):
            raise UsageError(
                f"The price in row {wrong[0] + 1} of {self.opened.name!r} is {prices[wrong[0]]:g}; expected "
                f"0 or more in {self.priced!r}."
            )
        return prices


def _floats(array: Any, file: str, name: str) -> FloatArray:
    """One number per row, NaN where it is missing."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _floats(array.cast(kind.value_type), file, name)
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UsageError(f"The column {name!r} of {file!r} holds {kind} values; expected numbers.")
    if kind != pa.float64():
        array = array.cast(pa.float64(), safe=False)
    return filled(array, np.nan)


def _lists(array: Any, width: int, file: str, name: str) -> FloatArray:
    """A row of numbers per row, NaN where the list or one of its numbers is missing."""
    if not hasattr(array, "flatten") or pa.types.is_struct(array.type) or pa.types.is_map(array.type):
        raise UsageError(
            f"The column {name!r} of {file!r} holds {array.type} values; expected lists of numbers."
        )
    there = array_of(array.is_valid())
    lengths = np.unique(array_of(array.drop_null().value_lengths()))
    if len(lengths) > 1 or (width and len(lengths) and lengths[0] != width):
        other = next(int(length) for length in lengths if length != (width or lengths[0]))
        raise UsageError(
            f"The lists in {name!r} of {file!r} have {width or lengths[0]} numbers and {other}; expected one "
            "per class in every row."
        )
    size = int(lengths[0]) if len(lengths) else width
    values = np.full((len(array), max(size, 1)), np.nan)
    if size:
        values[there] = _floats(array.drop_null().flatten(), file, name).reshape(-1, size)
    return values
