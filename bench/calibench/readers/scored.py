"""Predictions with their labels, as they came from one file: what every reader returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from calibench.readers.classes import MISSING, Names
from calibench.stats.columns import array_of
from calibench.stats.mapped import PART, parts_of, rows_at
from calibench.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Scored:
    """The predictions of one method.

    N is the number of rows and C of classes. With C = 1 there are no classes: the one column is the
    confidence of the answer that was given, and the label is 0 where that is right and 1 where it is not.

    Attributes:
        name: what the method is called.
        file: base name of the file.
        probs: float64 [N, C].
        labels: int64 [N], indices of classes; `MISSING` where there is none.
        classes: what they are called; of C = 1 the answer.
        ids: pyarrow array of N words by which rows of several files are matched, or None.
        group: pyarrow array of N words, or None.
        price: float64 [N], what each answer cost, or None.
        notes: what was assumed, in sentences.
        said: what was read how, as a record holds it; see `calibench.readers.asked.Asked.as_options`.
        rows: int64 [N], each row's place in the file, or among the ids in their order.
        held_out: bool [N], the rows on which steps and sets are fitted and that are not scored, or None.
        calibration: these rows, once they are apart; see `set_apart`.
        left_out: rows that lack a value, and were left out as asked for.
    """

    name: str
    file: str
    probs: FloatArray
    labels: IntArray
    classes: Names
    ids: Any = None
    group: Any = None
    price: FloatArray | None = None
    notes: tuple[str, ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)
    rows: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    held_out: BoolArray | None = None
    calibration: Scored | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def by_confidence(self) -> bool:
        """Whether there are no classes."""
        return len(self.classes.names) == 1

    @property
    def lacking(self) -> BoolArray:
        """The rows that lack a label, a probability, a group or a price, bool [N]."""
        found: BoolArray = self.labels == MISSING
        for some in parts_of(self.probs):
            found[some] |= np.isnan(self.probs[some]).any(axis=1)
        if self.group is not None:
            found |= array_of(self.group.is_null())
        if self.price is not None:
            found |= np.isnan(self.price)
        return found

    def take(self, index: IntArray) -> Scored:
        """The rows at `index`, with the places they had."""
        return replace(
            self,
            probs=rows_at(self.probs, index),
            labels=self.labels[index],
            ids=None if self.ids is None else self.ids.take(index),
            group=None if self.group is None else self.group.take(index),
            price=None if self.price is None else self.price[index],
            rows=self.rows[index],
            held_out=None if self.held_out is None else self.held_out[index],
        )

    def set_apart(self) -> Scored:
        """The rows that are scored, with those that are held out as its `calibration`."""
        if self.held_out is None:
            return self
        calibration = replace(self.take(np.flatnonzero(self.held_out)), held_out=None)
        scored = replace(self.take(np.flatnonzero(~self.held_out)), held_out=None)
        note = (
            f"{len(calibration):,} rows with {self.said['calibration_split']} are not scored: steps and sets "
            "are fitted on them."
        )
        return replace(scored, calibration=calibration, notes=(*self.notes, note))

    def groups(self) -> tuple[IntArray, tuple[str, ...]]:
        """The group of each row, int64 [N], and what the groups are called, in the order of their names.

        There has to be a group.
        """
        encoded = self.group.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=lambda i: str(names[i]))
        places = np.argsort(np.array(order))
        codes: IntArray = places[array_of(encoded.indices)].astype(np.int64)
        return codes, tuple(names[i] for i in order)

    def data_sha256(self) -> str:
        """SHA-256 of what was predicted: classes, labels, ids, and which rows were left out.

        Where there are no classes the labels say which answers were right, and are no part of it.
        """
        return self._data_sha256

    @cached_property
    def _data_sha256(self) -> str:
        digest = hashlib.sha256(repr(self.classes.names).encode())
        if not self.by_confidence:
            digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(np.ascontiguousarray(self.rows).data)
        for start in range(0, 0 if self.ids is None else len(self), PART):
            digest.update(_lines(self.ids.slice(start, PART)))
        return digest.hexdigest()

    def sha256(self) -> str:
        """SHA-256 of the predictions, of what they are held to, and of the groups."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for some in parts_of(self.probs):
            digest.update(np.ascontiguousarray(self.probs[some]).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        if self.group is not None:
            codes, names = self.groups()
            digest.update(repr(names).encode())
            digest.update(codes.data)
        return digest.hexdigest()


def _lines(words: Any) -> memoryview:
    """Words with an end of line behind each, as they lie in the memory of an array that was made so."""
    import pyarrow.compute as pc

    joined = pc.binary_join_element_wise(words, "\n", "")
    ends = np.frombuffer(joined.buffers()[1], dtype=np.int32)[joined.offset : joined.offset + len(joined) + 1]
    return memoryview(joined.buffers()[2])[ends[0] : ends[-1]]
