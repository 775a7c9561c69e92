"""Coverage and mean size of prediction sets, drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.drawing.labels import wrapped
from calibench.report.parts.sets import Fields, levels_of, made_of, name_of, short
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import fraction, tick


def sets_drawing(section: Section) -> Drawing | None:
    """Coverage and mean size of every method's sets, side by side; None where there are no sets."""
    rows = [(entry, _drawn(entry)) for entry in section.measured]
    rows = [(entry, found) for entry, found in rows if found]
    if not rows:
        return None
    levels = len(levels_of(made_of(section)))
    names = list(dict.fromkeys(name_of(one, levels) for _, found in rows for one in found))
    labels = [wrapped(entry.label) for entry, _ in rows]
    heights = [max(0.16 * len(names), 0.17 * (label.count("\n") + 1)) + 0.16 for label in labels]
    height = sum(heights) + 1.05
    figure = style.NotebookFigure(figsize=(style.WIDTH, height))
    widest = max(len(line) for label in labels for line in label.split("\n"))
    figure.subplots_adjust(
        left=min(0.3, 0.02 + 0.0085 * widest),
        right=0.985,
        top=1 - 0.12 / height,
        bottom=0.82 / height,
        wspace=0.08,
    )
    left, right = figure.subplots(1, 2)
    centres, dots, top = [], list[_Dot](), 0.0
    for (entry, found), tall in zip(rows, heights, strict=True):
        centres.append(top + tall / 2.0)
        for one in found:
            kind = names.index(name_of(one, levels))
            y, tint = centres[-1] + 0.16 * (kind - (len(names) - 1) / 2.0), style.colour(entry.family)
            dots += [_Dot(name, kind, y, one[name], tint) for name in ("coverage", "mean_size")]
        top += tall
    for axes, name in ((left, "coverage"), (right, "mean_size")):
        _dots(axes, [dot for dot in dots if dot.name == name], len(names))
    for level in dict.fromkeys(one["level"] for _, found in rows for one in found):
        left.axvline(level, color=style.MUTED, linestyle=(0, (4, 3)), linewidth=1)
    right.axvline(1.0, color=style.MUTED, linestyle=(0, (4, 3)), linewidth=1)
    _axes(left, right, centres, labels, top, rows)
    figure.legend(handles=_handles(names), loc="lower center", ncols=len(names))
    return Drawing(
        f"{section.slug}-sets",
        figure,
        "Coverage and mean size of prediction sets. "
        + " ".join(_words(entry, found, levels) for entry, found in rows),
        "Bars are 95% intervals. Left: the dashed line is what was promised. Right: smaller is better; the "
        "dashed line is one class.",
    )


def _drawn(entry: Entry) -> list[Fields]:
    sets = entry.record.get("conformal") or []
    return [one for one in sets if one["reason"] is None and one["coverage"]["value"] is not None]


def _axes(
    left: Axes,
    right: Axes,
    centres: Sequence[float],
    labels: Sequence[str],
    top: float,
    rows: Sequence[tuple[Entry, Sequence[Fields]]],
) -> None:
    sizes = [one["mean_size"]["value"] for _, found in rows for one in found]
    if max(sizes) > 10.0 * max(min(sizes), 0.1):
        right.set_xscale("log")
    for axes, words in ((left, "coverage"), (right, "mean number of classes in a set")):
        axes.set_ylim(top, 0.0)
        axes.set_xlabel(words)
        axes.set_yticks(centres, labels if axes is left else [""] * len(labels))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


@dataclass(frozen=True)
class _Dot:
    """An estimate of one kind of sets, in its method's colour."""

    name: str
    kind: int
    y: float
    block: Fields
    tint: str


def _dots(axes: Axes, dots: Sequence[_Dot], kinds: int) -> None:
    known = [dot for dot in dots if dot.block.get("low") is not None and dot.block.get("high") is not None]
    bars = [[(dot.block["low"], dot.y), (dot.block["high"], dot.y)] for dot in known]
    axes.add_collection(LineCollection(bars, colors=[dot.tint for dot in known], linewidths=1.2))
    for kind in range(kinds):
        own = [dot for dot in dots if dot.kind == kind]
        values, heights = [dot.block["value"] for dot in own], [dot.y for dot in own]
        axes.scatter(
            values,
            heights,
            30,
            c=[dot.tint for dot in own],
            marker=style.marker(kind),
            zorder=3,
            linewidths=0,
        )


def _handles(names: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=style.INK, marker=style.marker(i), markersize=5.5, linestyle="none", label=name)
        for i, name in enumerate(names)
    ]


def _words(entry: Entry, found: Sequence[Fields], levels: int) -> str:
    parts = [
        f"{name_of(one, levels)} {fraction(one['coverage']['value'], 3)} with "
        f"{short(one['mean_size']['value'])} classes"
        for one in found
    ]
    return f"{entry.label}: {', '.join(parts)}."
