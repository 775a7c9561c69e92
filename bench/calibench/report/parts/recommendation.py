"""The recommendation in words: a template over what `calibench.compare.recommendation` decides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibench.compare.noninferiority import MARGIN, nll_difference
from calibench.compare.recommendation import (
    ACCURACY_MARGIN,
    AFFORDABLE,
    IMPROVABLE,
    Candidate,
    Decision,
    Judged,
    decide,
)
from calibench.compare.verdicts import FEWEST, Difference
from calibench.report.parts.equal_quality import matches
from calibench.report.points import Point
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import bound, fraction, interval, significant
from calibench.report.writing.words import code, join, names
from calibench.stats.intervals import LEVEL
from calibench.store.records import Record, dig, is_of_arrays

#: More labelled examples than anyone asks for.
MOST_LABELS = 1_000_000
_NAMES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier score",
    "ece_debiased": "debiased ECE²",
    "oos_auroc": "AUROC of texts out of scope",
}


def recommendation(section: Section, found: Sequence[Point]) -> str:
    """One paragraph: what to use, why, what it costs, what more time buys, and what is not shown."""
    return recommendation_words(section, found, decision_of(section, found))


def decision_of(section: Section, found: Sequence[Point]) -> Decision | str:
    """What the rules say of the section's methods, or the sentence that says why they cannot."""
    if not section.measured:
        return "**No recommendation**: no method finished."
    if section.reference is None:
        return "**No recommendation**: the reference failed, and nothing can be judged without it."
    if len(section.measured) == 1:
        return (
            f"**No recommendation**: {code(section.reference.label)} is the only method that finished; "
            "measure others beside it."
        )
    if section.by_confidence:
        return (
            "**No recommendation**: its rules go by the probabilities of all classes, and these are "
            "confidences of answers."
        )
    rows = _candidates(section, found)
    reference = rows.pop(section.reference.order, None)
    if reference is None or not rows:
        return (
            "**No recommendation**: it takes the stored predictions of the reference and of another method, "
            f"and there are none for {names(e.label for e in _without(section, found))}; report on the run "
            "folder."
        )
    count = len(reference.evaluation)
    if count < FEWEST:
        return (
            f"**No recommendation**: {count} examples are too few for a verdict; evaluate {FEWEST} or more."
        )
    return decide(reference, list(rows.values()))


def recommendation_words(section: Section, found: Sequence[Point], decision: Decision | str) -> str:
    """`decision_of` in words."""
    if isinstance(decision, str):
        return decision
    sentences = [*_advice(section, decision), *_fewer_passes(decision, found), *_undecided(decision)]
    left_out = _without(section, found)
    if left_out:
        sentences.append(f"Left out, for lack of predictions: {names(e.label for e in left_out)}.")
    failed = [entry.label for entry in section.entries if entry.failure is not None]
    if failed:
        sentences.append(f"Failed: {names(failed)}.")
    return " ".join(sentences)


def lost(decision: Decision) -> dict[int, tuple[str, ...]]:
    """By the order of a row, the metrics of its probabilities in which it is shown worse."""
    return {
        item.row.order: tuple(name for name in item.shown("worse") if name != "oos_auroc")
        for item in decision.judged
    }


def join_names(metrics: Sequence[str]) -> str:
    """Metrics as the sentences call them."""
    return join([_NAMES[name] for name in metrics])


def _candidates(section: Section, found: Sequence[Point]) -> dict[int, Candidate]:
    """The rows with predictions; where no cost is known, all cost the same."""
    unknown = math.inf if section.timed or section.priced else 1.0
    return {
        point.entry.order: Candidate(
            point.entry.order,
            point.entry.label,
            point.ratio.get("value") or unknown,
            point.passes,
            point.evaluation,
            point.every,
        )
        for point in found
        if point.whole and point.evaluation is not None
    }


def _without(section: Section, found: Sequence[Point]) -> list[Entry]:
    """The finished entries without predictions."""
    rows = _candidates(section, found)
    return [entry for entry in section.measured if entry.order not in rows]


