"""Cost against quality: the figure of the front and the table of who is on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from calibench.compare.front import SAME_COST, Box, nondominated
from calibench.report.drawing import labels, style
from calibench.report.drawing.drawing import Drawing
from calibench.report.points import COSTS, QUALITIES, Point, Tradeoff
from calibench.report.sections import Section
from calibench.report.writing.numbers import fraction, percent, significant, tick
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build
from calibench.store.records import Record

_PANELS = {"nll": "NLL", "ece": "ECE"}
_REGION = 0.14
_STAIRS: dict[str, Any] = {"color": style.MUTED, "linewidth": 1.2, "linestyle": (0, (2, 2))}


def front_drawing(section: Section, found: Tradeoff) -> Drawing | None:
    """NLL and ECE over the cost ratio, one point per method and number of passes, with their regions.

    None where fewer than two methods have a cost ratio and one of the metrics.
    """
    panels = _panels(found)
    if not panels:
        return None
    rows = max(sum(found.points[i].whole for i in at) for at in panels.values())
    each = max(2.9, 0.5 + 0.155 * rows)
    total = each * len(panels) + 0.85
    figure = style.NotebookFigure(figsize=(style.WIDTH, total))
    figure.subplots_adjust(left=0.07, right=0.99, top=1 - 0.1 / total, bottom=0.8 / total, hspace=0.08)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, at) in zip(grid, panels.items(), strict=True):
        _panel(axes, found, name, at)
    what = "price per row" if section.priced else "time per sentence"
    grid[-1].set_xlabel(f"{what}, relative to the reference (log scale; left is cheaper)")
    curved = any(not found.points[i].whole for at in panels.values() for i in at)
    steps = any(point.entry.variant for point in found.points)
    _legend(figure, curved=curved, steps=steps)
    return Drawing(
        f"{section.slug}-front",
        figure,
        "NLL and ECE against the cost ratio. "
        + " ".join(_words(point, section) for point in found.points if point.whole),
        _caption(section, found, curved=curved),
    )


def _panels(found: Tradeoff) -> dict[str, list[int]]:
    """The points of each panel, where there are those of two methods."""
    panels = {name: _drawn(found.points, name) for name in _PANELS}
    return {name: at for name, at in panels.items() if len({found.points[i].entry.order for i in at}) > 1}


def _drawn(points: Sequence[Point], metric: str) -> list[int]:
    return [i for i, point in enumerate(points) if (point.metrics.get(metric) or {}).get("value") is not None]


def _panel(axes: Axes, found: Tradeoff, metric: str, at: Sequence[int]) -> None:
    value = {i: found.points[i].metrics[metric]["value"] for i in at}
    cost = {i: found.points[i].ratio["value"] for i in at}
    axes.set_xscale("log")
    for _, group in groupby(at, key=lambda i: found.points[i].entry.order):
        own = list(group)
        entry = found.points[own[0]].entry
        tint = style.colour(entry.family)
        if len(own) > 1:
            axes.plot(
                [cost[i] for i in own],
                [value[i] for i in own],
                color=tint,
                linewidth=1.3,
                linestyle=style.dashes(entry),
            )
        for i in own:
            whole = found.points[i].whole
            axes.plot(cost[i], value[i], **style.marked(entry, 8 if whole else 4), zorder=4 if whole else 3)
    named = [i for i in at if found.points[i].whole]
    _regions(axes, found, metric, named)
    _stairs(axes, [(cost[i], value[i]) for i in at])
    axes.autoscale_view()
    _quality_axis(axes, metric, list(value.values()))
    start, end = axes.dataLim.x0, axes.dataLim.x1
    labels.place(
        axes,
        [(cost[i], value[i]) for i in named],
        [found.points[i].entry.label for i in named],
        [style.colour(found.points[i].entry.family) for i in named],
        [found.shares.get((metric.upper(), "time"), {}).get(i, 0.0) >= 0.5 for i in named],
    )
    axes.xaxis.set_major_locator(FixedLocator(ticks(start, end)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def squashed(values: Sequence[float]) -> bool:
    """Whether large values press the others together: more than a fifth of them into the lowest tenth."""
    low, *others = sorted(values)
    pressed = sum(value < low + 0.1 * (others[-1] - low) for value in others) if others else 0
    return low > 0.0 and pressed > len(others) / 5


def _quality_axis(axes: Axes, metric: str, values: Sequence[float]) -> None:
    """Logarithmic where a linear one would squash the front, which the label says."""
    low, high = axes.get_ylim()
    if not squashed(values):
        axes.set_ylim(bottom=max(0.0, low))
        axes.set_ylabel(f"{_PANELS[metric]} (lower is better)")
        return
    axes.set_yscale("log")
    bottom = max(low, min(values) / 1.5)
    axes.set_ylim(bottom, high)
    axes.yaxis.set_major_locator(FixedLocator(ticks(bottom, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(f"{_PANELS[metric]} (log scale; lower is better)")


def _share(share: float) -> str:
    """A probability from a thousand draws: never quite 0 or 1."""
    return "<1%" if share < 0.01 else ">99%" if share > 0.99 else f"{100 * share:.0f}%"


def _box(found: Tradeoff, metric: str, at: int) -> Box:
    """The joint region where there is one, else the intervals of the record."""
    joint = found.boxes.get(metric, {}).get(at)
    if joint is not None:
        return joint
    point = found.points[at]
    return Box(_ends(point.ratio), _ends(point.metrics[metric]))


def _ends(estimate: Mapping[str, float | None]) -> tuple[float, float]:
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    assert value is not None
    return (value if low is None else max(low, value / 10.0), value if high is None else high)


def _regions(axes: Axes, found: Tradeoff, metric: str, at: Sequence[int]) -> None:
    boxes = [_box(found, metric, i) for i in at]
    corners = [
        [(x, max(0.0, y)) for x, y in zip(_around(box.cost), np.repeat(box.quality, 2), strict=True)]
        for box in boxes
    ]
    tints = [style.colour(found.points[i].entry.family) for i in at]
    for looks in ({"facecolors": tints, "alpha": _REGION}, {"facecolors": "none", "edgecolors": tints}):
        axes.add_collection(PolyCollection(corners, linewidths=0.7, **looks))


def _around(ends: tuple[float, float]) -> tuple[float, float, float, float]:
    return (*ends, *ends[::-1])


def _stairs(axes: Axes, at: Sequence[tuple[float, float]]) -> None:
    """The estimated front: the least of the quality that each cost can buy."""
    cost, quality = np.array(sorted(at)).T
    kept = nondominated(quality, cost)
    axes.step(
        np.append(cost[kept], cost.max()),
        np.append(quality[kept], quality[kept][-1]),
        where="post",
        zorder=2.5,
        **_STAIRS,
    )


def ticks(start: float, end: float) -> list[float]:
    """1, 2 and 5 of each decade between the ends of a log axis, or more; its middle where there are none."""
    decades = range(int(np.floor(np.log10(start))) - 1, int(np.ceil(np.log10(end))) + 1)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        every = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [at for at in every if start / 1.05 <= at <= end * 1.05]
        if len(inside) > 2:
            break
    return inside or [float(f"{np.sqrt(start * end):.2g}")]


def _legend(figure: Figure, *, curved: bool, steps: bool) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=style.MUTED, marker="o", markersize=8, linestyle="", label="a method"),
        Patch(facecolor=style.MUTED, edgecolor=style.MUTED, alpha=0.4, label="95% region"),
        Line2D([], [], **_STAIRS, label="front of the estimates"),
    ]
    if curved:
        fewer = Line2D([], [], color=style.MUTED, marker="o", markersize=4, linewidth=1.3)
        fewer.set_label("the same with fewer passes")
        handles.insert(1, fewer)
    if steps:
        step = Line2D([], [], color=style.MUTED, marker="o", markersize=8, linestyle="")
        step.set(markerfacecolor=style.PAPER, markeredgewidth=1.2, label="with a post-hoc step")
        handles.insert(1, step)
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), columnspacing=1.4)


def _caption(section: Section, found: Tradeoff, *, curved: bool) -> str:
    text = "Lower left is better. "
    if section.priced:
        text += "The price of a row is what it was said to be. "
    else:
        text += "Time is that of a sentence, from text to probabilities, in full batches. "
    if curved:
        passes = sorted({point.passes for point in found.points if not point.whole})
        text += f"Small points are running means of the first {', '.join(f'{k:g}' for k in passes)} passes. "
    panels = _panels(found).items()
    if any(squashed([found.points[i].metrics[name]["value"] for i in at]) for name, at in panels):
        text += "Regions that reach below a log scale are cut there. "
    if not found.boxes:
        return text + "Regions are made of the 95% intervals in the tables."
    return text + (
        f"A region holds 95% of where {_other(section)} could put a method as seen from the "
        "reference, on the same examples. Names in bold are on the front with a probability of one half or "
        "more; for ECE it goes by the debiased square, as the plain ECE reads less for sharper probabilities."
    )


def _other(section: Section) -> str:
    """What is drawn again."""
    return "other examples" if section.priced else "other examples and timing blocks"


def _words(point: Point, section: Section) -> str:
    cost = "price" if section.priced else "time"
    words = [f"{significant(point.ratio['value'])} times the reference's {cost}"]
    for name in _PANELS:
        value = (point.metrics.get(name) or {}).get("value")
        words += [f"{name.upper()} {fraction(value)}"] if value is not None else []
    return f"{point.entry.label}: {', '.join(words)}."


def front_table(section: Section, found: Tradeoff) -> Table | None:
    """P(on the front) of every method with all its passes; None without predictions to resample."""
    if not found.shares:
        return None
    row = {point.entry.record["cell"]: i for i, point in enumerate(found.points) if point.whole}
    costs = {"time": "price"} if section.priced else {cost: cost for cost in COSTS}
    columns = [
        Column(
            f"{quality}, {called}",
            f"P(no other point is at least as good in {quality} and as cheap in {called}).",
            _read(found.shares[quality, cost], row),
        )
        for cost, called in costs.items()
        for quality in QUALITIES
        if (quality, cost) in found.shares
    ]
    return build("Probability of being on the front", section.entries, columns)


def front_words(section: Section) -> str:
    """What the table says."""
    if section.priced:
        return (
            "The probability, over examples drawn again, that no other point of the figure is at least as "
            f"good and as cheap. Prices within {percent(SAME_COST)} of each other count as equal; ECE stands "
            "for its debiased square."
        )
    return (
        "The probability, over examples and timing blocks drawn again, that no other point of the figure is "
        "at least as good and as cheap as the method with all its passes; fewer passes of the same method "
        f"are among those points. Times within {percent(SAME_COST)} of each other count as equal; ECE stands "
        "for its debiased square."
    )


def _read(shares: Mapping[int, float], row: Mapping[str, int]) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        share = shares.get(row.get(record["cell"], -1))
        return Cell(ABSENT) if share is None else Cell(_share(share), share)

    return read
