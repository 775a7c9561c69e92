"""Comparisons and checks of record files, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from calibench.compare.contrasts import Contrast, contrasts
from calibench.compare.gate import FINE, Finding
from calibench.compare.runs import Match, Matching, grouped
from calibench.compare.speeds import COST_RATIO, RACED, SECONDS, latency, throughput
from calibench.compare.verdicts import UNDECIDED
from calibench.report.writing.numbers import fraction, percent, signed, significant, span
from calibench.types import Interval, Metric

_STYLES = {"better": "green", "worse": "bold red", UNDECIDED: "dim"}
#: What a speed was read from, in words.
_BASES = {SECONDS: "in seconds", COST_RATIO: "in cost ratio", RACED: "raced"}
_HEADS = ("metric", "base", "new", "difference", "adjusted", "p", "verdict")


def comparison(matching: Matching, metrics: Sequence[Metric], *, timing: bool = True) -> RenderableType:
    """One table per matched cell: every metric with its paired difference, then speed.

    Args:
        timing: whether to compare speed.
    """
    base, new = matching.base.name, matching.new.name
    parts: list[RenderableType] = [Text(f"{new} against {base}", style="bold")]
    tables: dict[int, list[Contrast]] = {}
    verdicts = 0
    for positions, held in grouped(matching):
        pairs = [replace(item, method=str(at)) for at, item in zip(positions, held, strict=True)]
        rows = contrasts(pairs, metrics)
        verdicts += sum(row.tested is not None for row in rows)
        for at, group in groupby(rows, key=lambda row: int(row.method)):
            tables[at] = list(group)
    for number, pair in enumerate(matching.pairs):
        parts += [Text(""), Text(pair.label, style="bold"), _table(pair, tables[number], timing=timing)]
    parts += _left_out(matching)
    parts += [Text(f"note: {note}", style="dim") for note in dict.fromkeys(_notes(matching))]
    parts.append(Text(_explained(verdicts, timing=timing), style="dim"))
    return Group(*parts)


def _table(pair: Match, rows: Sequence[Contrast], *, timing: bool) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in _HEADS:
        table.add_column(head, justify="left" if head in ("metric", "verdict") else "right")
    for row in rows:
        table.add_row(row.metric.name, *_quality_cells(row))
    reasons = []
    for name, speed in (("throughput", throughput(pair)), ("latency", latency(pair))) if timing else ():
        table.add_row(name, "", "", _ratio(speed.ratio), "", "", _verdict(speed.verdict))
        reasons += [f"{name}: {reason}" for reason in (speed.ratio.reason, speed.reason) if reason]
    return Group(table, *(Text(reason, style="dim") for reason in reasons))


def _quality_cells(row: Contrast) -> Iterator[RenderableType]:
    yield "-" if row.base is None else fraction(row.base)
    yield "-" if row.value is None else fraction(row.value)
    yield _difference(row.difference)
    tested = row.tested
    yield "" if tested is None else span(tested.adjusted.low, tested.adjusted.high)
    yield "" if tested is None else fraction(tested.adjusted_p, 3)
    yield Text("") if tested is None else _verdict(tested.verdict)


def _difference(difference: Interval) -> str:
    if difference.value is None:
        return difference.reason or "-"
    return f"{signed(difference.value)} {span(difference.low, difference.high)}".strip()


def _ratio(ratio: Interval) -> str:
    if ratio.value is None:
        return "-"
    text = f"x {significant(ratio.value)}"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} [{significant(ratio.low)}, {significant(ratio.high)}]"


def _verdict(verdict: str | None) -> Text:
    return Text(verdict or "", style=_STYLES.get(verdict or "", ""))


def _left_out(matching: Matching) -> list[RenderableType]:
    lines = [
        Text.assemble((label, "bold"), (f" failed in {matching.new.name}: ", "bold red"), message)
        for label, message in matching.failed
    ]
    for labels, where in ((matching.missing, matching.base), (matching.added, matching.new)):
        if labels:
            lines.append(Text(f"Only in {where.name}: {', '.join(labels)}.", style="dim"))
    return [Text(""), *lines]


def _notes(matching: Matching) -> Iterator[str]:
    for pair in matching.pairs:
        yield from pair.notes


def _explained(verdicts: int, *, timing: bool) -> str:
    text = "Differences are new less base, with 95% intervals over the examples that both saw."
    if timing:
        text += (
            " Throughput and latency are new over base: of the reference in seconds, of the others relative "
            "to it; the intervals hold what two runs of the same thing differ by."
        )
    if not verdicts:
        return text
    return (
        f"{text} p and the adjusted intervals allow for all {verdicts} verdicts on quality (Holm): with 95% "
        "probability none of them is a false alarm. Metrics without a verdict only describe."
    )


def checked(matching: Matching, findings: Sequence[Finding]) -> RenderableType:
    """One line per cell and limit: what was seen, and what would be needed where that decides nothing."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("cell", "limit", "worse by", "outcome"):
        table.add_column(head, overflow="fold")
    for finding in findings:
        outcome = Text(finding.outcome, style="green" if finding.outcome == FINE else "bold red")
        table.add_row(finding.label, str(finding.limit), _seen(finding), outcome + Text(_needed(finding)))
    parts: list[RenderableType] = [table] if findings else []
    raced = {finding.label for finding in findings if finding.basis == RACED}
    unraced = [pair.label for pair in matching.pairs if raced and pair.label not in raced]
    if unraced:
        parts.append(Text(f"Not raced, for the time of a step alone: {', '.join(unraced)}.", style="dim"))
    return Group(*parts, *_left_out(matching))


def _seen(finding: Finding) -> str:
    worse = finding.worse
    if worse.value is None or worse.low is None or worse.high is None:
        return worse.reason or "-"
    if finding.unit != "examples":
        read = "" if finding.basis is None else f" {_BASES[finding.basis]}"
        return f"{percent(worse.value)} [{percent(worse.low)}, {percent(worse.high)}]{read}"
    return _difference(worse)


def _needed(finding: Finding) -> str:
    if finding.outcome != "too noisy to tell":
        return ""
    if finding.basis in (SECONDS, COST_RATIO):
        return ": two runs cannot tell; --rerun-base would"
    if finding.needed is None:
        return f": {finding.n} {finding.unit} cannot tell"
    return f": {finding.n} {finding.unit}; about {finding.needed:,} more would tell"
