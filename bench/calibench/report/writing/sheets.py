"""Tables whose rows are no records: headings, and rows of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibench.report.writing.tables import Cell, with_note


@dataclass(frozen=True)
class Heading:
    """A column: its title, what it means in one sentence, and whether it holds words."""

    title: str
    meaning: str = ""
    text: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table ready to be drawn; the first column says what a row is about.

    Attributes:
        notes: the full reasons that cells point to as (a), (b), ...
        marked: number of the row to set apart, such as the reference.
    """

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    marked: int | None = None


def sheet(
    title: str, headings: Sequence[Heading], rows: Sequence[Sequence[Cell]], marked: int | None = None
) -> Sheet:
    """The table with the reasons that do not fit into their cells as notes."""
    notes: list[str] = []
    made = tuple(tuple(with_note(cell, notes, 24) for cell in row) for row in rows)
    return Sheet(title, tuple(headings), made, tuple(notes), marked)
