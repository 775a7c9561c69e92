"""A report -> report.md and the figures it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from calibench.report.content import Content, Part, Report
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.sections import Section
from calibench.report.writing import reproduce, words
from calibench.report.writing.tables import Cell, Table, note_letter, passes
from calibench.store.files import write_whole
from calibench.store.records import Record

REPORT = "report.md"
FIGURES = "figures"
_SPECIAL = re.compile(r"([\\|`*~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_]))")
#: In a narrow column a line may break before an interval, not inside it.
_INTERVAL, _UNBROKEN = re.compile(r"\[(\S+), (\S+)\]"), "[\\1,\u00a0\\2]"


def write_markdown(report: Report) -> Path:
    """Write `report.md` and `figures/*.png|svg` beside the records; returns the report's path.

    The same folder gives the same bytes.
    """
    found = report.contents
    lines = [f"# {escape(report.title)}"]
    with style.styled():
        for content in found:
            lines += _content(content, report.folder, several=len(found) > 1)
    lines += ["## How to read this"]
    lines += ["\n".join(f"- **{head}** {text}" for head, text in words.how_to_read(report.sections))]
    lines += ["## Environment", _environment(report.records)]
    lines += ["## How to reproduce", *_reproduce(report.sections, report.records)]
    path = report.folder / REPORT
    write_whole(path, ("\n\n".join(lines) + "\n").encode())
    return path


def escape(text: str) -> str:
    """Text that GitHub shows as it is, also inside a table cell."""
    line = " ".join(text.split())
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def render(table: Table) -> str:
    """The table in GitHub's form, and below it what its notes (a), (b), ... say."""
    rows = []
    for row in table.rows:
        cells = [cell_text(cell) for cell in row.cells]
        if row.failure is not None:
            cells = [f"**failed**: {escape(row.failure)}", *[""] * (len(table.columns) - 1)]
        rows.append([escape(row.entry.label), escape(passes(row.entry.record).text), *cells])
    text = tabulate(
        rows,
        headers=["Method", "T", *(escape(column.title) for column in table.columns)],
        tablefmt="pipe",
        colalign=("left", "right", *["left" if column.text else "right" for column in table.columns]),
        disable_numparse=True,
    )
    notes = [f"({note_letter(index)}) {escape(note)}" for index, note in enumerate(table.notes)]
    return "\n\n".join([text, *notes])


def cell_text(cell: Cell) -> str:
    """What a cell says, for a table in GitHub's form."""
    return _INTERVAL.sub(_UNBROKEN, escape(cell.text))


def _content(content: Content, target: Path, *, several: bool) -> list[str]:
    section = content.section
    level = "###" if several else "##"
    lines = [f"## {words.title(section)}"] if several else []
    lines.append("\n".join(f"- **{head}:** {text}" for head, text in content.lines))
    lines.append(words.heading(section))
    for part in content.parts:
        lines += [f"{level} {part.title}", *_part(part, target)]
    remarks = words.remarks(section)
    if remarks:
        lines += [f"{level} Notes and failures"]
        lines += [
            "\n".join(
                f"- {f'**{escape(label)}**: ' if label else ''}{escape(text)}" for label, text in remarks
            )
        ]
    return lines


def _part(part: Part, target: Path) -> list[str]:
    lines = [render(part.table)] if part.table else []
    lines += [part.text] if part.text else []
    if part.details is not None:
        head = f"<details>\n<summary>{escape(part.details.title)}</summary>"
        lines += [head, render(part.details), "</details>"]
    for drawing in part.drawings:
        lines += [image(drawing, target), f"*{drawing.caption}*"]
    return lines


def image(drawing: Drawing, target: Path) -> str:
    """Save the drawing both ways; the report shows the PNG, because GitHub scales it everywhere."""
    path = f"{FIGURES}/{drawing.name}"
    write_whole(target / f"{path}.png", style.png(drawing.figure))
    write_whole(target / f"{path}.svg", drawing.svg.encode())
    return f"![{escape(drawing.alt)}]({path}.png)"


def _environment(records: Sequence[Record]) -> str:
    rows = [[escape(name), escape(value)] for name, value in words.environment(records)]
    return tabulate(rows, headers=["What", "Value"], tablefmt="pipe", disable_numparse=True)


def fenced(commands: str) -> str:
    """Commands as a block of code, which no name in them can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", commands)), default=0))
    return f"{fence}sh\n{commands}\n{fence}"


def _reproduce(found: Sequence[Section], records: Sequence[Record]) -> list[str]:
    commands = [reproduce.install(records), *(reproduce.command(section) for section in found)]
    lines = [fenced("\n".join(dict.fromkeys(commands)))]
    facts = dict.fromkeys(fact for section in found for fact in reproduce.provenance(section))
    return [*lines, "\n".join(f"- {fact}" for fact in facts)]
