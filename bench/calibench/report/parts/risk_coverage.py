"""Risk-coverage curves: errors among the most certain examples, by how many of them are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from calibench.metrics.selective import own_score, ranked
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.points import evaluation_of
from calibench.report.sections import Entry, Section, is_copy
from calibench.report.stored import has_predictions
from calibench.report.writing.numbers import interval, tick
from calibench.store.predictions import load_predictions
from calibench.store.records import dig
from calibench.types import FloatArray

#: Points of a curve: more than can be told apart.
_POINTS = 500
#: Below this share of the examples a curve hangs on a handful of them.
_LEAST = 0.01
_WIDTH, _HEIGHT = 5.6, 4.2


def risk_coverage_drawing(section: Section, folder: Path) -> Drawing | None:
    """Error rate among the most certain against the share kept, a curve per method.

    Each method ranks by its own score, as in the table of selective prediction. None where no predictions
    are stored beside the records.
    """
    stored = [
        entry for entry in section.measured if has_predictions(entry, folder) and not is_copy(entry.record)
    ]
    if not stored:
        return None
    named = style.picked(stored, lambda entry: _negative(dig(entry.record, "metrics", "aurc", "value")))
    below = 0.22 * -(-len(named) // 2)
    tall = _HEIGHT + below
    figure = style.NotebookFigure(figsize=(_WIDTH, tall))
    figure.subplots_adjust(left=0.13, right=0.97, top=1 - 0.2 / tall, bottom=(0.62 + below) / tall)
    axes = figure.subplots()
    coloured = {entry.order for entry in named}
    for entry in stored:
        coverage, risk = _curve(entry, folder)
        axes.plot(
            coverage, risk, **(style.line(entry, named) if entry.order in coloured else style.BACKGROUND)
        )
    axes.set(xlabel="coverage: share of the examples kept", ylabel="risk: error rate among them")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    figure.legend(handles=[style.handle(entry, named) for entry in named], loc="lower center", ncols=2)
    return Drawing(
        f"{section.slug}-risk-coverage",
        figure,
        "Risk-coverage curves. " + " ".join(map(_words, stored)),
        "Examples are kept from the most certain on, by each method's own score. AURC is the mean height.",
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _curve(entry: Entry, folder: Path) -> tuple[FloatArray, FloatArray]:
    """Coverage and risk at `_POINTS` places at the most, float64 [P] each."""
    scored = evaluation_of(entry, load_predictions(folder, entry.record)).in_scope()
    curve = ranked(scored, own_score(scored)).curve
    n = len(scored)
    first = min(n - 1, int(_LEAST * n))
    places = np.unique(np.linspace(first, n - 1, _POINTS).astype(np.intp))
    return curve.coverage[places], curve.risk[places]


def _words(entry: Entry) -> str:
    area = dig(entry.record, "metrics", "aurc")
    return f"{entry.label}: AURC {interval(area)}." if area and area.get("value") is not None else ""
