"""Prediction sets: how often they hold the label, how large they are, and what is promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from calibench.report.sections import Section
from calibench.report.writing.numbers import fraction, percent, significant
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build, estimate, has_scope
from calibench.report.writing.words import code
from calibench.store.records import Record, dig

Fields = dict[str, Any]


def has_sets(section: Section) -> bool:
    """Whether any row has prediction sets."""
    return bool(_every(section))


def _every(section: Section) -> list[Fields]:
    return [fields for entry in section.measured for fields in entry.record.get("conformal") or []]


def made_of(section: Section) -> list[Fields]:
    return [fields for fields in _every(section) if fields.get("reason") is None]


def verdict(fields: Fields) -> str:
    """ "below" or "above" where the coverage is not what the sets are for, else nothing.

    With a calibration split, outside of what chance alone does in 95% of runs. Cross-fitted, where all of the
    interval lies below the level, or above what it is rounded up to.
    """
    value, low, high = (fields["coverage"][key] for key in ("value", "low", "high"))
    if value is None:
        return ""
    chance = fields["chance"]
    if chance["low"] is not None:
        return "below" if value < chance["low"] else "above" if value > chance["high"] else ""
    return "below" if high < fields["level"] else "above" if low > fields["expected"] else ""


def name_of(fields: Fields, levels: int) -> str:
    """`LAC`, `APS by class`, with the level where there are several."""
    words = [str(fields["kind"]).upper(), *(["by class"] if fields["class_conditional"] else [])]
    return " ".join([*words, *([_level(fields)] if levels > 1 else [])])


def _level(fields: Fields) -> str:
    return f"{100 * fields['level']:g}%"


def levels_of(fields: Iterable[Fields]) -> list[str]:
    return list(dict.fromkeys(_level(item) for item in fields))


def sets_table(section: Section) -> Table | None:
    """One row per method and kind of sets, failed methods as they are; None where there are no sets."""
    if not has_sets(section):
        return None
    levels = len(levels_of(_every(section)))
    rows = [
        replace(entry, record=entry.record | {"sets": fields and fields | {"name": name_of(fields, levels)}})
        for entry in section.entries
        for fields in (entry.record.get("conformal") or []) or [{}]
        if fields or entry.failure is not None
    ]
    cost = (_COST,) if section.timed or section.priced else ()
    columns = (*_COLUMNS, *(_BEYOND if has_scope(section) else ()), *cost)
    return build("Prediction sets", rows, columns)


def _field(*path: str, value: Any = fraction, end: Any = None) -> Any:
    def read(record: Record) -> Cell:
        reason = record["sets"].get("reason")
        if reason is not None:
            return Cell(str(reason), reason=str(reason))
        return estimate("sets", *path, value=value, end=end)(record)

    return read


def _coverage(record: Record) -> Cell:
    cell: Cell = _field("coverage", value=lambda value: fraction(value, 3), end=lambda end: fraction(end, 3))(
        record
    )
    if cell.reason is not None:
        return cell
    mark = verdict(record["sets"])
    return Cell(f"{cell.text} {mark}".strip(), cell.sort, None, cell.span)


def _worst(record: Record) -> Cell:
    found = dig(record, "sets", "worst_class")
    if found is None:
        return Cell(ABSENT)
    return Cell(f"{fraction(found['value'], 3)} ({found['label']}, n = {found['examples']})", found["value"])


def short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else significant(value)


_COLUMNS = (
    Column(
        "Sets", "The score that decides which classes are in.", lambda r: Cell(r["sets"]["name"]), text=True
    ),
    Column("Coverage", "Share of examples in scope whose set holds their label.", _coverage),
    Column(
        "Mean size ↓",
        "Number of classes in a set, on average.",
        _field("mean_size", value=short, end=short),
    ),
    Column("One class ↑", "Share of the sets with exactly one class.", _field("singletons", value=percent)),
    Column("Empty", "Share of the sets with none.", _field("empty", value=percent)),
    Column("Worst class", "The class whose labels are held least often, and how many there are.", _worst),
    Column(
        "By chance",
        "The worst class there would be were each covered at the level: mean [2.5%, 97.5%].",
        _field("worst_class", "chance", value=lambda v: fraction(v, 3), end=lambda v: fraction(v, 3)),
    ),
)
_BEYOND = (
    Column(
        "Size out of scope",
        "Mean number of classes in the sets of texts that belong to none.",
        _field("out_of_scope", "mean_size", value=short, end=short),
    ),
    Column("Empty out of scope", "Share of those with none.", _field("out_of_scope", "empty", value=percent)),
)
_COST = Column(
    "Cost ratio ↓",
    "Of the method, over the reference's.",
    estimate("cost_ratio", value=significant, end=None),
)


def sets_words(section: Section) -> str:
    """What is promised, what is not, and how to read the coverage."""
    made = made_of(section)
    if not made:
        return "No prediction sets could be made."
    levels = " or ".join(levels_of(made))
    sentences = [
        f"A set is to hold the label with probability {levels} or more, whatever the model is worth."
    ]
    by_split = [item for item in made if item["folds"] is None]
    if by_split:
        sentences.append(_split_words(by_split[0]))
    crossed = [item for item in made if item["folds"] is not None]
    if crossed:
        sentences.append(_crossed_words(crossed[0], section))
    sentences.append("Brackets are 95% intervals for new examples with the same thresholds.")
    if any(verdict(item) for item in made):
        sentences.append("Coverage that is not what was promised is marked `below` or `above`.")
    sentences += [*_promises(made), *_remarks(section, made)]
    return " ".join(sentences)


def _split_words(fields: Fields) -> str:
    chance = fields["chance"]
    text = (
        f"Thresholds come from {fields['examples']:,} examples of the split {code(fields['split'])} (split "
        "conformal prediction); the promise holds on average over such splits, if they are drawn like what "
        "is scored."
    )
    if chance["low"] is not None:
        text += (
            f" By the luck of this one and of the scored examples, exactly right sets would read between "
            f"{fraction(chance['low'], 3)} and {fraction(chance['high'], 3)} in 95 of 100 runs."
        )
    return text


def _crossed_words(fields: Fields, section: Section) -> str:
    text = (
        f"Thresholds of each of {fields['folds']} folds come from the other folds of the "
        f"{fields['examples']:,} scored examples. What one fold lacks the others make up for, so that their "
        "coverage is near the level by construction: it proves nothing, and what tells methods apart is the "
        "size of the sets and the coverage of single classes."
    )
    if section.from_files:  # which have one split
        return text
    return f"{text} A calibration split (`--calibration-split`) puts coverage to the test."


def _promises(made: Sequence[Fields]) -> list[str]:
    """What the promise is about, and which rows are without."""
    sentences = []
    if any(not item["class_conditional"] for item in made):
        sentences.append(
            "The promise is about all examples together: single classes, or hard texts, may be covered less. "
            "The worst of many classes reads low by chance alone, as the column beside it says."
        )
    by_class = next((item for item in made if item["class_conditional"]), None)
    if by_class is not None:
        lacking = max(item["without_own"] for item in made if item["class_conditional"])
        sentences.append(
            "By class, the promise is about each class, on average over calibration examples; with few of "
            "them the level is rounded up, and the coverage of one class may still be far from it."
        )
        if lacking:
            sentences.append(
                f"{lacking:,} classes have too few examples for a threshold of their own: they get that of "
                "all classes, and no promise."
            )
    if any(item["guarantee"] is None for item in made):
        sentences.append(
            "Rows with a post-hoc step fit it on the labels that set the thresholds, and have no such "
            "promise: only that of a step which no fold moves much is near the level."
        )
    return sentences


def _remarks(section: Section, made: Sequence[Fields]) -> list[str]:
    sentences = []
    if any(_infinite(item["thresholds"]) for item in made):
        sentences.append(
            "Where there are too few examples for a threshold at this level, every class is in the set."
        )
    empty = any((item["empty"]["value"] or 0.0) > 0.0 for item in made)
    best = max((dig(e.record, "metrics", "accuracy", "value") or 0.0 for e in section.measured), default=0.0)
    if empty and best > min(item["level"] for item in made):
        sentences.append(
            f"A model that is right more often than the level ({fraction(best, 3)}) keeps the promise with "
            "sets that are empty now and then; a higher level makes more of it."
        )
    if any(item["kind"] == "raps" for item in made):
        found = next(item["parameters"] for item in made if item["kind"] == "raps")
        few = len(section.common("data").get("labels") or []) <= found["k_reg"]
        sentences.append(
            f"RAPS adds {found['lambda']:g} for every rank beyond {found['k_reg']}"
            f"{'; with so few classes it is APS.' if few else '.'}"
        )
    return sentences


def _infinite(values: Any) -> bool:
    return any(_infinite(item) for item in values) if isinstance(values, list) else values is None


def sets_columns(section: Section) -> tuple[Column, ...]:
    """For a terminal: coverage and mean size in one column per kind."""
    found = _every(section)
    levels = len(levels_of(found))
    names = dict.fromkeys(name_of(fields, levels) for fields in found)

    def column(name: str) -> Column:
        def read(record: Record) -> Cell:
            mine = [one for one in record.get("conformal") or [] if name_of(one, levels) == name]
            if not mine:
                return Cell(ABSENT)
            if mine[0].get("reason") is not None:
                return Cell(str(mine[0]["reason"]), reason=str(mine[0]["reason"]))
            coverage, size = mine[0]["coverage"]["value"], mine[0]["mean_size"]["value"]
            if coverage is None:
                return Cell(ABSENT)
            return Cell(f"{fraction(coverage, 3)} / {short(size)}", coverage)

        return Column(name, "", read)

    return tuple(column(name) for name in names)


def sets_caption(section: Section) -> str:
    """What the terminal's columns hold."""
    made = made_of(section)
    levels = " or ".join(levels_of(made or _every(section)))
    text = f"Prediction sets: share that holds the label, to be {levels}, / classes in a set on average."
    if any(item["folds"] is not None for item in made):
        text += " Cross-fitted coverage is near the level by construction."
    return text
