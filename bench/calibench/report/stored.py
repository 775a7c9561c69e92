"""The examples worth looking at: wrong with confidence, and those on which methods disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibench.errors import CalibenchError
from calibench.report.sections import Entry, Section
from calibench.store.predictions import Predictions, checked_file, load_predictions, predictions_file
from calibench.store.records import Record, load_records, records_file
from calibench.types import FloatArray, IntArray

SHOWN = 10


@dataclass(frozen=True, eq=False)
class Opinions:
    """What every method of a section said about the same examples.

    Attributes:
        entries: the M methods, the reference first where it is among them.
        row: int64 [N], each example's row in its split.
        text_sha256: N hashes of the texts.
        label: int64 [N].
        probs: float64 [M, N, C].
    """

    entries: tuple[Entry, ...]
    row: IntArray
    text_sha256: tuple[str, ...]
    label: IntArray
    probs: FloatArray

    @property
    def said(self) -> IntArray:
        """The predicted class of every method for every example, int64 [M, N]."""
        classes: IntArray = np.argmax(self.probs, axis=2)
        return classes

    @property
    def of_label(self) -> FloatArray:
        """The probability every method gave to the label, float64 [M, N]."""
        given: FloatArray = self.probs[:, np.arange(len(self.label)), self.label]
        return given


#: Predictions by their file, while a report is made; None outside of that.
_LOADED: ContextVar[dict[str, Predictions] | None] = ContextVar("loaded", default=None)


@contextmanager
def loaded_once() -> Iterator[None]:
    """Inside this, each file of predictions is read and checked once."""
    token = _LOADED.set({})
    try:
        yield
    finally:
        _LOADED.reset(token)


def predictions_of(entry: Entry, folder: Path) -> Predictions:
    """The predictions of an entry that has some.

    Raises:
        UsageError: the file is missing, another than the record was made from, or not what a run writes.
    """
    known = _LOADED.get()
    if known is None:
        return load_predictions(folder, entry.record)
    name = str(predictions_file(folder, entry.record))
    if name not in known:
        known[name] = load_predictions(folder, entry.record)
    return known[name]


def opinions(section: Section, folder: Path) -> Opinions | None:
    """Stored predictions side by side; None where there are none, or no classes to differ in.

    Raises:
        CalibenchError: two cells of the section hold predictions about different examples.
    """
    found = [] if section.by_confidence else stored_predictions(section, folder)
    return _scored(tuple(entry for entry, _ in found), [stored for _, stored in found]) if found else None


def stored_predictions(section: Section, folder: Path) -> list[tuple[Entry, Predictions]]:
    """The predictions of every entry that has some, all about the same examples.

    Raises:
        CalibenchError: two cells of the section hold predictions about different examples.
    """
    found = [
        (entry, predictions_of(entry, folder)) for entry in section.measured if has_predictions(entry, folder)
    ]
    for entry, other in found:
        first, stored = found[0]
        if other.text_sha256 != stored.text_sha256 or not np.array_equal(other.index, stored.index):
            raise CalibenchError(
                f"The predictions of {entry.label} and {first.label} are about different examples, "
                "though their records name the same data; run again with --overwrite-strategy always."
            )
    return found


def _scored(entries: tuple[Entry, ...], stored: Sequence[Predictions]) -> Opinions:
    # A label of -1 is one the model cannot output: no method can be right or wrong about it.
    scored = np.flatnonzero(stored[0].label >= 0)
    return Opinions(
        entries=entries,
        row=stored[0].index[scored],
        text_sha256=tuple(stored[0].text_sha256[i] for i in scored.tolist()),
        label=stored[0].label[scored],
        probs=np.stack([item.probs[scored] for item in stored]),
    )


def confidently_wrong(found: Opinions) -> IntArray:
    """Positions of the examples whose label got the least probability, averaged over methods, worst first.

    Only examples that at least one method got wrong are among them.
    """
    wrong = (found.said != found.label).any(axis=0)
    order = np.argsort(found.of_label.mean(axis=0), kind="stable")
    worst: IntArray = order[wrong[order]][:SHOWN]
    return worst


def disagreed(found: Opinions) -> IntArray:
    """Positions of the examples on which a method's class is not the first one's, furthest apart first.

    Distance is the largest total variation between a method that changed its mind and the first method.
    """
    changed = found.said != found.said[0]
    distance = 0.5 * np.abs(found.probs - found.probs[0]).sum(axis=2)
    most = np.where(changed, distance, 0.0).max(axis=0)
    order = np.argsort(-most, kind="stable")
    furthest: IntArray = order[most[order] > 0][:SHOWN]
    return furthest


def changes(found: Opinions) -> list[tuple[Entry, int, int, int]]:
    """(method, to the label, away from it, between wrong classes): where its class is not the first one's."""
    first, rows = found.said[0], []
    for entry, said in zip(found.entries[1:], found.said[1:], strict=True):
        changed = said != first
        right, lost = changed & (said == found.label), changed & (first == found.label)
        rows.append((entry, int(right.sum()), int(lost.sum()), int((changed & ~right & ~lost).sum())))
    return rows


def has_predictions(entry: Entry, folder: Path) -> bool:
    """Whether predictions of the record are stored under `folder`, or have to be.

    Raises:
        UsageError: the record names a file outside it.
    """
    record = entry.record
    if not record.get("predictions"):
        return False
    return bool(record.get("predictions_sha256")) or predictions_file(folder, record).is_file()


def records_of(folder: Path) -> list[Record]:
    """The records of a run folder or records file, whose predictions are those that they were made from.

    Raises:
        UsageError: no records, or predictions that are missing or others. Records older than such hashes have
            theirs looked at where they are used.
    """
    records = load_records(folder)
    for record in records:
        if record.get("predictions_sha256"):
            checked_file(records_file(folder).parent, record)
    return records
