"""What a sink is given: the rows of a run folder as names and numbers, and the files of its report."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

#: Where rows go in a tool that sorts runs by experiment or project, unless the tool's own variable says.
PROJECT = "calibench"


@dataclass(frozen=True)
class LoggedRow:
    """One row of the run.

    Attributes:
        name: unique in the run: its label in the report, below its section's where there are several.
        created: when its record was made.
        values: every metric and cost that has a value, as `report --format csv` calls them.
        ends: of those with a 95% interval, its ends as `NAME_low` and `NAME_high`.
        config: what identifies the row, by column of that file; why numbers are `absent`, or its `failure`.
        failure: what went wrong, or None; a row that failed has no values.
    """

    name: str
    created: datetime
    values: Mapping[str, float]
    ends: Mapping[str, float]
    config: Mapping[str, str | int | float | bool]
    failure: str | None


@dataclass(frozen=True)
class LoggedRun:
    """A run folder.

    Attributes:
        name: the folder's own.
        folder: where it is.
        files: records and reports that lie there, figures among them, below `folder`; no predictions.
    """

    name: str
    folder: Path
    rows: tuple[LoggedRow, ...]
    files: tuple[Path, ...]

    @property
    def named_files(self) -> list[tuple[str, str]]:
        """Each file's path, and its name below `folder`, with / between its parts."""
        return [(str(file), file.relative_to(self.folder).as_posix()) for file in self.files]

    @property
    def artifact(self) -> str:
        """The run's name in characters that a name of an artifact may have."""
        return re.sub(r"[^\w.-]", "-", self.name)


#: Sends all of a run, and says in a few words where it is then. What it raises is its failure alone.
Sink = Callable[[LoggedRun], str]


def project(variable: str) -> str:
    """The tool's own environment variable for a project, or `PROJECT`."""
    return os.environ.get(variable) or PROJECT