def _advice(section: Section, decision: Decision) -> list[str]:
    reference, pick, more = code(decision.reference.label), decision.pick, decision.more
    cost = "price" if section.priced else "time"
    if pick is not None:
        sentences = [f"**Use {code(pick.row.label)}.**", *_evidence(pick, reference, section)]
        if more is not None:
            sentences.append(
                f"If {cost} matters less, use {code(more.row.label)}: {_gain(more, pick, cost)}."
            )
        elif any(item.qualifies and item.row.cost > pick.row.cost for item in decision.judged):
            sentences.append(f"Nothing that takes more {cost} is shown to be worth it.")
        return sentences
    if more is not None:
        times = significant(more.row.cost)
        return [
            f"**Stay with {reference}, unless {times} times its {cost} is acceptable: then use "
            f"{code(more.row.label)}.**",
            *_evidence(more, reference, section),
            f"Nothing that takes up to {AFFORDABLE:g} times the reference's {cost} qualifies.",
        ]
    others = len(decision.judged)
    which = "the other method is not" if others == 1 else f"none of the {others} other methods is"
    worth = f", worth its {cost}" if section.timed or section.priced else ""
    found = f"**Stay with {reference}**: {which} shown to be better{worth} and no worse in anything."
    return [found, *_unknown_cost(section)]


def _unknown_cost(section: Section) -> list[str]:
    if section.timed or section.priced:
        return []
    option = "prices=" if is_of_arrays(section.entries[0].record) else "--prices"
    sweep = "the same sweep without `--quality-only`"
    how = f"`{option}`" if section.from_files else sweep
    return [f"What an answer costs is not known: this goes by quality alone ({how} says it)."]


def _evidence(item: Judged, reference: str, section: Section) -> list[str]:
    sentences = [f"On the same examples it is shown better than {reference} in {join(shown_better(item))}."]
    lost = max(0.0, -item.accuracy_floor)
    sentences.append(
        f"A loss of more than {points_of_accuracy(lost)} of accuracy is ruled out."
        if lost
        else "It loses no accuracy."
    )
    if not section.timed:
        return [*sentences, *_price_words(_record(section, item), section)]
    return [*sentences, f"It takes {_time_words(_record(section, item))}."]


def _record(section: Section, item: Judged) -> Record:
    return next(entry.record for entry in section.measured if entry.order == item.row.order)


def shown_better(item: Judged) -> list[str]:
    """Each metric in which the row is shown better, with its change: `NLL (down by .0971 [.029, .181])`."""
    return [_change(name, item.differences[name]) for name in item.shown("better")]


def costs_words(section: Section, item: Judged) -> str:
    """What the row costs, as what follows "for"."""
    record = _record(section, item)
    if section.timed:
        return _time_words(record)
    if section.priced:
        return f"{significant(dig(record, 'cost_ratio', 'value'))} times the reference's price"
    return "a cost that is not known"


def _time_words(record: Record) -> str:
    text = f"{interval(record['cost_ratio'], significant, significant)} times the reference's time"
    rate = dig(record, "timing", "throughput", "sentences_per_s", "value")
    text += f", {significant(1000.0 / rate)} ms per sentence" if rate else ""
    examples = dig(record, "fit", "examples")
    return text + (f", and {examples:,} labelled examples to be fitted on" if examples else "")


def _price_words(record: Record, section: Section) -> list[str]:
    if not section.priced:
        return _unknown_cost(section)
    price, ratio = dig(record, "scored", "price_per_row"), dig(record, "cost_ratio", "value")
    return [f"It costs {significant(ratio)} times the reference's price, {significant(price)} per row."]


def _change(name: str, difference: Difference) -> str:
    within = difference.adjusted
    value, low, high = difference.difference.value, within.low, within.high
    assert value is not None
    assert low is not None
    assert high is not None
    ends = (low, high) if value > 0.0 else (-high, -low)
    way = "up" if value > 0.0 else "down"
    return f"{_NAMES[name]} ({way} by {fraction(abs(value))} [{bound(ends[0])}, {bound(ends[1])}])"


