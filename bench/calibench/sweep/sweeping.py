"""A sweep from end to end: its folder, locked; its work, on an executor; its manifest, kept up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from calibench.store.lock import sole_writer
from calibench.sweep.executor import Executor
from calibench.sweep.manifest import refuse_other, write_manifest
from calibench.sweep.progress import Told
from calibench.sweep.quality import Quality
from calibench.sweep.spec import Pair, Sweep
from calibench.sweep.timed import run_timed


def run_sweep(
    sweep: Sweep,
    folder: Path,
    executor: Executor,
    told: Told,
    *,
    device: str = "auto",
    quality_only: bool = False,
    finished: Callable[[Pair], None] = lambda _: None,
) -> None:
    """Do what is missing in the sweep's folder.

    Args:
        folder: made where it does not exist.
        told: who is told of cells that are done or have failed.
        finished: called with each pair once its run folder and the manifest are written.

    Raises:
        UsageError: the folder holds something else, or another sweep writes there.
        WriteError: there is no room.
    """
    refuse_other(sweep, folder)
    with sole_writer(folder):
        write_manifest(sweep, folder)
        work = (
            Quality(sweep, folder, executor, device, told).run()
            if quality_only
            else run_timed(sweep, folder, executor, device, told)
        )
        with contextlib.closing(work):
            for pair in work:
                write_manifest(sweep, folder, pair)
                finished(pair)
