"""What each method costs once it is as good as 20 passes of MC-Dropout: a statement of non-inferiority."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from calibench.compare.noninferiority import MARGIN, Bounds, nll_difference, sufficient
from calibench.report.points import Estimate, Point
from calibench.report.sections import Section
from calibench.report.writing.numbers import bound, fraction, interval, significant
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build
from calibench.report.writing.words import code
from calibench.store.records import Record, dig

PASSES = 20
_FAMILY = "mc-dropout"
_VERDICTS = {"no worse": "no worse", "worse": "not reached", "not shown": "not shown"}


@dataclass(frozen=True, eq=False)
class EqualQuality:
    """What one method needs to be no worse than the baseline.

    Attributes:
        point: with the fewest passes that suffice, or with all of them where none do.
        difference: its NLL less the baseline's.
        verdict: "no worse", "not reached" (shown worse by more than the margin) or "not shown".
    """

    point: Point
    difference: Bounds
    verdict: str


def baseline(found: Sequence[Point]) -> Point | None:
    """20 passes of MC-Dropout, from the row with the largest share of live sites; None without such a row.

    They may be the first 20 passes of a longer run.
    """
    chosen = [
        point
        for point in found
        if point.evaluation is not None
        and point.passes == PASSES
        and str(point.entry.record["method"]["name"]).startswith(_FAMILY)
        and not point.entry.record["method"].get("posthoc")
    ]
    return max(chosen, key=lambda point: (_share(point.entry.record), -point.entry.order), default=None)


def _share(record: Record) -> float:
    active, expected = dig(record, "coverage", "active"), dig(record, "coverage", "expected")
    return active / expected if active and expected else 0.0


def matches(found: Sequence[Point], base: Point, margin: float = MARGIN) -> dict[str, EqualQuality]:
    """By cell, the fewest passes with which each method is no worse than `base` in NLL by `margin`."""
    assert base.evaluation is not None
    by_cell: dict[str, list[tuple[Point, Bounds]]] = {}
    for point in sorted(found, key=lambda point: -point.passes):
        if point.evaluation is not None:
            difference = nll_difference(point.evaluation, base.evaluation)
            by_cell.setdefault(point.entry.record["cell"], []).append((point, difference))
    result = {}
    for cell, tried in by_cell.items():
        at = sufficient([difference for _, difference in tried], margin)
        point, difference = tried[at or 0]
        result[cell] = EqualQuality(point, difference, _VERDICTS[difference.verdict(margin)])
    return result


def matched_table(section: Section, found: Mapping[str, EqualQuality]) -> Table:
    """The cost of each method at the quality of the baseline."""
    columns = (
        Column(
            "NLL difference",
            "NLL less that of the baseline, with its two one-sided 95% bounds.",
            _read(found, lambda match: _difference(match.difference)),
        ),
        Column(
            "No worse?",
            "Whether the upper bound is below the margin; not reached: the lower bound is above it.",
            _read(found, lambda match: Cell(match.verdict, sort=float(match.verdict != "no worse"))),
            text=True,
        ),
        Column(
            "Passes",
            "The fewest passes that are no worse, or all of them where none are.",
            _read(found, lambda match: Cell(f"{match.point.passes:.3g}", match.point.passes)),
        ),
        Column(
            "ms per sentence ↓",
            "Wall time per sentence in full batches, with that many passes.",
            _read(found, lambda match: _reached(match, match.point.seconds, scale=1000.0)),
        ),
        Column(
            "Cost ratio ↓",
            "The same over the reference's time.",
            _read(found, lambda match: _reached(match, match.point.ratio)),
        ),
    )
    return build("Cost at matched quality", section.entries, columns)


def matched_words(base: Point, margin: float = MARGIN) -> str:
    """What is matched, and how the columns are to be read."""
    return (
        f"What it takes to be no worse than {code(base.entry.label)} with {base.passes:g} passes: the upper "
        f"95% bound of the paired difference in NLL must lie below {fraction(margin, 2)} nats per example. "
        "Numbers of passes are tested from the largest down to the first that fails, so each row is wrong at "
        "most 5% of the time. A method that is not shown to be no worse has no cost here."
    )


def _read(
    found: Mapping[str, EqualQuality], cell: Callable[[EqualQuality], Cell]
) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        match = found.get(record["cell"])
        return Cell(ABSENT) if match is None else cell(match)

    return read


def _difference(difference: Bounds) -> Cell:
    return Cell(
        interval(asdict(difference), fraction, bound),
        difference.value,
        span=(difference.low, difference.high),
    )


def _reached(match: EqualQuality, estimate: Estimate, scale: float = 1.0) -> Cell:
    if match.verdict != "no worse":
        return Cell(ABSENT)
    known = {key: value * scale for key in ("value", "low", "high") if (value := estimate.get(key))}
    if "value" not in known:
        return Cell(ABSENT)
    span = (known["low"], known["high"]) if {"low", "high"} <= known.keys() else None
    return Cell(interval(known, significant, significant), known["value"], span=span)
