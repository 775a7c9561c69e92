"""Tables as pages draw them: sortable, with a strip that shows each interval in place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibench.report.drawing.style import series
from calibench.report.writing.sheets import Heading, Sheet
from calibench.report.writing.tables import Cell, Row, Table, passes

_INTERVAL = re.compile(r" (\[.*\])$")


@dataclass(frozen=True)
class Box:
    """One table cell.

    Attributes:
        text: what it says.
        sort: what sorting compares, or None to stay at the end.
        heads: whether it heads its row.
        wide: how many columns it fills; more than one ends its row.
        interval: what follows the text in brackets.
        tone: "right", "wrong" or "sentence": the class of its text.
        strip: start, width and place of the value of its interval, in per cent of the column's scale.
        series: which of the colours stands before it.
        hollow: whether that is drawn so, for a post-hoc step.
        failed: whether the text is a failure's message.
    """

    text: str
    sort: float | str | None = None
    heads: bool = False
    wide: int = 1
    interval: str = ""
    tone: str | None = None
    strip: tuple[str, str, str] | None = None
    series: int | None = None
    hollow: bool = False
    failed: bool = False


@dataclass(frozen=True)
class GridRow:
    """Boxes, and the classes of their row: "marked" is set apart, "last" stays at the end when sorted."""

    boxes: Sequence[Box]
    classes: str = ""


@dataclass(frozen=True)
class Grid:
    """A table ready to be put into a page.

    Attributes:
        label: what it is, for those who hear it; unique on its page.
        notes: the full reasons that cells point to as (a), (b), ...
        explained: the columns whose meanings are listed below.
    """

    label: str
    heads: Sequence[Heading]
    rows: Sequence[GridRow]
    notes: Sequence[str] = ()
    explained: Sequence[Heading] = ()


def of_records(table: Table, label: str) -> Grid:
    """A table of methods with its notes, and what its columns mean."""
    columns = [Heading(column.title, column.meaning, column.text) for column in table.columns]
    heads = [
        Heading("Method", "The method; press a heading to sort.", text=True),
        Heading("T", "Forward passes per example."),
        *columns,
    ]
    spans = [_extent(row.cells[i] for row in table.rows if row.cells) for i in range(len(table.columns))]
    rows = [_of_record(row, table, spans) for row in table.rows]
    return Grid(label, heads, rows, table.notes, [head for head in columns if head.meaning])


def _of_record(row: Row, table: Table, spans: Sequence[tuple[float, float] | None]) -> GridRow:
    entry, asked = row.entry, passes(row.entry.record)
    name = Box(entry.label, entry.label, True, series=series(entry.family), hollow=bool(entry.variant))
    boxes = [name, Box(asked.text, asked.sort)]
    classes = ["marked"] if entry.record.get("reference") else []
    if row.failure is not None:
        boxes.append(Box(row.failure, wide=len(table.columns), failed=True))
        return GridRow(boxes, " ".join([*classes, "last"]))
    boxes += [
        _of_cell(cell, span, cell.text if column.text and cell.sort is None else cell.sort)
        for cell, span, column in zip(row.cells, spans, table.columns, strict=True)
    ]
    return GridRow(boxes, " ".join(classes))


def of_sheet(sheet: Sheet) -> Grid:
    """A table whose rows are no records."""
    spans = [_extent(row[at] for row in sheet.rows) for at in range(len(sheet.headings))]
    rows = []
    for number, row in enumerate(sheet.rows):
        boxes = [
            _of_cell(cell, span, cell.text if head.text else cell.sort, heads=at == 0)
            for at, (cell, span, head) in enumerate(zip(row, spans, sheet.headings, strict=True))
        ]
        rows.append(GridRow(boxes, "marked" if number == sheet.marked else ""))
    explained = [head for head in sheet.headings if head.meaning]
    return Grid(sheet.title, sheet.headings, rows, sheet.notes, explained)


def _of_cell(
    cell: Cell, scale: tuple[float, float] | None, sort: float | str | None, *, heads: bool = False
) -> Box:
    found = _INTERVAL.search(cell.text)
    text, interval = (cell.text[: found.start()], found[1]) if found else (cell.text, "")
    return Box(text, sort, heads, interval=interval, tone=cell.tone, strip=_strip(cell, scale))


def _strip(cell: Cell, scale: tuple[float, float] | None) -> tuple[str, str, str] | None:
    if cell.span is None or cell.sort is None or scale is None or scale[0] == scale[1]:
        return None
    low, value, high = (_share(at, scale) for at in (cell.span[0], cell.sort, cell.span[1]))
    return f"{low:.1f}", f"{high - low:.1f}", f"{value:.1f}"


def _extent(cells: Iterable[Cell]) -> tuple[float, float] | None:
    """The ends of all intervals of a column: the scale of its strips."""
    ends = [end for cell in cells if cell.span is not None for end in cell.span]
    return (min(ends), max(ends)) if ends else None


def _share(value: float, scale: tuple[float, float]) -> float:
    return 100 * min(1.0, max(0.0, (value - scale[0]) / (scale[1] - scale[0])))