def _gain(more: Judged, pick: Judged, cost: str) -> str:
    lower = nll_difference(pick.row.evaluation, more.row.evaluation, 0.5 + LEVEL / 2.0)
    return (
        f"its NLL is lower by another {fraction(lower.value)} [{bound(lower.low)}, {bound(lower.high)}], for "
        f"{significant(more.row.cost)} times the reference's {cost}"
    )


def _fewer_passes(decision: Decision, found: Sequence[Point]) -> list[str]:
    """Whether a part of the passes of the row that is named first does as well."""
    first = decision.pick or decision.more
    own = [point for point in found if first is not None and point.entry.order == first.row.order]
    whole = next((point for point in own if point.whole and point.evaluation is not None), None)
    if whole is None:
        return []
    (match,) = matches(own, whole).values()
    if match.point is whole:
        return []
    cost = match.point.ratio.get("value")
    return [
        f"The first {match.point.passes:g} of its {whole.passes:g} passes are shown to be no worse, by "
        f"{fraction(MARGIN, 2)} in NLL{f', for {significant(cost)} times the time' if cost else ''}."
    ]


def _undecided(decision: Decision) -> list[str]:
    """What is not shown, and what would have been; what is shown but does not qualify."""
    first = decision.pick or decision.more
    sentences = []
    if first is not None and decision.alike:
        alike = [item.row.label for item in decision.alike]
        sentences.append(f"Not told apart from {code(first.row.label)} in NLL: {names(alike)}.")
    silent = [item for item in decision.judged if not item.shown("better") and not item.shown("worse")]
    if silent:
        widest = max(_half_width(item.differences["nll"]) for item in silent)
        sentences.append(
            f"For {names(item.row.label for item in silent)} no difference is shown; one of "
            f"{fraction(widest, 3)} in NLL would have been."
        )
        sentences += _needed(decision, silent)
    if decision.slight:
        slight = names(item.row.label for item in decision.slight)
        sentences.append(f"Shown better, but by less than {fraction(MARGIN, 2)} in NLL: {slight}.")
    beyond = [item for item in decision.judged if item is not first and "oos_auroc" in item.shown("better")]
    if beyond:
        sentences.append(f"Shown better at telling texts out of scope: {names(i.row.label for i in beyond)}.")
    worse = [item for item in decision.judged if item.shown("worse")]
    sentences += [f"Shown worse in something: {names(item.row.label for item in worse)}."] if worse else []
    risky = [
        item
        for item in decision.judged
        if item.improved and not item.shown("worse") and not item.keeps_accuracy
    ]
    if risky:
        sentences.append(
            f"Shown better, but a loss of more than {points_of_accuracy(ACCURACY_MARGIN)} of accuracy is not "
            f"ruled out: {names(item.row.label for item in risky)}."
        )
    return sentences


def _needed(decision: Decision, silent: Sequence[Judged]) -> list[str]:
    """How many labels would show the difference that is the nearest to being shown, were it the true one."""
    if decision.pick is not None or decision.more is not None:
        return []
    size, n = {}, len(decision.reference.evaluation)
    for item in silent:
        for name in IMPROVABLE:
            seen, least = item.differences[name].difference.value, item.differences[name].detectable
            if seen is not None and least is not None and seen < 0.0:
                size[item.row.label, name] = n * (least / seen) ** 2
    if not size:
        return []
    (label, name), most = min(size.items(), key=lambda pair: pair[1])
    if most > MOST_LABELS:
        return [f"Were what is seen the truth, more than {MOST_LABELS:,} labelled examples would be needed."]
    return [
        f"Were what is seen the truth, about {int(float(f'{most:.2g}')):,} labelled examples would show that "
        f"{code(label)} has the lower {_NAMES[name]}, four times in five."
    ]


def _half_width(difference: Difference) -> float:
    low, high = difference.adjusted.low, difference.adjusted.high
    assert low is not None
    assert high is not None
    return (high - low) / 2.0


def points_of_accuracy(share: float) -> str:
    """`1 percentage point`, rounded up to a tenth."""
    tenths = math.ceil(1000.0 * share - 1e-9) / 10.0
    return f"{tenths:g} percentage {'point' if tenths == 1.0 else 'points'}"
