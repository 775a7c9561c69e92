"""The critical-difference diagram of Demšar (2006), and mean rank against cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from calibench.compare.leaderboard import Board, Standing
from calibench.compare.ranks import Apart, cliques
from calibench.report.drawing import labels, style
from calibench.report.drawing.drawing import Drawing
from calibench.report.writing.numbers import significant

#: Inches: between the stems of two methods, between two bars, and between a stem's end and its name.
_STEM, _BAR, _GAP = 0.24, 0.13, 0.1
_LINE: dict[str, Any] = {"linewidth": 1.0, "solid_capstyle": "butt"}


def critical_drawing(board: Board, standing: Standing) -> Drawing | None:
    """Mean ranks on a line, with bars over methods that are not told apart; None where nothing is tested."""
    found = standing.apart
    if isinstance(found, str):
        return None
    means = standing.ranks.mean(axis=0)
    names = [f"{label}  {means[at]:.2f}" for at, label in enumerate(board.labels)]
    order = standing.order
    left, right = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :][::-1]
    bars = cliques(means, found.shown())
    top, axis = 0.62, 0.0
    start = -(0.14 + _BAR * len(bars))
    depths = [_depths([names[one] for one in side]) for side in (left, right)]
    below = max(sum(_heights([names[one] for one in side])) for side in (left, right))
    tall = top - start + below + 0.1
    figure = style.NotebookFigure(figsize=(style.WIDTH, tall))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    margins = [max(labels.width(names[at]) for at in side) + 3 * _GAP for side in (left, right)]
    methods = len(order)
    scale = (style.WIDTH - sum(margins)) / (methods - 1)

    def at(rank: float) -> float:
        return margins[0] + (rank - 1.0) * scale

    axes.set_xlim(0.0, style.WIDTH)
    axes.set_ylim(top - tall, top)
    _axis(axes, at, methods, axis)
    _critical(axes, at, found.critical, methods)
    for number, clique in enumerate(bars):
        y = -(0.12 + _BAR * number)
        ends = [at(means[one]) for one in (clique[0], clique[-1])]
        axes.plot([ends[0] - 0.04, ends[1] + 0.04], [y, y], color=style.INK, linewidth=3.5)
    for side, members, places in (("left", left, depths[0]), ("right", right, depths[1])):
        end = margins[0] - _GAP if side == "left" else style.WIDTH - margins[1] + _GAP
        for depth, method in zip(places, members, strict=True):
            y = start - depth
            x = at(means[method])
            tint = style.colour(method) if method == 0 else style.INK
            axes.plot([x, x, end], [axis, y, y], color=tint, **_LINE)
            axes.text(
                end + (-0.05 if side == "left" else 0.05),
                y,
                labels.wrapped(names[method]),
                ha="right" if side == "left" else "left",
                va="center",
                fontsize=labels.SIZE,
                fontweight="bold" if method == order[0] else "normal",
                color=tint,
            )
    tasks = len(board.field.tasks)
    said = ", ".join(f"{board.labels[one]} {means[one]:.2f}" for one in order)
    joined = "; ".join(", ".join(board.labels[one] for one in clique) for clique in bars)
    return Drawing(
        f"critical-difference-{standing.metric.name}",
        figure,
        f"Mean ranks in {standing.metric.title} over {tasks} tasks: {said}. Not told apart: "
        f"{joined or 'none'}.",
        f"Mean ranks in {standing.metric.title} over {tasks} tasks, the best on the left. A thick bar "
        f"joins methods "
        "no two of which are told apart by the tests that Holm adjusts. CD is Nemenyi's critical "
        "difference at "
        "95%, for comparison with other diagrams; the bars do not go by it. The reference is grey.",
    )


def _heights(names: Sequence[str]) -> list[float]:
    """Room of each name, in inches."""
    return [max(_STEM, labels.height(name) + 0.08) for name in names]


def _depths(names: Sequence[str]) -> list[float]:
    """How far below the bars the middle of each name is."""
    heights = _heights(names)
    return [sum(heights[:at]) + heights[at] / 2.0 for at in range(len(names))]


def _axis(axes: Axes, at: Any, methods: int, y: float) -> None:
    axes.plot([at(1), at(methods)], [y, y], color=style.INK, **_LINE)
    step = 1 if methods <= 16 else 5
    ticks = sorted({1, methods, *range(step, methods + 1, step)})
    for rank in ticks:
        axes.plot([at(rank), at(rank)], [y, y + 0.07], color=style.INK, **_LINE)
        axes.text(at(rank), y + 0.1, str(rank), ha="center", va="bottom", fontsize=labels.SIZE)


def _critical(axes: Axes, at: Any, critical: float, methods: int) -> None:
    """The critical difference above the axis, where there is room for it."""
    if critical > methods - 1:
        text = f"CD = {critical:.2f}: more than there is room for"
        axes.text(at(1), 0.44, text, ha="left", va="center", fontsize=labels.SIZE, color=style.MUTED)
        return
    ends = [at(1), at(1 + critical)]
    axes.plot(ends, [0.44, 0.44], color=style.MUTED, **_LINE)
    for end in ends:
        axes.plot([end, end], [0.40, 0.48], color=style.MUTED, **_LINE)
    axes.text(
        ends[1] + 0.08,
        0.44,
        f"CD = {critical:.2f}",
        ha="left",
        va="center",
        fontsize=labels.SIZE,
        color=style.MUTED,
    )


def front_drawing(board: Board) -> Drawing | None:
    """Mean rank in the first metric over the cost; None without costs or where nothing is bounded."""
    standing = board.standings[0]
    if board.front is None or not isinstance(standing.apart, Apart):
        return None
    known = [at for at, cost in enumerate(board.costs) if cost.value is not None]
    figure = style.NotebookFigure(figsize=(style.WIDTH, max(3.4, 0.9 + 0.2 * len(known))))
    axes = figure.add_axes((0.07, 0.16, 0.91, 0.8))
    axes.set_xscale("log")
    points = []
    for at in known:
        cost, mean = board.costs[at], standing.mean_ranks[at]
        assert cost.value is not None
        assert mean.value is not None
        tint = style.colour(at)
        points.append((cost.value, mean.value))
        if cost.low is not None and cost.high is not None:
            axes.plot([cost.low, cost.high], [mean.value, mean.value], color=tint, linewidth=1.2, alpha=0.7)
        if mean.low is not None and mean.high is not None:
            axes.plot([cost.value, cost.value], [mean.low, mean.high], color=tint, linewidth=1.2, alpha=0.7)
        axes.plot(cost.value, mean.value, marker=style.marker(at), color=tint, markersize=7, linestyle="")
    axes.set_ylim(0.7, len(board.labels) + 0.3)
    start, end = axes.dataLim.x0, axes.dataLim.x1
    labels.place(
        axes,
        points,
        [board.labels[at] for at in known],
        [style.colour(at) for at in known],
        [bool(board.front[at] >= 0.5) for at in known],
    )
    decades = range(int(np.floor(np.log10(start))), int(np.ceil(np.log10(end))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if start / 1.05 <= tick <= end * 1.05]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_xlabel("cost over the reference's, geometric mean over tasks (log scale; left is cheaper)")
    axes.set_ylabel(f"mean rank in {standing.metric.title} (down is better)")
    said = "; ".join(
        f"{board.labels[at]}: rank {y:.2f}, {significant(x)} times the reference's cost"
        for at, (x, y) in zip(known, points, strict=True)
    )
    return Drawing(
        f"front-{standing.metric.name}",
        figure,
        f"Mean rank against cost. {said}.",
        "Lower left is better. Lines are the 95% intervals over tasks. Names in bold are on the front, where "
        "nothing ranks as well and costs as little, with a probability of one half or more when tasks "
        "and examples "
        "are drawn again.",
    )
