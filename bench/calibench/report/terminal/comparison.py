"""Comparisons and checks of record files, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from calibench.compare import gate
from calibench.compare.contrasts import Contrast
from calibench.compare.gate import FAILED, PASSED, Checked, Outcome
from calibench.compare.matched_rows import MatchedRow
from calibench.compare.runs import Matching
from calibench.compare.verdicts import UNDECIDED
from calibench.report.writing.check_words import SIGNS, counted, judged, limited, seen
from calibench.report.writing.numbers import fraction, signed, significant, span
from calibench.types import Interval

_STYLES = {"better": "green", "worse": "bold red", UNDECIDED: "dim"}
#: What is undecided is not wrong, and does not look so.
_OUTCOMES: Mapping[Outcome, str] = {PASSED: "green", FAILED: "bold red", gate.UNDECIDED: "yellow"}
_HEADS = ("metric", "base", "new", "difference", "adjusted", "p", "verdict")


def comparison(matching: Matching, rows: Sequence[MatchedRow]) -> RenderableType:
    """One table per matched cell: every metric with its paired difference, then speed."""
    base, new = matching.base.name, matching.new.name
    parts: list[RenderableType] = [Text(f"{new} against {base}", style="bold")]
    for row in rows:
        parts += [Text(""), Text(row.match.label, style="bold"), _table(row)]
    parts += _left_out(matching)
    parts += [Text(f"note: {note}", style="dim") for note in dict.fromkeys(_notes(matching))]
    parts.append(Text(_explained(rows), style="dim"))
    return Group(*parts)


def _table(found: MatchedRow) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in _HEADS:
        table.add_column(head, justify="left" if head in ("metric", "verdict") else "right")
    for row in found.contrasts:
        table.add_row(row.metric.name, *_quality_cells(row))
    reasons = []
    for name, speed in found.speeds.items():
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


def _left_out(found: Matching | Checked) -> list[RenderableType]:
    lines = [
        Text.assemble((label, "bold"), (f" failed in {found.new.name}: ", "bold red"), message)
        for label, message in found.failed
    ]
    for labels, where in ((found.missing, found.base), (found.added, found.new)):
        if labels and where is not None:
            lines.append(Text(f"Only in {where.name}: {', '.join(labels)}.", style="dim"))
    return [Text(""), *lines]


def _notes(matching: Matching) -> Iterator[str]:
    for pair in matching.pairs:
        yield from pair.notes


def _explained(rows: Sequence[MatchedRow]) -> str:
    verdicts = sum(one.tested is not None for row in rows for one in row.contrasts)
    text = "Differences are new less base, with 95% intervals over the examples that both saw."
    if any(row.speeds for row in rows):
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


def checked(found: Checked) -> RenderableType:
    """One line per row and limit: what was seen, and what would be needed where that decides nothing."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    # No column has a least width: rich would crop what then does not fit beside it.
    for head in ("row", "limit", "seen", "outcome"):
        table.add_column(head, overflow="fold")
    for finding in found.findings:
        outcome = Text(f"{SIGNS[finding.outcome]} {judged(finding)}", style=_OUTCOMES[finding.outcome])
        table.add_row(finding.label, limited(finding.limit), seen(finding), outcome)
    parts: list[RenderableType] = [table] if found.findings else []
    if found.unraced:
        labels = ", ".join(found.unraced)
        parts.append(Text(f"Not raced, for the time of a step alone: {labels}.", style="dim"))
    return Group(*parts, *_left_out(found), Text(f"{counted(found)}.", style=_OUTCOMES[found.outcome]))
