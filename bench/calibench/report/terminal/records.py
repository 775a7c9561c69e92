"""Records on a terminal: a compact table after a run, and whole records for `calibench show`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from calibench.metrics.selective import MAX_PROBABILITY
from calibench.report.parts.groups import group_columns, group_rows, groups_words
from calibench.report.parts.headline import HEADS, headline, judge
from calibench.report.parts.sets import has_sets, sets_caption, sets_columns
from calibench.report.sections import Section, is_copy, sections
from calibench.report.terminal.folding import Folded, Heading
from calibench.report.writing.numbers import significant
from calibench.report.writing.tables import (
    ABSENT,
    Cell,
    Column,
    Row,
    build,
    estimate,
    has_scope,
    has_threshold,
    note_letter,
    passes,
    peak_memory,
    sites,
)
from calibench.report.writing.words import title
from calibench.store.records import Record, dig


def _own(read: Callable[[Record], Cell]) -> Callable[[Record], Cell]:
    """A dash for methods whose probabilities are the plain softmax's."""
    return lambda record: Cell(ABSENT) if is_copy(record) else read(record)


_COLUMNS = (
    Column("sites", "Live of expected dropout sites.", sites),
    Column("accuracy", "", _own(estimate("metrics", "accuracy", end=None))),
    Column("ECE", "", _own(estimate("metrics", "ece"))),
    Column("floor", "", _own(estimate("metrics", "ece_noise_floor", end=None))),
    Column("NLL", "", _own(estimate("metrics", "nll", end=None))),
    Column("cost", "", estimate("cost_ratio", value=lambda value: f"{significant(value)}x", end=None)),
    Column("p50 ms", "", estimate("timing", "latency_ms", "p50", value=significant, end=None)),
    Column("memory", "", peak_memory),
)
#: Of predictions from files: nothing was timed.
_SCORED = (_COLUMNS[1:5], _COLUMNS[1:6])
_DETECTION = (
    Column("by", "", lambda record: Cell(_score(record)), text=True),
    Column("AUROC", "", estimate("metrics", "oos_auroc")),
    Column("AUPR", "", estimate("metrics", "oos_aupr", end=None)),
    Column("FPR95", "", estimate("metrics", "oos_fpr95", end=None)),
)
_JOINT = (
    Column("joint accuracy", "", estimate("joint", "accuracy", end=None)),
    Column("recall", "", estimate("joint", "oos_recall", end=None)),
)
_LONG, _NAME, _ROOM = 12, 17, 8
#: With fewer columns of numbers there is more room for names.
_WIDE_NAME = 26


def _score(record: Record) -> str:
    name = str(dig(record, "metrics", "oos_auroc", "definition", "score") or MAX_PROBABILITY)
    return "probability" if name == MAX_PROBABILITY else name.replace("_", " ")


def terminal_table(records: Iterable[Record], folder: Path) -> RenderableType:
    """A summary of at most 100 columns, one table per suite, data, model and seed; failures below each.

    Args:
        folder: where the predictions are; what they decide comes first.
    """
    found = [section.once() for section in sections(records)]
    parts: list[RenderableType] = []
    for section in found:
        if len(found) > 1:
            parts.append(Text(title(section).replace("`", ""), style="bold"))
        parts += [*_headline(section, folder), Text("")]
        parts += _section(section)
    return Group(*parts)


def _headline(section: Section, folder: Path) -> Iterator[Text]:
    for head, text in zip(HEADS, headline(section, judge(section, folder)), strict=True):
        yield Text.assemble((f"{head}: ", "bold"), text.replace("`", ""))


def _section(section: Section) -> Iterator[RenderableType]:
    yield from _table(section, _columns(section), failures=True)
    for label, warning in _warnings(section):
        yield Text.assemble(("Warning: ", "bold yellow"), (label, "bold"), ": ", warning)
    if section.measured:
        yield Text(
            "ECE with its 95% interval; floor: what a perfectly calibrated model would read on this sample.",
            style="dim",
        )
        scores = [entry.label for entry in section.by_score_alone]
        if scores:
            yield Text(
                f"Probabilities of the plain softmax, with a score beside: {', '.join(scores)}.", style="dim"
            )
    if has_scope(section):
        yield Text("")
        columns = (*_DETECTION, *_JOINT) if has_threshold(section) else _DETECTION
        yield from _table(section, columns, failures=False, name=_WIDE_NAME)
        beyond = section.common("data")["out_of_scope"]
        yield Text(
            f"{beyond:,} examples out of scope, told by each method's score: its own, or the largest "
            "probability. The table above is about the others.",
            style="dim",
        )

    if has_sets(section):
        yield Text("")
        yield from _table(section, sets_columns(section), failures=False)
        yield Text(sets_caption(section), style="dim")
    yield from _groups(section)


