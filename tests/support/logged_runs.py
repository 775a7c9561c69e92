"""A run folder for sinks: two rows, one of them with a number that could not be had, and one that failed."""

from __future__ import annotations

from pathlib import Path

import report_example as example
from calibench.flows.logging import logged
from calibench.sinks.logged import LoggedRow, LoggedRun
from calibench.store.records import write_records

NOTHING_TO_BIN = "no bin holds ten examples"


def write(folder: Path) -> Path:
    """The folder, with a report and a figure that say next to nothing."""
    records = example.build(folder, (*example.METHODS[:1], example.METHODS[2], example.FAILED), n=40)
    records[1]["metrics"]["mce"] = example.missing(NOTHING_TO_BIN)
    write_records(folder, records)
    (folder / "report.md").write_text("# A report\n")
    (folder / "figures").mkdir()
    (folder / "figures" / "front.svg").write_text("<svg/>\n")
    return folder


def make(folder: Path) -> LoggedRun:
    """The same as sinks are given it."""
    return logged(write(folder))


def numbers(row: LoggedRow) -> dict[str, float]:
    """All that a tool has to hold of a row."""
    return {**row.values, **row.ends}
