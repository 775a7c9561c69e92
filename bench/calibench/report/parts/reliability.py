"""Reliability diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from calibench.metrics.calibration import ReliabilityCurve, reliability
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.sections import Entry, Section
from calibench.report.stored import has_predictions, predictions_of
from calibench.report.writing.numbers import fraction, interval, tick
from calibench.stats.intervals import LEVEL, wilson
from calibench.store.records import dig
from calibench.types import Evaluation, FloatArray

_PER_ROW = 4
#: More panels than this are drawn smaller, and more of them beside each other.
_MANY, _PER_ROW_OF_MANY = 8, 5
_BINS = 10
#: Inches: the panel of counts.
_UNDER = 0.42


def reliability_diagrams(section: Section, folder: Path) -> Drawing | None:
    """Accuracy against confidence per bin, one panel per method (Guo et al. 2017, figure 1).

    The bins are those of the record's ECE, so that the picture and the number in the table agree. None where
    no predictions are stored beside the records.
    """
    stored = [entry for entry in section.measured if has_predictions(entry, folder)]
    if not stored:
        return None
    curves = [curve_of(entry, folder) for entry in stored]
    sheet = _Layout.of([entry.label for entry in stored])
    figure = style.NotebookFigure(figsize=(sheet.width, sheet.height))
    # One plane in inches for all panels: axes of their own would take most of the time of a report.
    plane = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    plane.set_axis_off()
    plane.set_xlim(0.0, sheet.width)
    plane.set_ylim(0.0, sheet.height)
    start = min(float(curve.edges[np.flatnonzero(curve.count)[0]]) for curve in curves)
    most = max(int(curve.count.max()) for curve in curves)
    panels = [sheet.panels(position, start, most) for position in range(len(stored))]
    _frames(plane, panels, sheet)
    _bars(plane, panels, stored, curves)
    for position, (entry, (upper, _)) in enumerate(zip(stored, panels, strict=True)):
        title, size = sheet.titles[position], 8.5 if sheet.roomy else 8.0
        error = dig(entry.record, "metrics", "ece")
        known = bool(error and error.get("value") is not None)
        if known:
            plane.text(upper.left, upper.top + 0.05, f"ECE {interval(error)}", fontsize=size, va="bottom")
        plane.text(
            upper.left,
            upper.top + (0.2 if known else 0.05),
            title,
            fontsize=9.5,
            fontweight="bold",
            va="bottom",
        )
    _reliability_legend(figure)
    return Drawing(
        f"{section.slug}-reliability",
        figure,
        "Reliability diagrams, one per method. "
        + " ".join(_reliability_words(e, c) for e, c in zip(stored, curves, strict=True)),
        "Bars: accuracy of the examples in each confidence bin, with its 95% Wilson interval. Hatched: the "
        "gap to their mean confidence, which is what ECE averages. Below: examples per bin, log scale.",
    )


def curve_of(entry: Entry, folder: Path) -> ReliabilityCurve:
    """What the panel of an entry that has predictions shows."""
    predictions = predictions_of(entry, folder)
    bins = int(dig(entry.record, "metrics", "ece", "definition", "bins") or _BINS)
    # A label of -1 is one the model cannot output; such examples are not part of any calibration metric.
    scored = Evaluation(predictions.probs, predictions.label).in_scope()
    return reliability(scored.probs, scored.labels, bins=bins)


@dataclass(frozen=True)
class _Panel:
    """A rectangle in inches, and the values at its ends; `log` ones upwards."""

    left: float
    bottom: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    @property
    def top(self) -> float:
        return self.bottom + self.height

    def across(self, values: FloatArray) -> FloatArray:
        """Where values of x are."""
        low, high = self.x
        places: FloatArray = self.left + self.width * (np.asarray(values, dtype=float) - low) / (high - low)
        return places

    def up(self, values: FloatArray) -> FloatArray:
        """Where values of y are; those beyond an end are at it."""
        low, high = self.y
        kept = np.clip(np.asarray(values, dtype=float), low, high)
        if self.log:
            kept, low, high = np.log(kept), float(np.log(low)), float(np.log(high))
        places: FloatArray = self.bottom + self.height * (kept - low) / (high - low)
        return places


@dataclass(frozen=True)
class _Layout:
    """Where the panels of a figure are, in inches, from the upper left on."""

    columns: int
    rows: int
    titles: tuple[str, ...]
    roomy: bool
    width: float
    above: float

    @classmethod
    def of(cls, labels: Sequence[str]) -> _Layout:
        roomy = len(labels) <= _MANY
        rows, columns = style.shape(len(labels), _PER_ROW if roomy else _PER_ROW_OF_MANY)
        width = min(style.WIDTH, max(5.0, 3.0 * columns))
        titles = tuple(style.title_of(label, 0.92 * (width - 0.82) / columns) for label in labels)
        above = 0.42 + style.TITLE_LINE * max(title.count("\n") for title in titles)
        return cls(columns, rows, titles, roomy, width, above)

    @property
    def pitch(self) -> float:
        """From one row to the next."""
        return self.above + (1.95 + 0.5 if self.roomy else 1.28 + 0.3) + _UNDER

    @property
    def height(self) -> float:
        return self.pitch * self.rows + (0.45 if self.roomy else 0.6)

    def panels(self, position: int, start: float, most: int) -> tuple[_Panel, _Panel]:
        """Accuracy above and examples below, of the panel at a position."""
        row, column = divmod(position, self.columns)
        step = (self.width - 0.68) / self.columns
        left, wide = 0.6 + column * step, step - 0.16
        top = self.height - row * self.pitch - self.above
        high = 1.95 if self.roomy else 1.28
        ends = (start, 1.0)
        # A bin of one example must be seen to be there.
        below = _Panel(left, top - high - 0.08 - _UNDER, wide, _UNDER, ends, (0.5, most * 2.0), log=True)
        return _Panel(left, top - high, wide, high, ends, (0.0, 1.0)), below


def _frames(plane: Axes, panels: Sequence[tuple[_Panel, _Panel]], sheet: _Layout) -> None:
    """Axes, grids and numbers of all panels."""
    start = panels[0][0].x[0]
    across = [at for at in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(start, 1.0) if start <= at <= 1.0]
    every = [10.0**power for power in range(6) if 10.0**power <= panels[0][1].y[1]]
    levels = (np.linspace(0.0, 1.0, 6 if sheet.roomy else 3), np.array(every[:: 1 if len(every) < 4 else 2]))
    axes, grid = [], []
    small: dict[str, Any] = {"fontsize": 8.5}
    for position, both in enumerate(panels):
        for panel, own in zip(both, levels, strict=True):
            right = panel.left + panel.width
            axes.append([(panel.left, panel.top), (panel.left, panel.bottom), (right, panel.bottom)])
            ups, places = panel.up(own), panel.across(np.array(across))
            grid += [[(panel.left, y), (right, y)] for y in ups]
            grid += [[(x, panel.bottom), (x, panel.top)] for x in places]
            if position % sheet.columns == 0:
                for y, level in zip(ups, own, strict=True):
                    text = tick(float(level)) if panel is both[0] else f"{level:,.0f}"
                    plane.text(panel.left - 0.05, y, text, ha="right", va="center", **small)
                name = "accuracy" if panel is both[0] else "examples"
                middle = panel.bottom + panel.height / 2
                plane.text(0.04, middle, name, rotation=90, ha="left", va="center", fontsize=9)
        lower = both[1]
        lowest = position + sheet.columns >= len(panels)
        for x, value in zip(lower.across(np.array(across)), across, strict=True):
            if lowest or sheet.roomy:
                plane.text(x, lower.bottom - 0.05, tick(value), ha="center", va="top", **small)
        if lowest:
            middle = lower.left + lower.width / 2
            plane.text(middle, lower.bottom - 0.21, "confidence", ha="center", va="top", fontsize=9)
    plane.add_collection(LineCollection(grid, colors=style.RULE, linewidths=0.6, zorder=0.5))
    plane.add_collection(LineCollection(axes, colors=style.MUTED, linewidths=0.8, zorder=3))


def _bars(
    plane: Axes,
    panels: Sequence[tuple[_Panel, _Panel]],
    stored: Sequence[Entry],
    curves: Sequence[ReliabilityCurve],
) -> None:
    """Accuracies, gaps, intervals and counts of all panels."""
    bars, gaps, intervals, diagonals, tints = [], [], [], [], []
    for (upper, lower), entry, curve in zip(panels, stored, curves, strict=True):
        filled = curve.count > 0
        ends = np.stack([curve.edges[:-1], curve.edges[1:]], axis=1)[filled]
        accuracy, confidence, count = curve.accuracy[filled], curve.confidence[filled], curve.count[filled]
        own = _boxes(upper, ends, np.zeros(len(ends)), accuracy)
        own += _boxes(lower, ends, np.full(len(ends), lower.y[0]), count.astype(float))
        bars += own
        tints += [style.colour(entry.family)] * len(own)
        gaps += _boxes(upper, ends, accuracy, confidence)
        low, high = np.transpose(
            [wilson(round(a * n), int(n), LEVEL) for a, n in zip(accuracy, count, strict=True)]
        )
        middles = upper.across(ends.mean(axis=1))
        intervals += [
            [(x, a), (x, b)] for x, a, b in zip(middles, upper.up(low), upper.up(high), strict=True)
        ]
        slope = np.array([max(0.0, upper.x[0]), 1.0])
        diagonals.append(np.stack([upper.across(slope), upper.up(slope)], axis=1))
    plane.add_collection(
        PolyCollection(bars, facecolors=tints, alpha=0.75, edgecolors=style.PAPER, linewidths=0.8)
    )
    plane.add_collection(
        PolyCollection(
            gaps, facecolors="none", edgecolors=style.INK, hatch="////", linewidths=0.5, alpha=0.55
        )
    )
    plane.add_collection(LineCollection(intervals, colors=style.INK, linewidths=1.1, zorder=2.5))
    plane.add_collection(
        LineCollection(diagonals, colors=style.INK, linestyles=(0, (4, 3)), linewidths=1, zorder=2.4)
    )


def _boxes(panel: _Panel, ends: FloatArray, low: FloatArray, high: FloatArray) -> list[FloatArray]:
    """The corners of bars over `ends`, float64 [B, 2], from `low` to `high`."""
    left, right = panel.across(ends[:, 0]), panel.across(ends[:, 1])
    bottom, top = panel.up(low), panel.up(high)
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    return list(np.stack([np.stack(corner, axis=1) for corner in corners], axis=1))


def _reliability_legend(figure: Figure) -> None:
    figure.legend(
        handles=[
            Patch(facecolor=style.MUTED, alpha=0.75, label="accuracy"),
            Patch(
                facecolor="none", edgecolor=style.INK, hatch="////", linewidth=0.5, label="gap to confidence"
            ),
            Line2D([], [], color=style.INK, linestyle=(0, (4, 3)), linewidth=1, label="perfect calibration"),
            Line2D([], [], color=style.INK, marker="|", linestyle="", markersize=9, label="95% interval"),
        ],
        loc="lower center",
        ncols=4,
        handlelength=2.0,
        columnspacing=1.6,
    )


def _reliability_words(entry: Entry, curve: ReliabilityCurve) -> str:
    filled = curve.count > 0
    over = int(np.sum(curve.confidence[filled] > curve.accuracy[filled]))
    error = dig(entry.record, "metrics", "ece", "value")
    known = f"ECE {fraction(error)}, " if error is not None else ""
    return f"{entry.label}: {known}confidence above accuracy in {over} of {int(filled.sum())} bins."
