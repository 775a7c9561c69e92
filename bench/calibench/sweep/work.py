"""The pieces of a sweep's work: values in, values out, and neither needs the sweep's folder.

Quality work of a pair begins with a `Look`: which cells there are, which of them are missing, and in which
parts they predict. A `Shard` predicts some parts of a cell, a `Join` makes the cell's records of all of them.
A part is a block of the frozen batch plan, or a data set that is predicted besides; every prediction of a
part gets the seed that a whole run gives it, so that it does not matter which process makes it.

`Timing` is a whole run of a pair, and the one work that writes to a run folder itself. What does the work is
`calibench.sweep.worker`; here nothing imports a model's library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibench.store.paths import without_paths
from calibench.store.records import Record, to_json
from calibench.suites.spec import Suite
from calibench.types import Predictive

#: Why a record of quality work has no costs.
REASON = "measured without timing by calibench sweep --quality-only"
#: What a part is called that is the calibration split; blocks are called by their number.
CALIBRATION = "calibration"


@dataclass(frozen=True)
class Task:
    """What all work on a pair has in common.

    Attributes:
        suite: what is run.
        device: as of `calibench.run.run`.
    """

    suite: Suite
    device: str


@dataclass(frozen=True)
class Look(Task):
    """Find out which cells a pair has.

    Attributes:
        there: the records of its run folder whose predictions are there.
        timed: whether a record without times counts as missing.
        known: by `pace_of` a cell, seconds of an example; a batch is timed of other cells that are missing.
            None where nobody asks.
    """

    there: tuple[Record, ...] = ()
    timed: bool = False
    known: Mapping[str, float] | None = None


@dataclass(frozen=True)
class LookedCell:
    """A row of the table.

    Attributes:
        label: how progress names it.
        base: key of the cell that is measured in its place; None for a cell of its own.
        there: whether it has a record that is as asked for.
        parts: what it predicts: blocks by number, and other data by name.
        whole: whether one process has to predict all parts: fitting is not done twice.
    """

    key: str
    label: str
    name: str
    params: Mapping[str, Any]
    posthoc: str | None
    seed: int
    reference: bool
    base: str | None
    there: bool
    parts: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Looked:
    """What a pair holds.

    Attributes:
        cells: in table order.
        said: sentences for the user.
        examples: N, that are scored; `besides`, of all other data that every method predicts.
        blocks: how many the plan has.
        load_s: what loading took.
        seconds: by key of a missing cell, those of an example, where anybody knows.
    """

    cells: tuple[LookedCell, ...]
    said: tuple[str, ...]
    examples: int
    besides: int
    blocks: int
    load_s: float
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard(Task):
    """Predict some parts of the cell `key`."""

    key: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A part's outputs, or why there are none: that costs the numbers made of it, and not the cell."""

    predictive: Predictive | None
    failure: str | None = None


@dataclass(frozen=True)
class Sharded:
    """What a shard found.

    Attributes:
        parts: by name; without some where the cell has failed.
        described: what the method says of itself, as `calibench.measure.checks.Described` has it; None where
            it has failed.
        fit: of a method that learns what that took, as in a record.
        failure: why the cell has failed, as in a record.
    """

    parts: Mapping[str, Part]
    described: dict[str, Any] | None
    fit: dict[str, Any] | None
    failure: dict[str, str] | None


@dataclass(frozen=True)
class Join(Task):
    """Make the records of the cell `key` and of the rows that share its predictions.

    Attributes:
        found: all of its parts, or why it has failed.
        rows: keys of the rows that lack a record.
    """

    key: str
    found: Sharded
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Joined:
    """The records, and by key of the cell the files of predictions."""

    records: tuple[Record, ...]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Timing(Task):
    """Measure a pair as `calibench run` does, and write to its run folder."""

    folder: Path


@dataclass(frozen=True)
class Timed:
    """Label, status, and why it failed, of every row of the run."""

    rows: tuple[tuple[str, str, str | None], ...]


def pace_of(name: str, params: Mapping[str, Any]) -> str:
    """What cells have in common that take as long for an example on one model."""
    return to_json({"method": name, "params": without_paths(params)})
