"""Several files of predictions -> the same rows in the same order, or how many miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from calibench.data.labels import shorten
from calibench.errors import UsageError
from calibench.readers.classes import MISSING
from calibench.readers.scored import Scored
from calibench.stats.columns import array_of
from calibench.types import IntArray


def joined(tables: Sequence[Scored], *, skip_nulls: bool = False) -> list[Scored]:
    """The tables about the same rows: those with ids in the order of these, others as they stand.

    Args:
        tables: the first says which rows and classes there are.
        skip_nulls: leave out the rows in which any table lacks a value.

    Raises:
        UsageError: two files are not about the same rows, labels or classes, or values are missing.
    """
    for other in tables[1:]:
        _refuse_other_data(tables[0], other)
    first = _by_id(tables[0]) if tables[0].ids is not None else tables[0]
    matched = [first, *(_like(first, _same_classes(first, other)) for other in tables[1:])]
    for other in matched[1:]:
        _refuse_other_parts(matched[0], other)
    return [table.set_apart() for table in _complete(matched, skip_nulls=skip_nulls)]


def _refuse_other_data(first: Scored, other: Scored) -> None:
    """Refuse files that have no row in common."""
    if first.ids is None or other.ids is None or pc.any(pc.is_in(other.ids, value_set=first.ids)).as_py():
        return
    raise UsageError(
        f"{other.file!r} has none of the ids of {first.file!r}, as where each is of another task or data "
        "set; score them by a command each, with the same -o, and the report has a table of each."
    )


def _refuse_other_parts(first: Scored, other: Scored) -> None:
    """Refuse files that hold other rows out."""
    if first.held_out is None or other.held_out is None:
        return
    unlike = int((first.held_out != other.held_out).sum())
    if unlike:
        raise UsageError(
            f"{other.file!r} and {first.file!r} disagree on --calibration-split in {_rows(unlike)}; expected "
            "the same rows to be held out in every file."
        )


def _by_id(table: Scored) -> Scored:
    """Its rows in the order of their ids, so that two files in different orders give the same data."""
    missing = table.ids.null_count
    if missing:
        raise UsageError(
            f"{_rows(missing)} of {table.file!r} have no id; every row needs one where files are matched by "
            "--id."
        )
    twice = len(table) - len(table.ids.unique())
    if twice:
        counts = table.ids.value_counts().to_pylist()
        shown = next(item["values"] for item in counts if item["counts"] > 1)
        raise UsageError(
            f"The ids of {table.file!r} are not unique: {shown!r} is there more than once; choose another "
            "column with --id."
        )
    order = array_of(pc.array_sort_indices(table.ids))
    return replace(table.take(order.astype(np.int64)), rows=np.arange(len(table)))


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _same_classes(first: Scored, other: Scored) -> Scored:
    """The other table with the first's classes in the first's order."""
    ours, theirs = first.classes.names, other.classes.names
    if first.by_confidence != other.by_confidence or len(ours) != len(theirs):
        raise UsageError(
            f"{other.file!r} has {len(theirs)} classes and {first.file!r} {len(ours)}; expected the same "
            "ones."
        )
    if ours == theirs:
        return other
    folded = [name.strip().casefold() for name in theirs]
    places = [folded.index(key) if (key := name.strip().casefold()) in folded else -1 for name in ours]
    if -1 in places:
        raise UsageError(
            f"The classes of {other.file!r} are {shorten(theirs)} and those of {first.file!r} "
            f"{shorten(ours)}; name them alike, or say their order with --classes."
        )
    order = np.array(places)
    new = np.append(np.argsort(order), MISSING)
    return replace(other, probs=other.probs[:, order], labels=new[other.labels], classes=first.classes)


def _like(first: Scored, other: Scored) -> Scored:
    """The other table's rows in the first's order."""
    if first.ids is None:
        if len(first) != len(other):
            raise UsageError(
                f"{other.file!r} has {_rows(len(other))} and {first.file!r} {len(first):,}; expected the "
                "same rows in the same order: match them by --id COLUMN, or leave out those that only one "
                "has."
            )
        found = other
    else:
        other = _by_id(other)
        _refuse_lacking(first, other)
        found = other
    _refuse_other_labels(first, found)
    return found


def _refuse_lacking(first: Scored, other: Scored) -> None:
    """Refuse files whose ids are not the same; both are sorted by them."""
    if first.ids.equals(other.ids):
        return
    parts = []
    for one, another in ((other, first), (first, other)):
        lacking = another.ids.filter(pc.invert(pc.is_in(another.ids, value_set=one.ids)))
        if len(lacking):
            parts.append(
                f"{one.file!r} lacks {len(lacking):,} of the {len(another):,} ids of {another.file!r}, such "
                f"as {lacking[0].as_py()!r}"
            )
    raise UsageError(f"{', and '.join(parts)}; score the rows that all files have.")


def _refuse_other_labels(first: Scored, other: Scored) -> None:
    both = (first.labels != MISSING) & (other.labels != MISSING)
    unlike = np.flatnonzero(both & (first.labels != other.labels))
    if not len(unlike) or first.by_confidence:
        return
    at = int(unlike[0])
    where = f"row {at + 1}" if first.ids is None else f"id {first.ids[at].as_py()!r}"
    advice = "match them by --id COLUMN" if first.ids is None else "score them against the same labels"
    raise UsageError(
        f"The labels of {other.file!r} and {first.file!r} differ in {_rows(len(unlike))} of {len(first):,}, "
        f"the first in {where} ({_name(other, at)!r} and {_name(first, at)!r}); {advice}."
    )


def _name(table: Scored, row: int) -> str:
    return table.classes.names[int(table.labels[row])]


def _complete(tables: Sequence[Scored], *, skip_nulls: bool) -> list[Scored]:
    lacking = np.logical_or.reduce([table.lacking for table in tables])
    count = int(lacking.sum())
    if not count:
        return list(tables)
    if not skip_nulls:
        table = next(table for table in tables if table.lacking.any())
        own, at = int(table.lacking.sum()), int(np.argmax(table.lacking))
        have = "has" if own == 1 else "have"
        raise UsageError(
            f"{_rows(own)} of {len(table):,} in {table.file!r} {have} no {_what(table, at)} (the first is "
            f"{_where(table, at)}); pass --skip-nulls to leave them out."
        )
    if count == len(lacking):
        raise UsageError(f"No row of {tables[0].file!r} is complete, so that there is nothing to score.")
    kept: IntArray = np.flatnonzero(~lacking)
    note = f"{_rows(count)} that lack a value were left out."
    return [replace(table.take(kept), left_out=count, notes=(*table.notes, note)) for table in tables]


def _what(table: Scored, row: int) -> str:
    """What the first incomplete row lacks."""
    if table.labels[row] == MISSING:
        return "correctness" if table.by_confidence else "label"
    if np.isnan(table.probs[row]).any():
        return "confidence" if table.by_confidence else "probability"
    if table.group is not None and not table.group[row].is_valid:
        return "group"
    return "price"


def _where(table: Scored, row: int) -> str:
    return f"row {row + 1}" if table.ids is None else f"id {table.ids[row].as_py()!r}"
