"""`calibench sweep`: models x data sets x methods x seeds, into a folder of run folders."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calibench.commands.base import Command, in_json, interrupted, option, quietly, show_on_terminal
from calibench.errors import UsageError

if TYPE_CHECKING:
    from calibench.measure.progress import Progress
    from calibench.sweep.executor import Executor
    from calibench.sweep.plan import Plan


@click.command(cls=Command)
@click.argument("file")
@option("-o", "--output", help="Folder of run folders, or a URL such as s3://...  [default: sweeps/NAME]")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would run and how long; write nothing.")
@click.option("--quality-only", is_flag=True, help="Time nothing, and use all cores.")
@option("--workers", type=click.IntRange(min=1), help="Processes of quality work.  [default: all cores]")
@option("--on", default="local", show_default=True, help="Where it runs: local, ray or ray://HOST:PORT.")
@option("--cpus-per-cell", type=click.IntRange(min=1), help="Cores of a cell on Ray.  [default: 1, or all]")
@option("--gpus-per-cell", type=click.IntRange(min=0), default=0, show_default=True, help="The same of GPUs.")
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@in_json
@quietly
def sweep(
    file: str,
    output: str | None,
    only_plan: bool,
    quality_only: bool,
    workers: int | None,
    on: str,
    cpus_per_cell: int | None,
    gpus_per_cell: int,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the grid of FILE, a TOML file; what is there is not measured again."""
    from calibench.registry import require
    from calibench.sweep.spec import load_sweep

    require("run", "calibench sweep")
    asked = load_sweep(file)
    where = output or str(Path("sweeps") / asked.name)

    from calibench.sweep.manifest import MANIFEST
    from calibench.sweep.plan import plan
    from calibench.sweep.progress import SweepDisplay
    from calibench.sweep.remote import place
    from calibench.sweep.sweeping import run_sweep

    count = workers or len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(SweepDisplay(asked, quiet=quiet))
        output_place = stack.enter_context(place(where))
        executor = _executor(
            on,
            display,
            workers=count,
            cpus=cpus_per_cell,
            gpus=gpus_per_cell,
            alone=not quality_only,
            fresh=not quality_only and not only_plan,
        )
        stack.callback(executor.close)
        try:
            if only_plan:
                found = plan(
                    asked, output_place.folder, executor, device, quality_only=quality_only, workers=count
                )
            else:
                run_sweep(
                    asked,
                    output_place.folder,
                    executor,
                    display,
                    device=device,
                    quality_only=quality_only,
                    finished=output_place.send,
                )
                output_place.send_manifest()
        except KeyboardInterrupt:
            raise interrupted(
                f"; what is finished is kept: run the same command with -o {where} to go on"
            ) from None
    if only_plan:
        _show(found, as_json=as_json)
        return
    if as_json:
        click.echo((output_place.folder / MANIFEST).read_text("utf-8"), nl=False)
    elif not quiet:
        click.echo(f"{display.finished} cells measured or there; sweep: {where}")
    if display.failures:
        listed = "\n".join(f"  {line}" for line in display.failures)
        raise click.ClickException(f"{len(display.failures)} failed:\n{listed}")


def _executor(
    on: str, progress: Progress, *, workers: int, cpus: int | None, gpus: int, alone: bool, fresh: bool
) -> Executor:
    """What does the work where `--on` says."""
    if on != "local":
        return _on_ray(on, progress, cpus=cpus or 1, gpus=gpus, alone=alone, fresh=fresh)
    if cpus or gpus:
        raise UsageError("--cpus-per-cell and --gpus-per-cell are about Ray; add --on ray.")
    return _local(progress, workers=workers, alone=alone, fresh=fresh)


def _local(progress: Progress, *, workers: int, alone: bool, fresh: bool) -> Executor:
    """Processes of this machine; one, with the libraries' own threads, where a cell needs it to itself."""
    from calibench.sweep.local import Local

    return Local(1 if alone else workers, progress, threads=None if alone else 1, fresh=fresh)


def _on_ray(on: str, progress: Progress, *, cpus: int, gpus: int, alone: bool, fresh: bool) -> Executor:
    if on != "ray" and not on.startswith("ray://"):
        raise UsageError(f"--on {on!r} is not known; choose local, ray or ray://HOST:PORT.")
    from calibench.sweep.apart import Apart
    from calibench.sweep.on_ray import GONE, OnRay

    address, ended = None if on == "ray" else on, GONE.format("Ray ended the process that used it")
    given = {"address": address, "exclusive": alone, "cpus": cpus, "gpus": gpus, "fresh": fresh}
    return Apart(OnRay, progress, ended, **given)


def _show(found: Plan, *, as_json: bool) -> None:
    if as_json:
        click.echo(found.as_json())
        return
    from calibench.sweep.planned import table

    show_on_terminal(table(found))
