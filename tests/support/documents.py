"""What documents say that can be checked: their commands, and numbers that stand in results."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from calibench.report.sections import sections
from calibench.report.writing.numbers import bound, fraction, interval, memory, significant
from calibench.store.records import Record, load_records

ROOT = Path(__file__).resolve().parents[2]

#: Numbers of passes at which a table has running means.
_PASSES = (1, 5, 20, 80)


def _running_nll(record: Record, passes: int) -> str:
    curve = record["curve"]
    return fraction(curve["metrics"]["nll"][curve["passes"].index(passes)]["value"])


#: How each column of a table reads a record.
COLUMNS: dict[str, Callable[[Record], str]] = {
    "T": lambda r: f"{r['passes_used']['mean']:.3g}",
    "sites": lambda r: f"{r['coverage']['active']}/{r['coverage']['expected']}",
    "accuracy": lambda r: fraction(r["metrics"]["accuracy"]["value"]),
    "ECE": lambda r: interval(r["metrics"]["ece"], fraction, bound),
    "noise floor": lambda r: interval(r["metrics"]["ece_noise_floor"], fraction, bound),
    "NLL": lambda r: fraction(r["metrics"]["nll"]["value"]),
    "AURC": lambda r: interval(r["metrics"]["aurc"], fraction, bound),
    "cost": lambda r: f"{significant(r['cost_ratio']['value'])}x",
    "p50 ms": lambda r: significant(r["timing"]["latency_ms"]["p50"]["value"]),
    "memory": lambda r: memory(r["memory"]["peak_bytes"]),
    "fit": lambda r: f"{significant(r['fit']['seconds'])} s" if r["fit"] else "-",
    "AUROC out of scope": lambda r: interval(r["metrics"]["oos_auroc"], fraction, bound),
    "FPR95": lambda r: fraction(r["metrics"]["oos_fpr95"]["value"], 3),
    **{f"NLL at T = {passes}": partial(_running_nll, passes=passes) for passes in _PASSES},
}


def commands(document: str) -> list[str]:
    """The lines of a document's shell blocks, with `$ ` taken off and output left out."""
    found: list[str] = []
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", document, re.DOTALL):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += prompted or lines
    return [part.strip() for line in found for part in line.split("&&")]


@dataclass(frozen=True)
class Grid:
    """A table of Markdown.

    Attributes:
        source: the path below the repository's root that its numbers are from; empty where none is named.
        head: titles of the columns, the first of them that of the labels.
        rows: cells, with a label first.
    """

    source: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


#: The line before a table or a quotation that says where it is from, as in `<!-- results/sst2 -->`.
_FROM = r"(?:^<!-- (results/\S+) -->\n)"


def grids(document: str) -> list[Grid]:
    """Every table of a document."""
    found = re.finditer(_FROM + r"?((?:^\|.*\n)+)", document, re.MULTILINE)
    return [_grid(match[1] or "", match[2].splitlines()) for match in found]


def _grid(source: str, lines: list[str]) -> Grid:
    head, _, *rows = [
        tuple(_one_line(html.unescape(cell)).strip("`") for cell in line.split("|")[1:-1]) for line in lines
    ]
    return Grid(source, head, tuple(rows))


def quotations(document: str) -> list[tuple[str, str]]:
    """The quotations that say where they are from: the path, and the words in one line."""
    found = re.findall(_FROM + r"((?:^> .*\n)+)", document, re.MULTILINE)
    return [(source, _one_line(text.replace("\n> ", " ").removeprefix("> "))) for source, text in found]


def faults(document: str) -> list[str]:
    """What tables and quotations have otherwise than the results that they name, a sentence each.

    Of a run folder a row is the record of that label, as `COLUMNS` reads it. Of a page a row has a row of
    that label in one of its tables, with the same under the same titles. A quotation is in the page.
    """
    found: list[str] = []
    for grid in grids(document):
        if grid.source.endswith(".md"):
            found += _not_in_page(grid)
        elif grid.source:
            found += _not_in_records(grid)
    for source, words in quotations(document):
        if words not in _one_line((ROOT / source).read_text(encoding="utf-8")):
            found.append(f"{source} does not say: {words}")
    return found


def _not_in_records(grid: Grid) -> list[str]:
    (section,) = sections(load_records(ROOT / grid.source))
    records = {entry.label: entry.record for entry in section.entries}
    return [
        f"{title} of {label} in {grid.source} is {there}, and not {cell}"
        for label, *cells in grid.rows
        for title, cell in zip(grid.head[1:], cells, strict=True)
        if (there := COLUMNS[title](records[label])) != cell
    ]


def _not_in_page(grid: Grid) -> list[str]:
    there = grids((ROOT / grid.source).read_text(encoding="utf-8"))
    return [
        f"{grid.source} has no row of {row[0]} with {', '.join(row[1:])}"
        for row in grid.rows
        if not any(_holds(page, grid.head, row) for page in there)
    ]


def _holds(page: Grid, head: tuple[str, ...], row: tuple[str, ...]) -> bool:
    """Whether a row of a page has this label and these cells under these titles."""
    if not set(head[1:]) <= set(page.head):
        return False
    places = [0, *(page.head.index(title) for title in head[1:])]
    return any(tuple(line[place] for place in places) == row for line in page.rows)


def _one_line(text: str) -> str:
    """With single spaces, of those that do not break too."""
    return " ".join(text.split())
