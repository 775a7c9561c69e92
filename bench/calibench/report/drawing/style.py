"""How every figure looks: colours, markers, type, and output that is the same byte for byte."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from calibench.report.sections import Entry

INK = "#24292f"
MUTED = "#6e7781"
RULE = "#d0d7de"
PAPER = "#ffffff"

#: The reference is grey. Any two are told apart with normal sight and under deuteranopia, and each from the
#: paper: a test holds them to it.
COLOURS = (
    "#3b4045",
    "#00609c",
    "#f06c18",
    "#30a878",
    "#c078a8",
    "#785400",
    "#009ccc",
    "#90183c",
    "#849c48",
    "#002478",
)
#: The same on dark paper, in the same order; used by the page only.
DARK_COLOURS = (
    "#d6dce2",
    "#18849c",
    "#cc6c30",
    "#18c090",
    "#cc90c0",
    "#d8a800",
    "#84ccfc",
    "#b43048",
    "#d8d86c",
    "#7884d8",
)
#: What each colour of a figure is called in a page's style sheet.
VARIABLES = {
    "--ink": INK,
    "--muted": MUTED,
    "--rule": RULE,
    "--paper": PAPER,
    **{f"--series-{i}": colour for i, colour in enumerate(COLOURS)},
}
#: Colour is never the only difference: the markers run out of step with the colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_FILLS = ("full", "full", "left", "top", "right", "bottom")

FONT = "DejaVu Sans"
WIDTH = 9.0
#: Characters of a label that leave room for three columns of a legend.
_LEGEND = 34
#: Inches: mean width of a character of a title, with something to spare, and the height of a line.
_TITLE_CHARACTER = 0.086
TITLE_LINE = 0.155
_DPI, _NOTEBOOK_DPI = 128, 100
#: A tenth larger, and a third quicker than by default.
_QUICK = {"compress_level": 3}
_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": [FONT],
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


#: All that a figure looks like; the rest is the user's session.
_DEFAULTS = {
    name: value
    for name, value in matplotlib.rcParamsDefault.items()
    if not name.startswith(("backend", "interactive", "toolbar", "webagg", "tk.", "docstring", "savefig.dir"))
}


def series(family: int) -> int:
    """Which of `COLOURS` a family of entries has; grey is for the reference alone, 0."""
    return 0 if family == 0 else 1 + (family - 1) % (len(COLOURS) - 1)


def colour(family: int) -> str:
    """The colour of a family: a method, with its post-hoc steps."""
    return COLOURS[series(family)]


def marker(family: int) -> str:
    """The marker of the same: no two of the first 99 families share both."""
    return MARKERS[family % len(MARKERS)]


def marked(entry: Entry, size: float) -> dict[str, Any]:
    """How the entry's points are drawn: filled for a method itself, hollow for its first post-hoc step."""
    tint = colour(entry.family)
    filled = entry.variant == 0
    return {
        "color": tint,
        "marker": marker(entry.family),
        "markersize": size,
        "fillstyle": _FILLS[entry.variant % len(_FILLS)],
        "markerfacecolor": PAPER if entry.variant == 1 else tint,
        "markerfacecoloralt": PAPER,
        "markeredgecolor": PAPER if filled else tint,
        "markeredgewidth": (0.1 if filled else 0.16) * size,
    }


def dashes(entry: Entry, among: Sequence[Entry] = ()) -> Any:
    """How the entry's line is drawn: dashed for post-hoc steps, with dots where a colour is used again.

    Args:
        among: the entries of the plot.
    """
    if entry.variant:
        return (0, (4, 1.5))
    own = series(entry.family)
    repeated = any(other.family < entry.family and series(other.family) == own for other in among)
    return (0, (6, 1.5, 1, 1.5)) if repeated else "-"


def handle(entry: Entry, among: Sequence[Entry]) -> Line2D:
    """The entry in the legend of these entries."""
    return Line2D([], [], **marked(entry, 6.0), linestyle=dashes(entry, among), label=entry.label)


#: Curves in one plot that can be told apart.
NAMED = 8
#: How those are drawn that are not named.
BACKGROUND: dict[str, Any] = {"color": RULE, "linewidth": 1.0, "zorder": 1.5}


def line(entry: Entry, among: Sequence[Entry]) -> dict[str, Any]:
    """How the entry's curve is drawn among these entries, without markers."""
    return {"color": colour(entry.family), "linestyle": dashes(entry, among), "linewidth": 1.4}


def with_legend(panels: int, named: Sequence[Entry], height: float) -> tuple[Figure, Sequence[Axes]]:
    """Panels beside each other, `height` inches tall, over a legend of these entries."""
    columns = 3 if all(len(entry.label) <= _LEGEND for entry in named) else 2
    below = 0.22 * -(-len(named) // columns)
    tall = height + below
    figure = NotebookFigure(figsize=(WIDTH, tall))
    figure.subplots_adjust(
        left=0.16 / panels, right=0.985, top=1 - 0.35 / tall, bottom=(0.66 + below) / tall, wspace=0.22
    )
    grid = figure.subplots(1, panels)
    figure.legend(handles=[handle(entry, named) for entry in named], loc="lower center", ncols=columns)
    return figure, list(grid)


def picked(entries: Sequence[Entry], worth: Callable[[Entry], float | None]) -> tuple[Entry, ...]:
    """The entries to draw in colour: all of a few, else the reference and those worth most.

    Args:
        worth: what is best, higher; None where it is not known.
    """
    if len(entries) <= NAMED:
        return tuple(entries)

    def place(entry: Entry) -> tuple[bool, float]:
        value = worth(entry)
        return not entry.record.get("reference"), math.inf if value is None else -value

    ranked = sorted(entries, key=place)
    kept = {entry.order for entry in ranked[:NAMED]}
    return tuple(entry for entry in entries if entry.order in kept)


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save inside this: our settings over matplotlib's defaults, whatever the user's are."""
    with matplotlib.rc_context():
        # `rcdefaults` would read the whole library of styles to do the same.
        matplotlib.rcParams.update(_DEFAULTS)
        matplotlib.rcParams.update(_RC)
        yield


class NotebookFigure(Figure):
    """A figure that a notebook shows as it is in the report, without pyplot and its settings."""

    def _repr_png_(self) -> bytes:
        with styled():
            return png(self, _NOTEBOOK_DPI)


def png(figure: Figure, dpi: int = _DPI) -> bytes:
    """The figure as PNG, without the version stamp."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs=_QUICK)
    return buffer.getvalue()


def svg(figure: Figure, salt: str) -> str:
    """The figure as SVG with text as text, the same bytes for the same figure and salt.

    Args:
        figure: drawn inside `styled()`.
        salt: makes the ids of this figure differ from those of its neighbours on one page.
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.hashsalt": salt, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def title_of(label: str, inches: float) -> str:
    """A panel's title, broken into lines that stay within its width."""
    return textwrap.fill(label, max(8, int(inches / _TITLE_CHARACTER)))


def shape(count: int, per_row: int) -> tuple[int, int]:
    """(rows, columns) for `count` panels, at most `per_row` beside each other, rows as equal as can be."""
    rows = -(-count // per_row)
    return rows, -(-count // rows)
