"""Reliability diagrams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from calibench.metrics.calibration import ReliabilityCurve, reliability
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.sections import Entry, Section
from calibench.report.stored import has_predictions
from calibench.report.writing.numbers import fraction, interval, tick
from calibench.stats.intervals import LEVEL, wilson
from calibench.store.predictions import load_predictions
from calibench.store.records import dig
from calibench.types import Evaluation

_PER_ROW = 4
#: More panels than this are drawn smaller, and more of them beside each other.
_MANY, _PER_ROW_OF_MANY = 8, 5
_BINS = 10


def reliability_diagrams(section: Section, folder: Path) -> Drawing | None:
    """Accuracy against confidence per bin, one panel per method (Guo et al. 2017, figure 1).

    The bins are those of the record's ECE, so that the picture and the number in the table agree. None where
    no predictions are stored beside the records.
    """
    stored = [entry for entry in section.measured if has_predictions(entry, folder)]
    if not stored:
        return None
    curves = []
    for entry in stored:
        predictions = load_predictions(folder, entry.record)
        bins = int(dig(entry.record, "metrics", "ece", "definition", "bins") or _BINS)
        # A label of -1 is one the model cannot output; such examples are not part of any calibration metric.
        scored = Evaluation(predictions.probs, predictions.label).in_scope()
        curves.append(reliability(scored.probs, scored.labels, bins=bins))
    many = len(stored) > _MANY
    rows, columns = style.shape(len(stored), _PER_ROW_OF_MANY if many else _PER_ROW)
    width = min(style.WIDTH, max(5.0, 3.0 * columns))
    titles = [style.title_of(entry.label, 0.92 * (width - 0.82) / columns) for entry in stored]
    above = style.TITLE_LINE * max(title.count("\n") for title in titles)
    height = ((2.2 if many else 3.15) + above) * rows + 0.35
    figure = style.NotebookFigure(figsize=(width, height))
    grid = figure.add_gridspec(
        rows, columns, hspace=(0.48 if many else 0.36) + above / (1.5 if many else 2.2), wspace=0.12
    )
    grid.update(
        left=0.68 / width, right=1 - 0.14 / width, top=1 - (0.45 + above) / height, bottom=0.75 / height
    )
    start = min(float(curve.edges[np.flatnonzero(curve.count)[0]]) for curve in curves)
    most = max(int(curve.count.max()) for curve in curves)
    for position, (entry, curve) in enumerate(zip(stored, curves, strict=True)):
        row, column = divmod(position, columns)
        inner = grid[row, column].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.08)
        upper, lower = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
        _accuracy_panel(upper, entry, curve, room=not many)
        upper.set_title(titles[position], pad=16)
        _count_panel(lower, curve, style.colour(entry.family), most)
        for axes in (upper, lower):
            axes.set_xlim(start, 1)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
            axes.tick_params(labelleft=column == 0)
        upper.tick_params(labelbottom=False)
        if column == 0:
            upper.set_ylabel("accuracy")
            lower.set_ylabel("examples")
        if position + columns >= len(stored):
            lower.set_xlabel("confidence")
    _reliability_legend(figure)
    return Drawing(
        f"{section.slug}-reliability",
        figure,
        "Reliability diagrams, one per method. "
        + " ".join(_reliability_words(e, c) for e, c in zip(stored, curves, strict=True)),
        "Bars: accuracy of the examples in each confidence bin, with its 95% Wilson interval. Hatched: the "
        "gap to their mean confidence, which is what ECE averages. Below: examples per bin, log scale.",
    )


def _accuracy_panel(axes: Axes, entry: Entry, curve: ReliabilityCurve, *, room: bool) -> None:
    filled = curve.count > 0
    left, width = curve.edges[:-1][filled], np.diff(curve.edges)[filled]
    accuracy, confidence, count = curve.accuracy[filled], curve.confidence[filled], curve.count[filled]
    tint = style.colour(entry.family)
    axes.bar(
        left, accuracy, width, align="edge", color=tint, alpha=0.75, edgecolor=style.PAPER, linewidth=0.8
    )
    axes.bar(
        left,
        confidence - accuracy,
        width,
        bottom=accuracy,
        align="edge",
        color="none",
        edgecolor=style.INK,
        hatch="////",
        linewidth=0.5,
        alpha=0.55,
    )
    low, high = wilson(accuracy * count, count, LEVEL)
    axes.vlines(left + width / 2, low, high, color=style.INK, linewidth=1.1)
    axes.plot([0, 1], [0, 1], color=style.INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    error = dig(entry.record, "metrics", "ece")
    if error and error.get("value") is not None:
        axes.text(0, 1.03, f"ECE {interval(error)}", transform=axes.transAxes, fontsize=8.5 if room else 7.2)


def _count_panel(axes: Axes, curve: ReliabilityCurve, tint: str, most: int) -> None:
    axes.bar(
        curve.edges[:-1],
        curve.count,
        np.diff(curve.edges),
        align="edge",
        color=tint,
        alpha=0.75,
        edgecolor=style.PAPER,
    )
    axes.set_yscale("log")
    # A bin of one example must be seen to be there.
    axes.set_ylim(0.5, most * 2)
    axes.yaxis.set_major_locator(LogLocator(10, numticks=4))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


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
