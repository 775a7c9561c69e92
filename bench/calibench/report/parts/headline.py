"""The three lines that open a report: what to use, what it buys and costs, and what is left open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibench.compare.detectors import Choice
from calibench.compare.open_questions import Kind, Question, open_questions
from calibench.compare.recommendation import ACCURACY_MARGIN, Decision
from calibench.report.parts.detectors import detector_choice
from calibench.report.parts.recommendation import (
    MOST_LABELS,
    costs_words,
    decision_of,
    points_of_accuracy,
    shown_better,
)
from calibench.report.points import Point, points
from calibench.report.sections import Section
from calibench.report.writing.numbers import significant
from calibench.report.writing.words import code, join

HEADS = ("Use", "It buys and costs", "Undecided")


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the rules say of a section.

    Attributes:
        points: of the methods with probabilities of their own.
        decision: about those, or the sentence that says why there is none.
        choice: what to tell texts out of scope by; None where there are too few.
    """

    points: tuple[Point, ...]
    decision: Decision | str
    choice: Choice | None


def judge(section: Section, folder: Path) -> Judgement:
    """Apply the rules to the predictions that are stored beside the records."""
    everything = points(section, folder)
    copies = {entry.order for entry in section.by_score_alone}
    placed = tuple(point for point in everything if point.entry.order not in copies)
    decision = decision_of(section.distinct(), placed)
    choice = detector_choice(everything, None if isinstance(decision, str) else decision)
    return Judgement(placed, decision, choice)


def headline(section: Section, judged: Judgement) -> tuple[str, str, str]:
    """A line for each of `HEADS`, each one or two sentences."""
    decision = judged.decision
    if isinstance(decision, str):
        why = decision.partition(": ")[2]
        return _with_scope(f"no recommendation: {why}", section, judged), "not known.", "all of it."
    return (
        _with_scope(_use(section, decision), section, judged),
        _buys(section, decision),
        _undecided(decision, open_questions(decision)),
    )


def _use(section: Section, decision: Decision) -> str:
    reference, pick, more = code(decision.reference.label), decision.pick, decision.more
    what = "price" if section.priced else "time"
    if pick is not None:
        also = f"; {code(more.row.label)}, if {what} matters less" if more else ""
        return f"{code(pick.row.label)}{also}."
    if more is not None:
        times = significant(more.row.cost)
        return f"{reference} as before; {code(more.row.label)}, if {times} times its {what} is acceptable."
    return f"{reference}, as before."


def _with_scope(text: str, section: Section, judged: Judgement) -> str:
    if judged.choice is None:
        return text
    label = next(entry.label for entry in section.measured if entry.order == judged.choice.pick.order)
    return f"{text} To tell texts out of scope, {code(label)}."


def _buys(section: Section, decision: Decision) -> str:
    first = decision.pick or decision.more
    if first is None:
        others = len(decision.judged)
        none = "the other method is not" if others == 1 else f"none of the {others} others is"
        return f"nothing, and nothing more: {none} shown to be better and no worse in anything."
    return f"{join(shown_better(first))}, for {costs_words(section, first)}."


def _undecided(decision: Decision, found: Sequence[Question]) -> str:
    if not found:
        return "nothing: every other method is shown to differ."
    first = decision.pick or decision.more
    than = code((first.row if first else decision.reference).label)
    asked: dict[Kind, str] = {
        "first": f"differ from {than} in NLL",
        "reference": f"differ from {code(decision.reference.label)} at all",
        "accuracy": f"cost more than {points_of_accuracy(ACCURACY_MARGIN)} of accuracy",
    }
    parts = []
    for kind, what in asked.items():
        labels = [question.row for question in found if question.kind == kind]
        parts += [f"whether {_few(labels)} {_agree(what, len(labels))}"] if labels else []
    return f"{'; '.join(parts)}. {_settled(found)}"


def _few(labels: Sequence[str]) -> str:
    """Names of two, else the first and how many others."""
    return join(
        [code(label) for label in labels]
        if len(labels) < 3
        else [code(labels[0]), f"{len(labels) - 1} others"]
    )


def _agree(what: str, count: int) -> str:
    """The verb in front, for one or for several."""
    verb, _, rest = what.partition(" ")
    return f"{verb}s {rest}" if count == 1 else what


def _settled(found: Sequence[Question]) -> str:
    """How many more examples settle the first question and half of them, were what is seen the truth."""
    nearest, half = found[0], found[(len(found) - 1) // 2]
    if nearest.more > MOST_LABELS:
        return f"More than {MOST_LABELS:,} more labelled examples would be needed to settle any of it."
    text = f"{_about(nearest.more)} more labelled examples would settle it"
    if len(found) > 1:
        text += f" for {code(nearest.row)}"
        if half.more > nearest.more:
            text += f", {_about(half.more).lower()} half of all this"
    return f"{text} (four times in five, were what is seen the truth)."


def _about(more: float) -> str:
    if more > MOST_LABELS:
        return f"More than {MOST_LABELS:,}"
    return f"About {max(1, math.ceil(float(f'{more:.2g}'))):,}"
