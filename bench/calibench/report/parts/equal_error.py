"""Time against error, of suites with a yardstick."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from calibench.compare.equal_error import measured, speedup
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import bound, fraction, interval, significant
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build
from calibench.report.writing.words import code
from calibench.stats.ratios import median_ratio_interval
from calibench.store.records import Record, dig
from calibench.types import Interval

Family = tuple[str, str]


def yardstick_of(section: Section) -> dict[str, Any] | None:
    """The yardstick of a section whose suite has one."""
    found = (e.record["yardstick"]["against"] for e in section.measured if e.record.get("yardstick"))
    return next(found, None)


def _entries(section: Section) -> list[Entry]:
    return [entry for entry in section.measured if entry.record.get("yardstick")]


def _dtype(record: Record) -> str:
    own = str(dig(record, "method", "params", "dtype") or "same")
    return str(dig(record, "model", "dtype")) if own == "same" else own


def _family(entry: Entry) -> Family:
    return str(entry.record["method"]["name"]), _dtype(entry.record)


def families(section: Section) -> dict[Family, list[Entry]]:
    """Settings of one method in one dtype."""
    found: dict[Family, list[Entry]] = {}
    for entry in _entries(section):
        found.setdefault(_family(entry), []).append(entry)
    return found


def target_of(section: Section) -> Entry | None:
    """The entry whose error is to be matched, where the suite runs it."""
    spec = yardstick_of(section)
    if spec is None:
        return None
    for entry in _entries(section):
        own = entry.record["method"]
        same = _dtype(entry.record) == dig(entry.record, "model", "dtype")
        if own["name"] == spec["method"] and entry.record["passes"] == spec["passes"] and same:
            return entry
    return None


def _deterministic(section: Section, record: Record) -> Record | None:
    """The reference in the same dtype."""
    reference = section.reference
    if reference is None:
        return None
    name, dtype = reference.record["method"]["name"], _dtype(record)
    rows = [e.record for e in _entries(section) if e.record["method"]["name"] == name]
    return next((row for row in rows if _dtype(row) == dtype), None)


def speed_words(section: Section) -> str:
    """What error means here."""
    spec = yardstick_of(section)
    if spec is None:
        return ""
    return (
        "Error is the root mean square distance, over examples and replicates, from the limit of many passes "
        f"of {code(spec['method'])}, for which two references of {spec['reference_passes']} passes of "
        f"{code(spec['reference'] or spec['method'])} stand; their own noise cancels. Bias is the part of it "
        "that further replicates would not average out. Equivalent passes are how many independent passes "
        "have that error. Ratios are to one deterministic pass in the same dtype, timed side by side; "
        "they are medians over replicates. Brackets are 95% intervals over replicates, for these examples."
    )


def speed_table(section: Section) -> Table | None:
    """Error and time of every setting."""
    target = target_of(section)
    if yardstick_of(section) is None:
        return None
    columns = (
        Column("Error ↓", "Root mean square distance from the limit.", _error),
        Column("Bias ↓", "The part of the error that replicates share.", _bias),
        Column(
            "Equivalent passes ↑",
            "Independent passes with the same error.",
            lambda record: _equivalent(record, target),
        ),
        Column(
            "Time ↓",
            "In deterministic passes of the same dtype, in full batches.",
            lambda record: _ratio_cell(_time_ratio(record, _deterministic(section, record))),
        ),
        Column(
            "One sentence ↓",
            "The same for one sentence at a time: ratio of medians.",
            lambda record: _ratio_cell(_latency_ratio(record, _deterministic(section, record))),
        ),
    )
    return build("Time against error", section.entries, columns)


def _error(record: Record) -> Cell:
    mse = dig(record, "yardstick", "mse")
    return Cell(ABSENT) if mse is None else _root(mse)


def _root(square: Mapping[str, Any]) -> Cell:
    roots = {
        key: None if square.get(key) is None else math.sqrt(max(0.0, square[key]))
        for key in ("value", "low", "high")
    }
    value = roots["value"]
    return Cell(ABSENT) if value is None else Cell(interval(roots, fraction, bound), value)


def _bias(record: Record) -> Cell:
    bias = dig(record, "yardstick", "bias_squared")
    if bias is None:
        return Cell(ABSENT)
    if bias["value"] is None:
        return Cell(ABSENT, reason=bias["reason"])
    return _root(bias)


def _equivalent(record: Record, target: Entry | None) -> Cell:
    mse = dig(record, "yardstick", "mse", "value")
    if target is None or mse is None or mse <= 0:
        return Cell(ABSENT)
    own = target.record["yardstick"]
    value = own["passes"][0] * own["mse"]["value"] / mse
    return Cell(significant(value), value)


def _time_ratio(record: Record, deterministic: Record | None) -> Mapping[str, Any] | None:
    if deterministic is None or not record.get("yardstick"):
        return None
    own, other = measured(record).seconds, measured(deterministic).seconds
    both = min(len(own), len(other))
    value = float(np.median(own[:both] / other[:both]))
    ratio = median_ratio_interval(own[:both], other[:both])
    # Too few replicates bound no median, but a ratio of one pair is still what was measured.
    return Interval(value, ratio.low, ratio.high).as_dict()


def _latency_ratio(record: Record, deterministic: Record | None) -> Mapping[str, Any] | None:
    own = dig(record, "timing", "latency_ms", "samples")
    other = dig(deterministic or {}, "timing", "latency_ms", "samples")
    if not own or not other or len(own) != len(other):
        return None
    return median_ratio_interval(own, other).as_dict()


def _ratio_cell(ratio: Mapping[str, Any] | None) -> Cell:
    if ratio is None or ratio.get("value") is None:
        return Cell(ABSENT, reason=None if ratio is None else ratio.get("reason"))
    return Cell(interval(dict(ratio), significant, significant), ratio["value"])


def matched_error_table(section: Section) -> Table | None:
    """How many times longer each other setting takes than each method at the matched error."""
    target = target_of(section)
    if target is None:
        return None
    spec, found = yardstick_of(section), families(section)
    assert spec is not None
    goal = measured(target.record)
    near = {
        key: [measured(entry.record) for entry in settings]
        for key, settings in found.items()
        if len(settings) > 1 and key != _family(target)
    }
    near = {key: family for key, family in near.items() if speedup(family, goal, goal) is not None}
    rows = [entry for entry in _entries(section) if entry is target or _family(entry) not in near]
    columns = [
        Column(
            f"{name}, {dtype}",
            "Times its time at the matched error.",
            _reader({e.record["cell"]: speedup(family, goal, measured(e.record)) for e in rows}),
        )
        for (name, dtype), family in near.items()
    ]
    if not columns:
        return None
    # Beside the time, as a row that keeps a bias does not come to the matched error.
    return build("Time at the matched error", rows, [Column("Own bias ↓", "As above.", _bias), *columns])


def _reader(ratios: Mapping[str, Interval | None]) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        ratio = ratios.get(record["cell"])
        return Cell(ABSENT) if ratio is None else _ratio_cell(ratio.as_dict())

    return read


def matched_error_words(section: Section) -> str:
    """What the second table holds."""
    spec = yardstick_of(section)
    assert spec is not None
    return (
        "Each number says how many times longer the row took than the column's method takes for the error of "
        f"{spec['passes']} independent passes; between settings its time is interpolated in logarithms. Rows "
        "that keep a bias never come to that error: they stand with the time of the passes they made, and "
        "with that bias beside."
    )


def stopping_words(section: Section) -> str:
    """Bias by tenths of the examples, for methods that decide how many passes an example gets; in words."""
    lines = []
    for entry in _entries(section):
        groups = entry.record["yardstick"].get("groups")
        if not groups:
            continue
        worst = max(groups, key=lambda group: abs(group["bias"]) / max(group["bias_standard_error"], 1e-12))
        first, last = significant(groups[0]["passes"]), significant(groups[-1]["passes"])
        bias = f"{worst['bias']:+.4f} (standard error {worst['bias_standard_error']:.4f})"
        lines.append(
            f"{code(entry.label)}: over tenths of the examples by passes spent ({first} to {last}), the "
            f"signed bias that stands out most is {bias} at {significant(worst['passes'])} passes."
        )
    return "\n\n".join(lines)


def speed_drawing(section: Section) -> Drawing | None:
    """Error over time, both in logarithms."""
    if yardstick_of(section) is None:
        return None
    figure = style.NotebookFigure(figsize=(style.WIDTH, 5.2))
    axes = figure.add_axes((0.085, 0.11, 0.56, 0.84))
    axes.set_xscale("log")
    axes.set_yscale("log")
    words = []
    reference = section.reference
    base = None if reference is None else float(np.median(measured(reference.record).seconds))
    for order, (key, settings) in enumerate(families(section).items()):
        points = [(measured(e.record), e) for e in settings]
        placed = sorted(
            (float(np.median(one.seconds)) / (base or 1.0), math.sqrt(one.squares.mean()), entry.label)
            for one, entry in points
            if one.squares.mean() > 0
        )
        if not placed:
            continue
        label = placed[0][2] if len(placed) == 1 else ", ".join(key)
        axes.plot(
            [x for x, _, _ in placed],
            [y for _, y, _ in placed],
            color=style.colour(order),
            marker=style.marker(order),
            markersize=6,
            label=style.title_of(label, 2.9),
        )
        words += [f"{text}: {significant(x)} times, error {fraction(y)}." for x, y, text in placed]
    target = target_of(section)
    if target is not None:
        level = math.sqrt(measured(target.record).squares.mean())
        axes.axhline(
            level, color=style.INK, linestyle=(0, (1, 2)), linewidth=1.2, label="error to be matched"
        )
    for axis, form in ((axes.xaxis, "{:g}x"), (axes.yaxis, "{:g}")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, form=form: form.format(value)))
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_yticks([v for v in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if low <= v <= high])
    left, right = axes.get_xlim()
    axes.set_xticks([v for v in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if left <= v <= right])
    axes.set_xlabel("time, in deterministic passes of the reference")
    axes.set_ylabel("error: root mean square distance from the limit")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0, labelspacing=0.7)
    return Drawing(
        f"{section.slug}-time-against-error",
        figure,
        "Time against error. " + " ".join(words),
        "Lower left is better; both axes are logarithmic. Lines join settings of one method. A method on a "
        "level line buys nothing with more time: it tends to another limit.",
    )
