"""Metrics and time over the number of passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.parts.published import Published, published
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import fraction, significant
from calibench.store.records import dig

_PER_ROW = 3
_WIDE, _NARROW = 0.16, 0.45
_REFERENCE: dict[str, Any] = {"color": style.COLOURS[0], "linestyle": (0, (5, 3)), "linewidth": 1.3}
_SOFTMAX: dict[str, Any] = {"color": style.INK, "linestyle": (0, (1, 2)), "linewidth": 1.5}
_DROPOUT: dict[str, Any] = {"color": style.INK, "linestyle": "", "marker": "x", "markersize": 7}
_TITLES = {"ece": "ECE", "accuracy": "accuracy", "nll": "NLL", "brier": "Brier score"}


def curve_drawings(section: Section) -> list[Drawing]:
    """One drawing per metric that any record has over passes, then time over passes."""
    curved = [entry for entry in section.measured if entry.record.get("curve")]
    names: dict[str, None] = {}
    for entry in curved:
        names |= dict.fromkeys(entry.record["curve"]["metrics"])
    drawings = [_metric_over_passes(section, curved, name) for name in names]
    timed = [entry for entry in curved if entry.record["curve"].get("seconds")]
    return [*drawings, _time_over_passes(section, timed)] if timed else drawings


def _metric_over_passes(section: Section, curved: Sequence[Entry], name: str) -> Drawing:
    shown = [entry for entry in curved if name in entry.record["curve"]["metrics"]]
    title = _TITLES.get(name, name)
    study = published(section, name)
    rows, columns = style.shape(len(shown), _PER_ROW)
    titles = [style.title_of(entry.label, 0.9 * style.WIDTH / columns) for entry in shown]
    above = style.TITLE_LINE * max(line.count("\n") for line in titles)
    height = (3.0 + above) * rows + 0.9 if columns > 1 else 4.0 + above
    figure = style.NotebookFigure(figsize=(style.WIDTH, height))
    figure.subplots_adjust(
        left=0.085,
        right=0.985,
        top=1 - (0.32 + above) / height,
        bottom=1.05 / height,
        hspace=0.3 + above / 2.3,
        wspace=0.08,
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for spare in grid.flat[len(shown) :]:
        spare.remove()
    for position, (axes, entry) in enumerate(zip(grid.flat, shown, strict=False)):
        _metric_panel(axes, entry, section.reference, name, study)
        axes.set_title(titles[position])
        _passes_axis(axes, entry.record["curve"]["passes"], crowded=columns > 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: fraction(value, 3)))
        if position % columns == 0:
            axes.set_ylabel(title)
        if position + columns >= len(shown):
            axes.set_xlabel("passes (log scale)")
            axes.tick_params(labelbottom=True)
    _legend(figure, section.reference, study)
    return Drawing(
        f"{section.slug}-curve-{name}",
        figure,
        f"{title} over the number of passes. " + " ".join(_words(entry, name) for entry in shown),
        "From one run: each point is the running mean of its first passes. The wide band says how far other "
        "examples could move the curve, the narrow one how far another order of the same passes could; it "
        "ends where too few passes were left over to tell.",
    )


def _metric_panel(
    axes: Axes, entry: Entry, reference: Entry | None, name: str, study: Published | None
) -> None:
    passes = np.array(entry.record["curve"]["passes"], dtype=float)
    points = entry.record["curve"]["metrics"][name]
    series = {
        key: np.array([np.nan if point.get(key) is None else point[key] for point in points], dtype=float)
        for key in ("value", "low", "high", "order_low", "order_high")
    }
    tint = style.colour(entry.family)
    axes.fill_between(passes, series["low"], series["high"], color=tint, alpha=_WIDE, linewidth=0)
    axes.fill_between(
        passes, series["order_low"], series["order_high"], color=tint, alpha=_NARROW, linewidth=0
    )
    axes.plot(passes, series["value"], **style.marked(entry, 4.5), linestyle=style.dashes(entry))
    level = dig(reference.record, "metrics", name, "value") if reference else None
    if level is not None:
        axes.axhline(level, **_REFERENCE)
    if study is not None:
        axes.axhline(study.softmax, **_SOFTMAX)
        axes.plot(*zip(*study.dropout, strict=True), **_DROPOUT)


def _legend(figure: Figure, reference: Entry | None, study: Published | None) -> None:
    """In grey, as the panels have colours of their own."""
    handles: list[Artist] = [
        Line2D([], [], color=style.MUTED, marker="o", markersize=4.5, label="running mean"),
        Patch(color=style.MUTED, alpha=_NARROW, linewidth=0, label="95% over the order of passes"),
        Patch(color=style.MUTED, alpha=_WIDE, linewidth=0, label="95% over examples"),
    ]
    if reference is not None:
        handles.append(Line2D([], [], **_REFERENCE, label=f"{reference.label} (reference)"))
    if study is not None:
        handles.append(Line2D([], [], **_SOFTMAX, label="published, softmax"))
        handles.append(Line2D([], [], **_DROPOUT, label="published, MC-Dropout"))
    figure.legend(handles=handles, loc="lower center", ncols=3, columnspacing=1.6)


def _passes_axis(axes: Axes, passes: Sequence[int], *, crowded: bool) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_spread(passes, 1.9 if crowded else 1.2)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _spread(passes: Sequence[int], factor: float) -> list[int]:
    """The last number of passes, and those before it that leave room for their labels on a log axis."""
    kept = [passes[-1]]
    for count in reversed(passes[:-1]):
        if kept[-1] >= factor * count:
            kept.append(count)
    return kept


def _words(entry: Entry, name: str) -> str:
    passes, points = entry.record["curve"]["passes"], entry.record["curve"]["metrics"][name]
    known = [
        (k, point["value"]) for k, point in zip(passes, points, strict=True) if point.get("value") is not None
    ]
    if not known:
        return f"{entry.label}: no values."
    (first, start), (last, end) = known[0], known[-1]
    return f"{entry.label}: {fraction(start)} at {first}, {fraction(end)} at {last}."


def _time_over_passes(section: Section, timed: Sequence[Entry]) -> Drawing:
    height = max(3.6, 0.7 + 0.26 * len(timed))
    figure = style.NotebookFigure(figsize=(style.WIDTH, height))
    axes = figure.add_axes((0.085, 0.54 / height, 0.62, 1 - 0.72 / height))
    words = []
    for entry in timed:
        passes, seconds = entry.record["curve"]["passes"], entry.record["curve"]["seconds"]
        known = [(k, 1000 * value) for k, value in zip(passes, seconds, strict=True) if value is not None]
        if not known:
            continue
        axes.plot(
            *zip(*known, strict=True),
            **style.marked(entry, 5),
            linestyle=style.dashes(entry),
            label=entry.label,
        )
        words.append(f"{entry.label}: {significant(known[-1][1])} ms at {known[-1][0]}.")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(
        FixedLocator(sorted({k for e in timed for k in e.record["curve"]["passes"]}))
    )
    axes.set_xlabel("passes")
    axes.set_ylabel("ms per sentence")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0, labelspacing=0.8)
    return Drawing(
        f"{section.slug}-curve-time",
        figure,
        "Time per sentence over the number of passes. " + " ".join(words),
        "Wall time per sentence at the plan's batches, each number of passes timed by itself.",
    )
