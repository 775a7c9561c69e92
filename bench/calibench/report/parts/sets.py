"""Prediction sets: how often they hold the label, how large they are, and what is promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.drawing.labels import wrapped
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import fraction, percent, significant, tick
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build, estimate, has_scope
from calibench.report.writing.words import code
from calibench.store.records import Record, dig

Fields = dict[str, Any]


def has_sets(section: Section) -> bool:
    """Whether any row has prediction sets."""
    return bool(_every(section))


def _every(section: Section) -> list[Fields]:
    return [fields for entry in section.measured for fields in entry.record.get("conformal") or []]


def _made(section: Section) -> list[Fields]:
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


def _name(fields: Fields, levels: int) -> str:
    """`LAC`, `APS by class`, with the level where there are several."""
    words = [str(fields["kind"]).upper(), *(["by class"] if fields["class_conditional"] else [])]
    return " ".join([*words, *([_level(fields)] if levels > 1 else [])])


def _level(fields: Fields) -> str:
    return f"{100 * fields['level']:g}%"


def _levels(fields: Iterable[Fields]) -> list[str]:
    return list(dict.fromkeys(_level(item) for item in fields))


def sets_table(section: Section) -> Table | None:
    """One row per method and kind of sets, failed methods as they are; None where there are no sets."""
    if not has_sets(section):
        return None
    levels = len(_levels(_every(section)))
    rows = [
        Entry(
            entry.record | {"sets": fields and fields | {"name": _name(fields, levels)}},
            entry.label,
            entry.order,
        )
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


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else significant(value)


_COLUMNS = (
    Column(
        "Sets", "The score that decides which classes are in.", lambda r: Cell(r["sets"]["name"]), text=True
    ),
    Column("Coverage", "Share of examples in scope whose set holds their label.", _coverage),
    Column(
        "Mean size ↓",
        "Number of classes in a set, on average.",
        _field("mean_size", value=_short, end=_short),
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
        _field("out_of_scope", "mean_size", value=_short, end=_short),
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
    made = _made(section)
    if not made:
        return "No prediction sets could be made."
    levels = " or ".join(_levels(made))
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
    if not section.timed:  # files have one split
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
    levels = len(_levels(found))
    names = dict.fromkeys(_name(fields, levels) for fields in found)

    def column(name: str) -> Column:
        def read(record: Record) -> Cell:
            mine = [one for one in record.get("conformal") or [] if _name(one, levels) == name]
            if not mine:
                return Cell(ABSENT)
            if mine[0].get("reason") is not None:
                return Cell(str(mine[0]["reason"]), reason=str(mine[0]["reason"]))
            coverage, size = mine[0]["coverage"]["value"], mine[0]["mean_size"]["value"]
            if coverage is None:
                return Cell(ABSENT)
            return Cell(f"{fraction(coverage, 3)} / {_short(size)}", coverage)

        return Column(name, "", read)

    return tuple(column(name) for name in names)


def sets_caption(section: Section) -> str:
    """What the terminal's columns hold."""
    made = _made(section)
    levels = " or ".join(_levels(made or _every(section)))
    text = f"Prediction sets: share that holds the label, to be {levels}, / classes in a set on average."
    if any(item["folds"] is not None for item in made):
        text += " Cross-fitted coverage is near the level by construction."
    return text


def sets_drawing(section: Section) -> Drawing | None:
    """Coverage and mean size of every method's sets, side by side; None where there are no sets."""
    rows = [(entry, _drawn(entry)) for entry in section.measured]
    rows = [(entry, found) for entry, found in rows if found]
    if not rows:
        return None
    levels = len(_levels(_made(section)))
    names = list(dict.fromkeys(_name(one, levels) for _, found in rows for one in found))
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
    centres, top = [], 0.0
    for (entry, found), tall in zip(rows, heights, strict=True):
        centres.append(top + tall / 2.0)
        for one in found:
            place = names.index(_name(one, levels)) - (len(names) - 1) / 2.0
            y, shape = centres[-1] + 0.16 * place, style.marker(names.index(_name(one, levels)))
            _dot(left, entry, one["coverage"], y, shape)
            _dot(right, entry, one["mean_size"], y, shape)
        top += tall
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


def _dot(axes: Axes, entry: Entry, block: Fields, y: float, marker: str) -> None:
    tint = style.colour(entry.order)
    if block.get("low") is not None and block.get("high") is not None:
        axes.hlines(y, block["low"], block["high"], color=tint, linewidth=1.2)
    axes.plot(block["value"], y, color=tint, marker=marker, markersize=5.5, linestyle="none", zorder=3)


def _handles(names: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=style.INK, marker=style.marker(i), markersize=5.5, linestyle="none", label=name)
        for i, name in enumerate(names)
    ]


def _words(entry: Entry, found: Sequence[Fields], levels: int) -> str:
    parts = [
        f"{_name(one, levels)} {fraction(one['coverage']['value'], 3)} with "
        f"{_short(one['mean_size']['value'])} classes"
        for one in found
    ]
    return f"{entry.label}: {', '.join(parts)}."