def _groups(section: Section) -> Iterator[RenderableType]:
    rows = group_rows(section)
    if rows:
        yield Text("")
        about = replace(section, entries=tuple(rows))
        columns = [column for column in group_columns(rows) if column.title not in ("ECE ↓", "Brier ↓")]
        yield from _table(about, columns, failures=False)
        yield Text(groups_words(section).replace("`", ""), style="dim")


def _columns(section: Section) -> tuple[Column, ...]:
    """All of them where something was timed; without a price, quality alone."""
    if section.timed or not section.measured:
        return _COLUMNS
    return _SCORED[section.priced]


def _warnings(section: Section) -> list[tuple[str, str]]:
    """(labels, sentence) of every warning, those of several rows once."""
    found: dict[str, list[str]] = {}
    for entry in section.measured:
        for warning in entry.record.get("warnings") or []:
            found.setdefault(str(warning), []).append(entry.label)
    return [(", ".join(labels), warning) for warning, labels in found.items()]


def _table(
    section: Section, columns: Sequence[Column], *, failures: bool, name: int = _NAME
) -> Iterator[RenderableType]:
    content = build("", section.entries, columns, room=_ROOM)
    headings = [Heading(column.title, column.text) for column in content.columns]
    names, rows = [row.entry.label for row in content.rows], [_cells(row) for row in content.rows]
    yield Folded("method", names, name, [Heading("T"), *headings], rows)
    for row in content.rows:
        if failures and row.failure is not None:
            yield Text.assemble((row.entry.label, "bold"), (" failed: ", "bold red"), row.failure)
    for index, note in enumerate(content.notes):
        yield Text(f"({note_letter(index)}) {note}", style="dim")


def _cells(row: Row) -> list[Text]:
    # 160 (mean 8.39) is the widest of its column by far.
    most, _, mean = passes(row.entry.record).text.rstrip(")").partition(" (mean ")
    spent = Text(f"{mean}\nof {most}" if mean else most)
    if row.failure is not None:
        return [spent, Text("failed", style="bold red")]
    return [spent, *(Text(cell.text) for cell in row.cells)]


def show_record(record: Record) -> RenderableType:
    """The whole record, one field a line; long lists of numbers are shown by their ends."""
    name = f"{record['method']['name']} ({record['suite']}, cell {record['cell']})"
    return Group(Text(name, style="bold"), *_fields(record, 1), Text(""))


def _fields(block: dict[str, Any], depth: int) -> Iterator[Text]:
    for key, value in block.items():
        yield from _field(str(key), value, depth)


def _field(key: str, value: Any, depth: int) -> Iterator[Text]:
    lead = "  " * depth
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        yield Text.assemble(f"{lead}{key}: ", _estimate(value))
        rest = {
            k: v
            for k, v in value.items()
            if k not in ("value", "low", "high", "reason") and v not in (None, {})
        }
        yield from _fields(rest, depth + 1)
    elif isinstance(value, dict) and value:
        yield Text(f"{lead}{key}:", style="bold" if depth == 1 else "")
        yield from _fields(value, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield Text(f"{lead}{key}:")
        for item in value:
            yield Text(f"{lead}  - {_inline(item)}")
    else:
        yield Text(f"{lead}{key}: {_scalar(value)}")


def _estimate(value: dict[str, Any]) -> str:
    if value["value"] is None:
        return f"none ({value.get('reason') or 'no reason recorded'})"
    text = f"{value['value']:.6g}"
    if value["low"] is not None and value["high"] is not None:
        text += f" [{value['low']:.6g}, {value['high']:.6g}]"
    return text


def _inline(block: dict[str, Any]) -> str:
    if {"value", "low", "high"} <= block.keys():
        rest = {k: v for k, v in block.items() if k not in ("value", "low", "high", "reason")}
        return ", ".join([_estimate(block), *(f"{key} {_scalar(item)}" for key, item in rest.items())])
    return ", ".join(f"{key} {_scalar(item)}" for key, item in block.items())


def _scalar(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        if len(value) > _LONG and all(isinstance(item, int | float) for item in value):
            return f"{len(value)} numbers from {min(value):.6g} to {max(value):.6g}"
        return ", ".join(_scalar(item) for item in value) or "none"
    return str(value) if value != {} else "none"
