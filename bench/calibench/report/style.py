"""How every figure looks: colours, markers, type, and output that is the same byte for byte."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#24292f"
MUTED = "#6e7781"
RULE = "#d0d7de"
PAPER = "#ffffff"

#: The reference is grey; the others follow Okabe and Ito (2008), without the yellow that white paper
#: swallows, continued with Paul Tol's muted scheme.
COLOURS = (
    "#595959",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#882255",
    "#999933",
    "#332288",
)
#: The same on dark paper, in the same order; used by the page only.
DARK_COLOURS = (
    "#a6adb4",
    "#4ba6e3",
    "#f0813d",
    "#2ec49c",
    "#e39ac4",
    "#f2b53a",
    "#8ccdf5",
    "#dc74a6",
    "#c3c35e",
    "#a195f2",
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

WIDTH = 9.0
#: Inches: mean width of a character of a title, with something to spare, and the height of a line.
_TITLE_CHARACTER = 0.086
TITLE_LINE = 0.155
_DPI = 200
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
    "font.family": ["DejaVu Sans"],
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


def colour(order: int) -> str:
    """The colour of the entry at a position of its section, 0 being the reference."""
    return COLOURS[order % len(COLOURS)]


def marker(order: int) -> str:
    """The marker of the same."""
    return MARKERS[order % len(MARKERS)]


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save inside this: our settings over matplotlib's defaults, whatever the user's are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def png(figure: Figure) -> bytes:
    """The figure as PNG, without the version stamp."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, salt: str, *, text: bool = False) -> str:
    """The figure as SVG, the same bytes for the same figure and salt.

    Args:
        figure: drawn inside `styled()`.
        salt: makes the ids of this figure differ from those of its neighbours on one page.
        text: keep text as text, to be set in the reader's font, instead of as outlines.
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.hashsalt": salt, "svg.fonttype": "none" if text else "path"}
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
