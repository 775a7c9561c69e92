"""Names beside the points of a figure, in two columns that never overlap."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from calibench.report.drawing import style
from calibench.types import FloatArray

SIZE = 8.0
_WRAP = 30
_LINE = 1.3 * SIZE / 72.0
_GAP = 0.12


def wrapped(label: str) -> str:
    """The label, broken where it is too long to stand beside a point."""
    return textwrap.fill(label, _WRAP)


def width(label: str) -> float:
    """Width of a wrapped label in inches, were it bold."""
    bold = FontProperties(weight="bold")
    lines = [TextPath((0, 0), line, size=SIZE, prop=bold) for line in wrapped(label).splitlines()]
    return max(float(line.get_extents().width) for line in lines) / 72.0


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
    middle = np.sqrt(start * end)
    sides = {
        side: sorted(
            (i for i, (x, _) in enumerate(points) if (side == "right") == (x > middle)),
            key=lambda i: points[i][1],
        )
        for side in ("left", "right")
    }
    margins = {
        side: max([width(labels[i]) for i in chosen], default=0.0) + 3.5 * _GAP
        for side, chosen in sides.items()
    }
    scale = (np.log(end) - np.log(start)) / max(1.0, size[0] - margins["left"] - margins["right"])
    axes.set_xlim(start * np.exp(-scale * margins["left"]), end * np.exp(scale * margins["right"]))
    low, high = axes.get_ylim()
    unit = (high - low) / size[1]
    for side, chosen in sides.items():
        if not chosen:
            continue
        x = start * np.exp(-scale * 2 * _GAP) if side == "left" else end * np.exp(scale * 2 * _GAP)
        tall = np.array([height(labels[i]) * unit for i in chosen])
        places = spread(np.array([points[i][1] for i in chosen]), tall, low, high)
        for i, y in zip(chosen, places, strict=True):
            axes.plot(
                [points[i][0], x], [points[i][1], y], color=colours[i], linewidth=0.6, alpha=0.8, zorder=1.5
            )
            axes.annotate(
                wrapped(labels[i]),
                (x, y),
                xytext=(-2 if side == "left" else 2, 0),
                textcoords="offset points",
                ha="right" if side == "left" else "left",
                va="center",
                fontsize=SIZE,
                fontweight="bold" if bold[i] else "normal",
                linespacing=1.1,
                bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.5},
            )


def _data_range(axes: Axes) -> tuple[float, float]:
    low, high = axes.dataLim.x0, axes.dataLim.x1
    # Costs that are all alike must not be blown up until their noise fills the axis.
    spare = max(1.0, np.sqrt(1.5 * low / high))
    return low / spare, high * spare
