"""Metrics of each subgroup, and how it differs from all other examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from calibench.compare.groups import HALF_WIDTH
from calibench.compare.verdicts import UNDECIDED
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import bound, fraction, interval
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build
from calibench.report.writing.words import code, join
from calibench.store.records import Record, dig

_METRICS = {
    "accuracy": "Accuracy ↑",
    "nll": "NLL ↓",
    "brier": "Brier ↓",
    "brier_confidence": "Brier of the confidence ↓",
    "ece_debiased": "Debiased ECE → 0",
    "ece": "ECE ↓",
}
_TONES = {"better": "right", "worse": "wrong"}


def groups_table(section: Section) -> Table | None:
    """One row per method and group; None where nobody asked for groups."""
    rows = group_rows(section)
    return build("By group", rows, group_columns(rows)) if rows else None


def group_rows(section: Section) -> list[Entry]:
    """An entry for each method and group, whose record is about that group."""
    return [
        replace(entry, record=_identity(entry.record) | {"group": group})
        for entry in section.measured
        for group in dig(entry.record, "groups", "groups") or []
    ]


def group_columns(rows: list[Entry]) -> tuple[Column, ...]:
    """The group, its size, and each metric with the verdict against the other examples."""
    there = {name for row in rows for name in row.record["group"]["metrics"]}
    return (
        Column("Group", "Which examples.", lambda r: Cell(str(r["group"]["name"])), text=True),
        Column("n", "How many they are.", lambda r: Cell(f"{r['group']['n']:,}", r["group"]["n"])),
        *(
            Column(title, "Its value in the group, and the verdict against all others.", _read(name))
            for name, title in _METRICS.items()
            if name in there
        ),
    )


def groups_words(section: Section) -> str:
    """What the verdicts are about, and which groups were refused."""
    first = next(entry.record["groups"] for entry in section.measured if entry.record.get("groups"))
    text = (
        f"Groups by {code(first['column'])}, each against all examples that are not in it: better and worse "
        "are verdicts on that difference, adjusted together over the groups and metrics of a method (Holm). "
        "Where no word stands beside a number, no difference is shown. ECE itself gets no verdict."
    )
    refused: dict[str, int] = first["refused"]
    if refused:
        named = join([f"{code(name)} ({n:,})" for name, n in list(refused.items())[:5]])
        more = f" and {len(refused) - 5} others" if len(refused) > 5 else ""
        text += (
            f" Refused, with fewer than {first['fewest']} examples on a side, with which not even the "
            f"accuracy is known to {100 * HALF_WIDTH:.0f} points: {named}{more}."
        )
    return text


def _identity(record: Record) -> Record:
    return {key: record.get(key) for key in ("cell", "status", "method", "passes", "passes_used")}


def _read(name: str) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        found: dict[str, Any] | None = record["group"]["metrics"].get(name)
        if found is None or found["value"] is None:
            return Cell(ABSENT)
        verdict = (record["group"]["against_rest"].get(name) or {}).get("verdict") or UNDECIDED
        word = "" if verdict == UNDECIDED else f" {verdict}"
        ends = None if found["low"] is None or found["high"] is None else (found["low"], found["high"])
        text = interval(found, fraction, bound) + word
        return Cell(text, found["value"], span=ends, tone=_TONES.get(verdict))

    return read
