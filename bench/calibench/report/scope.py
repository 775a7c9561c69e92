"""Out of scope: how well each method tells texts of no class, and what a threshold makes of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from calibench.metrics.detection import TRUE_POSITIVE_RATE, Operating, operating, score_of
from calibench.metrics.selective import MAX_PROBABILITY
from calibench.records import Predictions
from calibench.report import style
from calibench.report.examples import stored_predictions
from calibench.report.figures import Drawing
from calibench.report.groups import Entry, Record, Section, dig
from calibench.report.numbers import fraction, tick
from calibench.report.tables import ABSENT, Cell, Column, Table, build, estimate, has_threshold
from calibench.report.words import code
from calibench.types import Evaluation

#: Points of a curve that are drawn: more cannot be told apart.
_POINTS = 400


def detection_words(section: Section) -> str:
    """What the table is about."""
    data = section.common("data")
    return (
        f"{data['out_of_scope']:,} of the {data['n']:,} texts belong to no class that the model knows; "
        "quality elsewhere is about the rest. AUROC is the probability that such a text looks less certain "
        "than one in scope, AUPR the mean precision over all recalls, FPR95 the share of texts in scope "
        "taken for out of scope where 95% of those are found. Brackets are 95% intervals over texts of "
        "either kind."
    )


def detection_table(section: Section) -> Table:
    """One row per method and score, failed methods as they are."""
    rows = [
        Entry(entry.record | {"score": score}, entry.label, entry.order)
        for entry in section.entries
        for score in (_scores(entry.record) if entry.failure is None else [MAX_PROBABILITY])
    ]
    return build("Out of scope", rows, _DETECTION)


def _scores(record: Record) -> list[str]:
    prefix = "oos_auroc."
    others = [name.removeprefix(prefix) for name in record["metrics"] if name.startswith(prefix)]
    return [MAX_PROBABILITY, *others]


def _detected(kind: str) -> Column:
    def read(record: Record) -> Cell:
        score = record["score"]
        return estimate("metrics", kind if score == MAX_PROBABILITY else f"{kind}.{score}")(record)

    title, meaning = _HEADS[kind]
    return Column(title, meaning, read)


_HEADS = {
    "oos_auroc": ("AUROC ↑", "P(a text out of scope looks less certain than one in scope)."),
    "oos_aupr": ("AUPR ↑", "Average precision, out of scope being positive."),
    "oos_fpr95": ("FPR95 ↓", "Share of texts in scope taken for out of scope where 95% of those are found."),
}
_DETECTION = (
    Column(
        "By",
        "The score: the largest probability, the entropy, or one of the method's own.",
        lambda record: Cell(record["score"].replace("_", " ")),
        text=True,
    ),
    *(_detected(kind) for kind in _HEADS),
)


def joint_words(section: Section) -> str:
    """How the thresholds were chosen."""
    joint = next(dig(e.record, "joint") for e in section.measured if dig(e.record, "joint", "threshold"))
    return (
        "Every text is answered with a class, or as out of scope where the largest probability falls below a "
        f"threshold: for each method the one with the most right answers on {joint['examples']:,} texts of "
        f"the split {code(joint['split'])}, {joint['out_of_scope']:,} of them out of scope. A split with a "
        "smaller share of them than the scored one makes for a lower threshold, and a lower recall. Brackets "
        "are 95% intervals over the scored texts, with the threshold held fixed."
    )


def joint_table(section: Section) -> Table | None:
    """The view over all classes and out of scope; None where no threshold was chosen."""
    if not has_threshold(section):
        return None
    return build("In scope or not, and which class", section.entries, _JOINT)


def _joint(name: str) -> Column:
    title, meaning = _SHARES[name]

    def read(record: Record) -> Cell:
        reason = dig(record, "joint", "reason")
        return Cell(str(reason), reason=str(reason)) if reason else estimate("joint", name)(record)

    return Column(title, meaning, read)


def _threshold(record: Record) -> Cell:
    value = dig(record, "joint", "threshold")
    return Cell(ABSENT) if value is None else Cell(fraction(value, 3), value)


_SHARES = {
    "accuracy": ("Accuracy over all ↑", "Share of all texts answered rightly, out of scope being an answer."),
    "oos_recall": ("Recall of out of scope ↑", "Share of the texts out of scope that are answered so."),
    "in_scope_accuracy": ("Accuracy in scope ↑", "Share of the texts in scope answered with their class."),
}
_JOINT = (
    Column("Threshold", "On the largest probability; below it a text is out of scope.", _threshold),
    *(_joint(name) for name in _SHARES),
)


def detection_drawing(section: Section, folder: Path) -> Drawing | None:
    """ROC and precision-recall curves by the largest probability; None without stored predictions."""
    stored = [
        (entry, found) for entry, found in stored_predictions(section, folder) if (found.label < 0).any()
    ]
    if not stored or (stored[0][1].label < 0).all():
        return None
    curves = [(entry, _operating(found)) for entry, found in stored]
    lines = -(-len(stored) // 3)
    height = 4.0 + 0.22 * lines
    figure = Figure(figsize=(style.WIDTH, height))
    figure.subplots_adjust(
        left=0.075, right=0.985, top=1 - 0.15 / height, bottom=(0.75 + 0.22 * lines) / height, wspace=0.2
    )
    left, right = figure.subplots(1, 2)
    for entry, at in curves:
        found, alarms = at.found[0] / at.found[0, -1], at.alarms[0] / at.alarms[0, -1]
        precision = at.found[0] / (at.found[0] + at.alarms[0])
        _line(left, entry, np.append(0.0, alarms), np.append(0.0, found))
        _line(right, entry, found, precision)
        first = int((found >= TRUE_POSITIVE_RATE).argmax())
        left.plot(
            alarms[first],
            found[first],
            color=style.colour(entry.order),
            marker=style.marker(entry.order),
            markersize=6,
            markeredgecolor=style.PAPER,
            markeredgewidth=0.6,
            zorder=4,
        )
    left.plot([0, 1], [0, 1], color=style.MUTED, linestyle=(0, (4, 3)), linewidth=1)
    share = float((stored[0][1].label < 0).mean())
    right.axhline(share, color=style.MUTED, linestyle=(0, (4, 3)), linewidth=1)
    for axes, words in (
        (left, ("in scope, taken for out of scope", "out of scope, found")),
        (right, ("recall of out of scope", "precision")),
    ):
        axes.set_xlabel(words[0])
        axes.set_ylabel(words[1])
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    figure.legend(handles=_handles([entry for entry, _ in curves]), loc="lower center", ncols=3)
    return Drawing(
        f"{section.slug}-scope",
        figure,
        "ROC and precision-recall curves of the detection of texts out of scope. "
        + " ".join(_words(entry) for entry, _ in curves),
        "By the largest probability. Left: upper left is better; the markers stand where 95% of the texts "
        "out of scope are found. Right: upper right is better. Dashed: guessing.",
    )


def _operating(found: Predictions) -> Operating:
    evaluation = Evaluation(found.probs, found.label)
    at = operating(score_of(evaluation), found.label < 0)
    chosen = np.unique(np.linspace(0, len(at.threshold) - 1, _POINTS).round().astype(int))
    # The exact place where 95% are found carries a marker.
    reached = at.found[0] / at.found[0, -1] >= TRUE_POSITIVE_RATE
    chosen = np.union1d(chosen, [int(reached.argmax())])
    return Operating(at.threshold[chosen], at.found[:, chosen], at.alarms[:, chosen])


def _line(axes: Axes, entry: Entry, x: np.ndarray, y: np.ndarray) -> None:
    axes.plot(x, y, color=style.colour(entry.order), linewidth=1.4)


def _handles(entries: Sequence[Entry]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=style.colour(entry.order),
            marker=style.marker(entry.order),
            markersize=6,
            label=entry.label,
        )
        for entry in entries
    ]


def _words(entry: Entry) -> str:
    values = [dig(entry.record, "metrics", kind, "value") for kind in _HEADS]
    if None in values:
        return f"{entry.label}: no values."
    auroc, aupr, fpr95 = (fraction(value, 3) for value in values)
    return f"{entry.label}: AUROC {auroc}, AUPR {aupr}, FPR95 {fpr95}."
