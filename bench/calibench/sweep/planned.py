"""A plan, of a sweep or of one run, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from calibench.report.writing.numbers import duration
from calibench.sweep.dry_run import DryCell, DryRun
from calibench.sweep.plan import Plan


def table(found: Plan) -> RenderableType:
    """A row per pair, and a sentence on the whole."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("pair", overflow="fold")
    for name in ("cells", "there", "missing", "changed", "examples", "time"):
        drawn.add_column(name, justify="right")
    for pair in found.pairs:
        if pair.failure is not None:
            drawn.add_row(Text(pair.folder), "", "", "", "", "", "cannot run")
            continue
        seconds = "unknown" if pair.seconds is None else duration(pair.seconds)
        counts = (pair.cells, pair.there, pair.missing, pair.changed, pair.examples)
        drawn.add_row(Text(pair.folder), *map(str, counts), seconds)
    failures = [Text(f"{pair.folder}: {pair.failure}") for pair in found.pairs if pair.failure is not None]
    return Group(drawn, Text(""), *failures, Text(_sentence(found)))


def _sentence(found: Plan) -> str:
    missing = sum(pair.missing for pair in found.pairs)
    kind = "cells of quality work" if found.quality_only else "timing cells"
    if not missing:
        return "Nothing is missing."
    time = "nobody knows how long" if found.seconds is None else f"about {duration(found.seconds)}"
    how = f"{found.workers} processes" if found.quality_only else "one pair at a time"
    return f"{missing} {kind} would run, {time}, {how}; loading and scoring come on top."


def dry_table(found: DryRun) -> RenderableType:
    """A row per cell, and a sentence on the whole."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("method", overflow="fold")
    drawn.add_column("time", justify="right")
    for cell in found.cells:
        drawn.add_row(Text(cell.label), _takes(cell))
    missing = sum(not cell.there for cell in found.cells)
    besides = f", and predict {found.besides} besides" if found.besides else ""
    sentence = (
        f"{missing} of {len(found.cells)} cells would be measured, on {found.examples} examples{besides}: "
        f"about {duration(found.seconds)}, with loading ({duration(found.load_s)}), peak memory and scoring "
        f"on top. Model and data take {found.resident_bytes / 2**20:.0f} MiB here; methods need more."
    )
    return Group(drawn, Text(""), *(Text(said) for said in found.said), Text(sentence))


def _takes(cell: DryCell) -> str:
    if cell.there:
        return "there"
    if cell.shares:
        return "with its method"
    return "unknown" if cell.seconds is None else duration(cell.seconds)
