"""Tables as HTML: sortable, with a strip that shows each interval in place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from calibench.report.drawing.style import series
from calibench.report.writing.sheets import Heading
from calibench.report.writing.tables import Cell, Column, Row, Table, note_letter, passes

_INTERVAL = re.compile(r" (\[.*\])$")

#: A heading may break over lines, but not before its arrow.
_ARROW, _KEPT = re.compile(r" (?=[↑↓→])|(?<=→) "), "\u00a0"

_SORTING = (
    "Press a heading to sort by it, again to turn the order round, and once more to restore it. The strip "
    "under a number shows its interval, on a scale that the column shares."
)


@dataclass(frozen=True)
class Box:
    """One table cell: its HTML, what sorting compares, and whether it heads its row."""

    html: str
    sort: float | str | None = None
    heads: bool = False
    wide: int = 1


@dataclass(frozen=True)
class Head:
    """One column's heading, what it means, and whether it holds text rather than numbers."""

    title: str
    meaning: str = ""
    text: bool = False


def grid(
    label: str, heads: Sequence[Head], rows: Iterable[Sequence[Box]], *, marked: int | None = None
) -> str:
    """A sortable table inside a region that scrolls by itself, also by keyboard.

    Args:
        label: what the table is, for those who hear it.
        heads: the columns.
        rows: boxes; one that is `wide` ends its row, and the row stays at the end whatever is sorted.
        marked: number of the row to set apart, such as the reference.
    """
    head = "".join(
        f'<th scope="col"{"" if item.text else " class=number"} title="{escape(item.meaning)}">'
        f'<button type="button">{escape(_ARROW.sub(_KEPT, item.title))}</button></th>'
        for item in heads
    )
    body = "".join(_row(row, heads, number == marked) for number, row in enumerate(rows))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _row(row: Sequence[Box], heads: Sequence[Head], marked: bool) -> str:
    last = any(box.wide > 1 for box in row)
    cells = "".join(_box(box, head) for box, head in zip(row, heads, strict=False))
    names = [name for name, there in (("marked", marked), ("last", last)) if there]
    classes = f' class="{" ".join(names)}"' if names else ""
    return f"<tr{classes}>{cells}</tr>\n"


def _box(box: Box, head: Head) -> str:
    tag, scope = ("th", ' scope="row"') if box.heads else ("td", "")
    number = "" if head.text or box.heads or box.wide > 1 else " class=number"
    wide = f' colspan="{box.wide}"' if box.wide > 1 else ""
    sort = "" if box.sort is None else f' data-sort="{escape(str(box.sort))}"'
    return f"<{tag}{scope}{number}{wide}{sort}>{box.html}</{tag}>"


def records_table(table: Table) -> str:
    """A table of methods with its notes, and what its columns mean."""
    heads = [Head("Method", "The method; press a heading to sort.", text=True)]
    heads += [Head("T", "Forward passes per example.")]
    heads += [Head(column.title, column.meaning, column.text) for column in table.columns]
    spans = [extent(row.cells[i] for row in table.rows if row.cells) for i in range(len(table.columns))]
    reference = next((i for i, row in enumerate(table.rows) if row.entry.record.get("reference")), None)
    parts = [grid(table.title, heads, (_boxes(row, table, spans) for row in table.rows), marked=reference)]
    if table.notes:
        notes = "".join(f"<li>({note_letter(i)}) {escape(note)}</li>" for i, note in enumerate(table.notes))
        parts.append(f'<ul class="notes">{notes}</ul>')
    parts.append(meanings(table.columns))
    return "\n".join(parts)


def _boxes(row: Row, table: Table, spans: Sequence[tuple[float, float] | None]) -> list[Box]:
    hollow = " hollow" if row.entry.variant else ""
    swatch = f'<span class="swatch{hollow}" style="--own:var(--series-{series(row.entry.family)})"></span>'
    asked = passes(row.entry.record)
    boxes = [
        Box(swatch + escape(row.entry.label), row.entry.label, heads=True),
        Box(escape(asked.text), asked.sort),
    ]
    if row.failure is not None:
        failure = f'<strong class="failed">failed</strong> {escape(row.failure)}'
        return [*boxes, Box(failure, wide=len(table.columns))]
    return [
        *boxes,
        *(Box(cell_html(cell, span), cell.sort) for cell, span in zip(row.cells, spans, strict=True)),
    ]


def cell_html(cell: Cell, column: tuple[float, float] | None) -> str:
    text = _INTERVAL.sub(r' <span class="interval">\1</span>', escape(cell.text))
    text = f'<span class="{cell.tone}">{text}</span>' if cell.tone else text
    if cell.span is None or cell.sort is None or column is None or column[0] == column[1]:
        return text
    low, value, high = (_share(at, column) for at in (cell.span[0], cell.sort, cell.span[1]))
    style = f"--low:{low:.1f}%;--width:{high - low:.1f}%;--at:{value:.1f}%"
    return f'{text}<span class="strip" aria-hidden="true" style="{style}"></span>'


def extent(cells: Iterable[Cell]) -> tuple[float, float] | None:
    """The ends of all intervals of a column: the scale of its strips."""
    ends = [end for cell in cells if cell.span is not None for end in cell.span]
    return (min(ends), max(ends)) if ends else None


def _share(value: float, scale: tuple[float, float]) -> float:
    return 100 * min(1.0, max(0.0, (value - scale[0]) / (scale[1] - scale[0])))


def meanings(columns: Sequence[Column | Heading]) -> str:
    known = [column for column in columns if column.meaning]
    terms = "".join(f"<dt>{escape(c.title)}</dt><dd>{escape(c.meaning)}</dd>" for c in known)
    return (
        f"<details><summary>What the columns mean</summary><p>{_SORTING}</p><dl>{terms}</dl></details>"
        if known
        else ""
    )
