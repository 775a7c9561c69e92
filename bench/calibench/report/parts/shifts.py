"""Data that drifted: what remains of accuracy and calibration, in a table and over the strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import fraction, percent, tick
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build, estimate
from calibench.report.writing.words import code
from calibench.store.records import Record, dig

#: What is drawn over the strength, best to read from left to right.
_PANELS = {"accuracy": "accuracy", "ece": "ECE", "nll": "NLL"}


def shift_table(section: Section) -> Table | None:
    """One row per method and shifted evaluation; None where there was none."""
    if not any(entry.record.get("shifts") for entry in section.measured):
        return None
    rows = [
        replace(entry, record=entry.record | {"shift": shift})
        for entry in section.entries
        for shift in (entry.record.get("shifts") or []) or [{}]
        if shift or entry.failure is not None
    ]
    return build("Every metric under every shift", rows, _COLUMNS)


def shift_matrix(section: Section) -> Table | None:
    """One row per method: its NLL under each shift; None where there was none."""
    shown: dict[tuple[str, str], str] = {}
    for shift in _shifts(section):
        strength = shift["strength"]
        title = shift["name"] if strength is None else f"{shift['kind']} {tick(strength)}"
        shown.setdefault(_shift_key(shift), title)
    if not shown:
        return None
    columns = [
        Column("As scored", "NLL on the scored data.", estimate("metrics", "nll")),
        *(Column(title, f"NLL under {title}.", _read_nll(key)) for key, title in shown.items()),
    ]
    return build("NLL under shift", section.entries, columns)


def _shift_key(shift: dict[str, Any]) -> tuple[str, str]:
    return str(shift["kind"]), f"{shift['name']} {shift['split']} {shift['strength']}"


def _read_nll(key: tuple[str, str]) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        found = next((s for s in record.get("shifts") or [] if _shift_key(s) == key), None)
        return Cell(ABSENT) if found is None else _metric("nll", "", "").read({"shift": found})

    return read


def shift_words(section: Section) -> str:
    """How the table is to be read."""
    shifts = _shifts(section)
    sentences = [
        "The table holds NLL, lower being better. Every method predicted these once, untimed. Brackets are "
        "95% intervals over examples."
    ]
    if any(shift["strength"] is not None for shift in shifts):
        sentences.append(
            "Corruptions are of the scored texts in scope, at each strength the same for all methods: it "
            "is the share of words that are hit, and what is hit at one strength is hit at all higher ones."
        )
    others = dict.fromkeys(
        f"{code(shift['name'])} (split {code(shift['split'])}, {shift['n']:,} examples)"
        for shift in shifts
        if shift["strength"] is None
    )
    if others:
        sentences.append(f"Other data: {'; '.join(others)}.")
    return " ".join(sentences)


def _shifts(section: Section) -> list[dict[str, Any]]:
    return [shift for entry in section.measured for shift in entry.record.get("shifts") or []]


def _kind(record: Record) -> Cell:
    shift = record["shift"]
    return Cell(str(shift["name"] if shift.get("strength") is None else shift["kind"]) if shift else ABSENT)


def _strength(record: Record) -> Cell:
    value = record["shift"].get("strength")
    return Cell(ABSENT) if value is None else Cell(tick(value), value)


def _changed(record: Record) -> Cell:
    value = record["shift"].get("changed")
    return Cell(ABSENT) if value is None else Cell(percent(value), value)


def _metric(name: str, title: str, meaning: str) -> Column:
    def read(record: Record) -> Cell:
        reason = record["shift"].get("reason")
        if reason is not None:
            return Cell(str(reason), reason=str(reason))
        return estimate("shift", "metrics", name)(record)

    return Column(title, meaning, read)


_COLUMNS = (
    Column("Shift", "The corruption, or the other data set.", _kind, text=True),
    Column("Strength", "Share of the words that are hit.", _strength),
    Column("Texts changed", "Share of the texts that are not what they were.", _changed),
    _metric("accuracy", "Accuracy ↑", "Share of examples whose most probable class is the label."),
    _metric("ece", "ECE ↓", "Expected calibration error, 10 equal-width bins."),
    _metric("ece_noise_floor", "ECE noise floor", "What ECE would read had the probabilities been right."),
    _metric("nll", "NLL ↓", "Mean negative log-probability of the label, in nats."),
    _metric("brier", "Brier ↓", "Mean squared distance from the one-hot label, summed over classes."),
)


def shift_drawings(section: Section) -> list[Drawing]:
    """One drawing per corruption: accuracy and calibration of every method over its strength."""
    kinds = dict.fromkeys(shift["kind"] for shift in _shifts(section) if shift["strength"] is not None)
    return [_over_strength(section, kind) for kind in kinds]


def _over_strength(section: Section, kind: str) -> Drawing:
    entries = [entry for entry in section.measured if len(_points(entry, kind, "accuracy")) > 1]
    named = style.picked(entries, lambda entry: _worth(entry, kind))
    figure, grid = style.with_legend(len(_PANELS), named, height=3.3)
    for axes, (name, title) in zip(grid, _PANELS.items(), strict=True):
        for entry in entries:
            if entry not in named:
                _background(axes, _points(entry, kind, name))
        for position, entry in enumerate(named):
            _line(axes, entry, _points(entry, kind, name), position - (len(named) - 1) / 2, named)
        axes.set_title(title)
        axes.set_xlabel(f"strength of {kind}")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    others = len(entries) - len(named)
    return Drawing(
        f"{section.slug}-shift-{kind}",
        figure,
        f"Accuracy, ECE and NLL over the strength of {kind}. "
        + " ".join(_words(entry, kind) for entry in entries),
        "Strength 0 is the data as scored. Bars are 95% intervals over examples; methods are set side by "
        "side a little, to tell their bars apart."
        + (
            f" In grey the {others} methods with a higher NLL where the shift is strongest." if others else ""
        ),
    )


Point = tuple[float, dict[str, Any]]


def _points(entry: Entry, kind: str, name: str) -> list[Point]:
    """(strength, estimate), strength rising from the scored data's 0."""
    found: list[tuple[float, Any]] = [(0.0, dig(entry.record, "metrics", name))]
    found += [
        (shift["strength"], dig(shift, "metrics", name))
        for shift in entry.record.get("shifts") or []
        if shift["kind"] == kind
    ]
    return [(strength, block) for strength, block in found if block and block.get("value") is not None]


