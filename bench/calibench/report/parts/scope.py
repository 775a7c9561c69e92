"""Out of scope: how well each method tells texts of no class, and what a threshold makes of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from calibench.compare.detectors import Choice
from calibench.metrics.detection import TRUE_POSITIVE_RATE, Operating, operating, score_of
from calibench.metrics.selective import MAX_PROBABILITY
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.parts.selective import BY
from calibench.report.points import evaluation_of
from calibench.report.sections import Entry, Section
from calibench.report.stored import stored_predictions
from calibench.report.writing.numbers import fraction, signed, tick
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build, estimate, has_threshold
from calibench.report.writing.words import code
from calibench.store.predictions import Predictions
from calibench.store.records import Record, dig

#: Points of a curve that are drawn: more cannot be told apart.
_POINTS = 400


def detection_words(section: Section, found: Choice | None) -> str:
    """What the table is about."""
    data = section.common("data")
    text = (
        f"{data['out_of_scope']:,} of the {data['n']:,} texts belong to no class that the model knows; "
        "quality elsewhere is about the rest. Each method ranks by its own score, or by its largest "
        "probability where it has none. AUROC is the probability that such a text looks less certain "
        "than one in scope, AUPR the mean precision over all recalls, FPR95 the share of texts in scope "
        "taken for out of scope where 95% of those are found. Brackets are 95% intervals over texts of "
        "either kind."
    )
    if found is None:
        return text
    return (
        f"{text} The last column says which methods are told apart from the best, by DeLong's paired test; "
        f"with 95% probability none of its verdicts is a false alarm (Holm, over all {found.pairs} pairs of "
        "methods)."
    )


def detection_table(section: Section, found: Choice | None) -> Table:
    """One row per method, by the score by which it ranks, failed methods as they are."""
    rows = [replace(entry, record=entry.record | {"by": None}) for entry in section.entries]
    columns = (BY, *(_detected(kind) for kind in _HEADS))
    if found is not None:
        cells = {entry.record["cell"]: _less(found, entry.order) for entry in section.entries}
        meaning = "AUROC less the best's, and whether a test tells the two apart."
        columns = (
            *columns,
            Column("Less the best", meaning, lambda record: cells[record["cell"]], text=True),
        )
    return build("Out of scope", rows, columns)


def other_scores_table(section: Section) -> Table | None:
    """One row per method and each further score; None where there is none.

    Of a method that adds a score alone, the others are those of the plain softmax and left out.
    """
    copies = {entry.order for entry in section.by_score_alone}
    rows = [
        replace(entry, record=entry.record | {"by": score})
        for entry in section.measured
        if entry.order not in copies
        for score in _others(entry.record)
    ]
    if not rows:
        return None
    return build("Out of scope by other scores", rows, (BY, *(_detected(kind) for kind in _HEADS)))


def _others(record: Record) -> list[str]:
    prefix = "oos_auroc."
    return [name.removeprefix(prefix) for name in record["metrics"] if name.startswith(prefix)]


def _detected(kind: str) -> Column:
    def read(record: Record) -> Cell:
        score = record["by"]
        return estimate("metrics", kind if score is None else f"{kind}.{score}")(record)

    title, meaning = _HEADS[kind]
    return Column(title, meaning, read)


def _less(found: Choice, order: int) -> Cell:
    if order == found.best.order:
        return Cell("best", 0.0)
    less = found.less.get(order)
    if less is None:
        return Cell(ABSENT)
    word, tone = ("worse", "wrong") if less.shown else ("not told apart", None)
    return Cell(f"{signed(less.value)} {word}", less.value, span=(less.low, less.high), tone=tone)


_HEADS = {
    "oos_auroc": ("AUROC ↑", "P(a text out of scope looks less certain than one in scope)."),
    "oos_aupr": ("AUPR ↑", "Average precision, out of scope being positive."),
    "oos_fpr95": ("FPR95 ↓", "Share of texts in scope taken for out of scope where 95% of those are found."),
}


def joint_words(section: Section) -> str:
    """How the thresholds were chosen."""
    joint = next(dig(e.record, "joint") for e in section.measured if dig(e.record, "joint", "threshold"))
    return (
        "Every text is answered with a class, or as out of scope where the largest probability falls below a "
        "threshold, or the method's own score lies above one: for each method the threshold with the most "
        f"right answers on {joint['examples']:,} texts of "
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
    if value is None:
        return Cell(ABSENT)
    side = "<" if dig(record, "joint", "score") in (None, MAX_PROBABILITY) else ">"
    return Cell(f"{side} {fraction(value, 3)}", value)


_SHARES = {
    "accuracy": ("Accuracy over all ↑", "Share of all texts answered rightly, out of scope being an answer."),
    "oos_recall": ("Recall of out of scope ↑", "Share of the texts out of scope that are answered so."),
    "in_scope_accuracy": ("Accuracy in scope ↑", "Share of the texts in scope answered with their class."),
}
_JOINT = (
    Column(
        "Out of scope where",
        "The threshold: below it on the largest probability, above it on a score of the method's own.",
        _threshold,
    ),
    *(_joint(name) for name in _SHARES),
)


def detection_drawing(section: Section, folder: Path) -> Drawing | None:
    """ROC and precision-recall curves by each method's score; None without stored predictions."""
    stored = [(entry, found) for entry, found in stored_predictions(section, folder)]
    if not stored or not (stored[0][1].label < 0).any() or (stored[0][1].label < 0).all():
        return None
    curves = {entry.order: _operating(entry, found) for entry, found in stored}
    entries = [entry for entry, _ in stored]
    named = style.picked(entries, lambda entry: dig(entry.record, "metrics", "oos_auroc", "value"))
    figure, (left, right) = style.with_legend(2, named, height=4.0)
    for entry in entries:
        at, colour = curves[entry.order], entry in named
        found, alarms = at.found[0] / at.found[0, -1], at.alarms[0] / at.alarms[0, -1]
        precision = at.found[0] / (at.found[0] + at.alarms[0])
        look = style.line(entry, named) if colour else style.BACKGROUND
        left.plot(np.append(0.0, alarms), np.append(0.0, found), **look)
        right.plot(found, precision, **look)
        first = int((found >= TRUE_POSITIVE_RATE).argmax())
        if colour:
            left.plot(alarms[first], found[first], **style.marked(entry, 6), zorder=4)
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
    others = len(entries) - len(named)
    return Drawing(
        f"{section.slug}-scope",
        figure,
        "ROC and precision-recall curves of the detection of texts out of scope. "
        + " ".join(_words(entry) for entry in entries),
        "By each method's score. Left: upper left is better; the markers stand where 95% of the texts "
        "out of scope are found. Right: upper right is better. Dashed and straight: guessing."
        + (f" In grey the {others} methods with lower AUROCs." if others else ""),
    )


def _operating(entry: Entry, found: Predictions) -> Operating:
    at = operating(score_of(evaluation_of(entry, found)), found.label < 0)
    chosen = np.unique(np.linspace(0, len(at.threshold) - 1, _POINTS).round().astype(int))
    # The exact place where 95% are found carries a marker.
    reached = at.found[0] / at.found[0, -1] >= TRUE_POSITIVE_RATE
    chosen = np.union1d(chosen, [int(reached.argmax())])
    return Operating(at.threshold[chosen], at.found[:, chosen], at.alarms[:, chosen])


def _words(entry: Entry) -> str:
    values = [dig(entry.record, "metrics", kind, "value") for kind in _HEADS]
    if None in values:
        return f"{entry.label}: no values."
    auroc, aupr, fpr95 = (fraction(value, 3) for value in values)
    return f"{entry.label}: AUROC {auroc}, AUPR {aupr}, FPR95 {fpr95}."
