"""The recommendation for texts out of scope, in words; `calibench.compare.detectors` decides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibench.compare.detectors import Choice, Detector, choose
from calibench.compare.recommendation import Decision
from calibench.metrics.detection import placements, score_of
from calibench.report.parts.recommendation import join_names, lost
from calibench.report.points import Point
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import bound, fraction, interval, seconds, significant
from calibench.report.writing.words import code, join, names
from calibench.store.records import dig


def detector_choice(found: Sequence[Point], decision: Decision | None = None) -> Choice | None:
    """The choice among all methods with predictions; None where too few texts are of a kind.

    Args:
        decision: about their probabilities; what it shows worse is not chosen where there is another.
    """
    loses = {} if decision is None else lost(decision)
    detectors = []
    for point in found:
        every = point.every
        if not point.whole or every is None or (every.labels < 0).all() or (every.labels >= 0).all():
            continue
        record = point.entry.record
        detectors.append(
            Detector(
                point.entry.order,
                point.ratio.get("value") or math.inf,
                point.passes,
                bool(record.get("fit")),
                bool(record.get("reference")),
                placements(score_of(every), every.labels < 0),
                loses.get(point.entry.order, ()),
            )
        )
    return choose(detectors)


def detector_words(section: Section, found: Choice) -> str:
    """One paragraph: what to tell texts out of scope by, which methods are as good, and what it costs."""
    entries = {entry.order: entry for entry in section.measured}
    best, pick = found.best, found.pick
    reference = pick.reference
    sentences = [
        f"**For texts out of scope, {'stay with' if reference else 'use'} {_named(entries[pick.order])}.**",
        f"Of {len(found.less) + 1} methods, each by its own score, {code(entries[best.order].label)} has the "
        f"highest AUROC, {_auroc(entries[best.order])}.",
    ]
    others = [entries[item.order].label for item in found.alike if item is not pick]
    if pick is not best:
        also = f", and neither {'is' if len(others) == 1 else 'are'} {names(others)}" if others else ""
        sentences.append(
            f"{code(entries[pick.order].label)} ({_auroc(entries[pick.order])}) is not told apart "
            f"from it{also}; {_cheapest(found)}."
        )
    elif others:
        sentences.append(f"Not told apart from it: {names(others)}; {_cheapest(found)}.")
    else:
        sentences.append("Every other method is shown to be worse.")
    sentences += _losses(entries, found)
    if not reference:
        sentences += [*_over_reference(section, found), _cost(entries[pick.order])]
    return " ".join(sentences)


def _cheapest(found: Choice) -> str:
    which = "that lose nothing else" if found.passed_over else ""
    return " ".join(["it is the cheapest of these", which]).rstrip()


def _losses(entries: dict[int, Entry], found: Choice) -> list[str]:
    """What the pick loses in its probabilities, or which were passed over for that."""
    if found.pick.loses:
        return [f"Its probabilities are shown worse than the reference's in {join_names(found.pick.loses)}."]
    passed = [
        f"{code(entries[item.order].label)} ({join_names(item.loses)})"
        for item in found.passed_over
        if item.order in entries
    ]
    return (
        [f"Passed over, as shown worse than the reference in something else: {join(passed)}."]
        if passed
        else []
    )


def _named(entry: Entry) -> str:
    score = "the largest probability" if entry.score is None else f"the score {code(entry.score)}"
    return code(entry.label) if entry.score == entry.label else f"{code(entry.label)}, by {score}"


def _auroc(entry: Entry) -> str:
    estimate = dig(entry.record, "metrics", "oos_auroc")
    return interval(estimate) if estimate and estimate.get("value") is not None else "unknown"


def _over_reference(section: Section, found: Choice) -> list[str]:
    over = found.pick_over_reference
    if over is None or section.reference is None:
        return []
    reference = code(section.reference.label)
    if not over.shown:
        return [f"It is not told apart from {reference} either."]
    return [
        f"Over {reference} it gains {fraction(over.value)} [{bound(over.low)}, {bound(over.high)}]."
        if over.value > 0.0
        else f"It is worse than {reference}."
    ]


def _cost(entry: Entry) -> str:
    ratio = entry.record.get("cost_ratio") or {}
    if ratio.get("value") is None:
        return "What it costs is not known."
    text = f"It takes {interval(ratio, significant, significant)} times the reference's time"
    fit = entry.record.get("fit") or {}
    if not fit.get("examples"):
        return f"{text}."
    return f"{text}, and {seconds(fit['seconds'])} s to be fitted on {fit['examples']:,} labelled examples."