def _worth(entry: Entry, kind: str) -> float | None:
    """What the NLL is at the highest strength, the lower the better."""
    points = _points(entry, kind, "nll")
    return -float(points[-1][1]["value"]) if points else None


def _background(axes: Axes, points: Sequence[Point]) -> None:
    axes.plot([at for at, _ in points], [block["value"] for _, block in points], **style.BACKGROUND)


def _line(axes: Axes, entry: Entry, points: Sequence[Point], steps: float, among: Sequence[Entry]) -> None:
    if not points:
        return
    tint, step = style.colour(entry.family), 0.006 * max(strength for strength, _ in points)
    places = [strength + steps * step for strength, _ in points]
    axes.plot(
        places,
        [block["value"] for _, block in points],
        **style.marked(entry, 4.5),
        linestyle=style.dashes(entry, among),
    )
    for place, (_, block) in zip(places, points, strict=True):
        if block.get("low") is not None and block.get("high") is not None:
            axes.vlines(place, block["low"], block["high"], color=tint, linewidth=0.9, alpha=0.7)


def _words(entry: Entry, kind: str) -> str:
    parts = []
    for name, title in _PANELS.items():
        points = _points(entry, kind, name)
        if points:
            start, (strength, end) = points[0][1]["value"], points[-1]
            parts.append(f"{title} {fraction(start)} to {fraction(end['value'])} at {tick(strength)}")
    return f"{entry.label}: {', '.join(parts)}."
