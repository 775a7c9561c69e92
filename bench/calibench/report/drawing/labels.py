"""Names beside the points of a figure, in two columns that never overlap."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from calibench.report.drawing import style
from calibench.types import FloatArray

SIZE = 8.0
_WRAP = 30
_LINE = 1.3 * SIZE / 72.0
_GAP = 0.12
_MEASURE = TextToPath()
#: More changes of places than any figure has needed.
_CHANGES = 2000


def wrapped(label: str) -> str:
    """The label, broken where it is too long to stand beside a point."""
    return textwrap.fill(label, _WRAP)


def width(label: str) -> float:
    """Width of a wrapped label in inches, were it bold."""
    return max(_line_width(line) for line in wrapped(label).splitlines())


@cache
def _line_width(line: str) -> float:
    bold = FontProperties(family=style.FONT, weight="bold", size=SIZE)
    return float(_MEASURE.get_text_width_height_descent(line, bold, False)[0]) / 72.0


def height(label: str) -> float:
    """Height of a wrapped label in inches."""
    return _LINE * len(wrapped(label).splitlines())


def spread(wanted: FloatArray, heights: FloatArray, low: float, high: float) -> FloatArray:
    """Places for labels of these heights, as near as can be to where they are wanted, without overlap.

    The least-squares solution: positions less the room of what comes before must rise, which makes it an
    isotonic regression. Where the labels need more room than there is they share what there is.

    Args:
        wanted: float64 [L], rising.
        heights: float64 [L].
        low, high: the ends of the column.
    """
    squeeze = min(1.0, (high - low) / heights.sum())
    room = heights * squeeze
    before = np.concatenate([[0.0], np.cumsum((room[1:] + room[:-1]) / 2.0)])
    free = wanted - before
    # The isotonic regression by its min-max formula: labels are few.
    count = len(free)
    means = [[free[i : k + 1].mean() if k >= i else np.inf for k in range(count)] for i in range(count)]
    raised = [max(min(means[i][k:]) for i in range(k + 1)) for k in range(count)]
    last = high - room[-1] / 2.0 - before[-1]
    placed: FloatArray = np.clip(raised, low + room[0] / 2.0, max(last, low + room[0] / 2.0)) + before
    return placed


def column(points: FloatArray, heights: FloatArray, x: float, low: float, high: float) -> FloatArray:
    """Places of labels in a column such that no two of the lines to their points cross.

    They begin in the order of their points and change places as long as two lines cross; each change makes
    the lines shorter in all, so that there is an end.

    Args:
        points: float64 [L, 2], in inches.
        heights: float64 [L], of the labels.
        x: where the lines end; all points are on one side of it.
        low, high: the ends of the column.
    """
    order = np.argsort(points[:, 1], kind="stable")
    for _ in range(_CHANGES):
        places = np.empty(len(points))
        places[order] = spread(points[order, 1], heights[order], low, high)
        found = crossing(points, places, x)
        if found is None:
            break
        first, second = (int(np.flatnonzero(order == one)[0]) for one in found)
        order[[first, second]] = order[[second, first]]
    return places


def crossing(points: FloatArray, places: FloatArray, x: float) -> tuple[int, int] | None:
    """Two lines that cross, from points, float64 [L, 2], to (x, places), float64 [L]; None where none do."""
    reach = x - points[:, 0]
    slope = (places - points[:, 1]) / np.where(reach == 0.0, 1e-9, reach)
    # Of two lines the one that begins nearer to the column decides: which of them is above there?
    start = np.where(np.abs(reach)[:, None] < np.abs(reach)[None, :], points[:, None, 0], points[None, :, 0])
    at = places[:, None] - slope[:, None] * (x - start)
    above_there = at - (places[None, :] - slope[None, :] * (x - start))
    above_here = places[:, None] - places[None, :]
    crossed = np.argwhere(above_there * above_here < -1e-12)
    return None if len(crossed) == 0 else (int(crossed[0, 0]), int(crossed[0, 1]))


def place(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colours: Sequence[str],
    bold: Sequence[bool],
) -> None:
    """Write each label left or right of all points, whichever is nearer to its own, with a line to it.

    The x axis is logarithmic and its limits are moved to make room; those of y are taken as they are.

    Args:
        axes: where the points have been drawn.
        points: (x, y) of each label's point.
        labels: the names.
        colours: of the lines.
        bold: which labels to set in bold.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    size = axes.get_position().size * figure.get_size_inches()
    start, end = _data_range(axes)
    right_side = np.array([x > np.sqrt(start * end) for x, _ in points])
    sides: list[tuple[str, list[int]]] = [
        ("left", np.flatnonzero(~right_side).tolist()),
        ("right", np.flatnonzero(right_side).tolist()),
    ]
    margins = {
        side: max([width(labels[i]) for i in chosen], default=0.0) + 3.5 * _GAP for side, chosen in sides
    }
    scale = (np.log(end) - np.log(start)) / max(1.0, size[0] - margins["left"] - margins["right"])
    axes.set_xlim(start * np.exp(-scale * margins["left"]), end * np.exp(scale * margins["right"]))
    shares = axes.transAxes.inverted().transform(axes.transData.transform(np.array(points)))
    for side, chosen in sides:
        if not chosen:
            continue
        x = margins["left"] - 2 * _GAP if side == "left" else size[0] - margins["right"] + 2 * _GAP
        own = shares[chosen] * size
        places = column(own, np.array([height(labels[i]) for i in chosen]), x, 0.0, float(size[1]))
        ends = np.stack([np.full(len(places), x), places], axis=1) / size
        axes.add_collection(
            LineCollection(
                list(np.stack([own / size, ends], axis=1)),
                colors=[colours[i] for i in chosen],
                linewidths=0.6,
                alpha=0.8,
                zorder=1.5,
                transform=axes.transAxes,
            ),
            autolim=False,
        )
        for i, (across, up) in zip(chosen, ends, strict=True):
            axes.text(
                across + (-1 if side == "left" else 1) * 0.03 / size[0],
                up,
                wrapped(labels[i]),
                transform=axes.transAxes,
                ha="right" if side == "left" else "left",
                va="center",
                fontsize=SIZE,
                fontweight="bold" if bold[i] else "normal",
                linespacing=1.1,
            )


def _data_range(axes: Axes) -> tuple[float, float]:
    low, high = axes.dataLim.x0, axes.dataLim.x1
    # Costs that are all alike must not be blown up until their noise fills the axis.
    spare = max(1.0, np.sqrt(1.5 * low / high))
    return low / spare, high * spare
