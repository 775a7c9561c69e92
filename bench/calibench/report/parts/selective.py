"""Selective prediction: how well each method's score tells its errors from its right answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from calibench.metrics.selective import KINDS, MAX_PROBABILITY
from calibench.report.sections import Entry, Section, is_copy
from calibench.report.writing.tables import Cell, Column, Table, build, estimate
from calibench.store.records import Record, dig

_MEANINGS = {
    "aurc": "Mean error rate among the k most certain examples, over all k.",
    "augrc": "Area under errors among the kept, over all examples, against coverage.",
    "accuracy_at_80": "Accuracy on the most certain four fifths.",
    "coverage_at_5_risk": "Largest share that a threshold keeps with 5% errors at most.",
    "error_auroc": "P(an error scores less certain than a right answer).",
}


def selective_table(section: Section) -> Table | None:
    """One row per method, by the score by which it ranks; None where no record holds any of this.

    A method that adds a score to probabilities of its own has a second row, by the largest of them.
    """
    shown = [k for k in KINDS if any(dig(e.record, "metrics", k.name) for e in section.measured)]
    if not shown:
        return None
    rows = [
        replace(entry, record=entry.record | {"by": name})
        for entry in section.entries
        for name in _scores(entry)
    ]
    columns = [
        Column(
            f"{kind.title[:1].upper()}{kind.title[1:]} {'↓' if kind.better == 'lower' else '↑'}",
            _MEANINGS[kind.name],
            _read(kind.name),
        )
        for kind in shown
    ]
    return build("Selective prediction", rows, (BY, *columns))


def _scores(entry: Entry) -> list[str | None]:
    if entry.score is None or entry.failure is not None or is_copy(entry.record):
        return [None]
    return [None, MAX_PROBABILITY]


def _read(name: str) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        by = record["by"]
        return estimate("metrics", name if by is None else f"{name}.{by}")(record)

    return read


def score_name(record: Record) -> Cell:
    """The score of a row, which is the method's own where `by` names none."""
    return Cell(str(record["by"] or record["method"].get("score") or MAX_PROBABILITY).replace("_", " "))


BY = Column(
    "By",
    "The score: the method's own, or the largest probability where it has none.",
    score_name,
    text=True,
)


def selective_words() -> str:
    """What the table is about."""
    return (
        "What is gained by leaving the least certain examples to someone else. Each method ranks by its own "
        "score, or by its largest probability where it has none. Brackets are 95% intervals over examples."
    )
