"""What `calibench run` would measure, and about how long that takes: nothing is measured or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from calibench.suites.spec import Suite
from calibench.sweep.plan import seconds_of
from calibench.sweep.quality import sound_records
from calibench.sweep.work import Look, Looked, LookedCell
from calibench.sweep.worker import Worker


@dataclass(frozen=True)
class DryCell:
    """A row of the table that would be.

    Attributes:
        there: whether the run folder has its record.
        shares: whether it takes what another row's method predicts, and costs next to nothing.
        seconds: about, by one batch; None where it is there, or its method failed on that batch.
    """

    label: str
    there: bool
    shares: bool
    seconds: float | None


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes:
        examples: that would be scored.
        besides: of other data that every method would predict.
        load_s: seconds that loading took just now.
        resident_bytes: of this process with model and data loaded; what methods need comes on top.
        seconds: of all cells that are missing, about, without loading, memory and scoring.
        said: sentences for the user.
    """

    cells: tuple[DryCell, ...]
    examples: int
    besides: int
    load_s: float
    resident_bytes: int
    seconds: float
    said: tuple[str, ...]


def dry_run(suite: Suite, folder: Path, device: str) -> DryRun:
    """Load model and data, and time one batch of every method whose record is not there.

    Args:
        folder: the run folder, which need not be there.

    Raises:
        UsageError, CalibenchError: as of `calibench.run.run`, where it would not begin.
    """
    found = Worker().do(Look(suite, device, tuple(sound_records(folder)), timed=True, known={}))
    assert isinstance(found, Looked)
    cells = tuple(_cell(suite, found, cell) for cell in found.cells)
    seconds = sum(cell.seconds or 0.0 for cell in cells)
    resident = psutil.Process().memory_info().rss
    return DryRun(cells, found.examples, found.besides, found.load_s, resident, seconds, found.said)


def _cell(suite: Suite, found: Looked, cell: LookedCell) -> DryCell:
    pace = found.seconds.get(cell.key)
    seconds = None if pace is None else seconds_of(suite.timing, found, pace, quality_only=False)
    return DryCell(cell.label, cell.there, cell.base is not None, seconds)
