"""`calibench check`: the gate."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from calibench.commands.base import Command, option, show_on_terminal
from calibench.commands.run import run
from calibench.errors import UsageError


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option("--against", "base", type=click.Path(path_type=Path), required=True, help="Run folder to hold it to.")
@option(
    "--max-regression",
    "limits",
    multiple=True,
    required=True,
    metavar="NAME=AMOUNT",
    help="How much worse a metric (ece=0.01), throughput or latency (throughput=5%) may get; comma-separated "
    "or repeated.",
)
@option("--rerun-base", metavar="REV|FOLDER", help="Race RECORDS' methods with this build or checkpoint.")
@option("--suite", help="Where the race finds the suite file, if RECORDS were made from one.")
@option("--model", help="Where the race finds the checkpoint, if RECORDS are of a folder.")
@option("--dataset", help="Where the race finds the data, if RECORDS are of a folder or file.")
def check(
    records: Path,
    base: Path,
    limits: tuple[str, ...],
    rerun_base: str | None,
    **places: str | None,
) -> None:
    """Fail where RECORDS got worse than a base by more than it may.

    Two runs compare cost ratios, and of the reference seconds, which seldom tell. --rerun-base does: it lets
    today's code take turns with a git revision or checkout of what changed, or with the base's checkpoint.

    Exit codes: 0 within all limits, 1 a regression shown or a cell that fails now, 2 not comparable or not
    understood, 3 too noisy to tell.
    """
    from calibench.compare import gate
    from calibench.compare.runs import load_run, match
    from calibench.report.terminal.comparison import checked

    wanted = gate.parse_limits(limits)
    speeds = any(limit.is_speed for limit in wanted)
    if rerun_base is not None and not speeds:
        raise UsageError("--rerun-base is about speed, which has no limit; add one, such as throughput=5%.")
    found = match(load_run(base), load_run(records), quality_only=not speeds)
    raced = None if rerun_base is None else _raced(found, wanted, rerun_base, places)
    findings = gate.check(found, wanted, raced)
    show_on_terminal(checked(found, findings))
    sys.exit(gate.exit_code(found, findings))


def _raced(found: Any, limits: Any, base: str, places: Mapping[str, str | None]) -> dict[str, Any]:
    from calibench.flows.rerun import asked_section, filled_in, rerun_base
    from calibench.report.terminal.progress import Display
    from calibench.report.writing.reproduce import command
    from calibench.suites.loader import load_suite
    from calibench.suites.overrides import Overrides, override

    words = shlex.split(command(asked_section(found.new)))[2:]
    given = run.make_context("run", filled_in(words, found.new, **places)).params
    suite, device = given["suite"], given["device"]
    overrides = Overrides(**{field.name: given[field.name] for field in fields(Overrides)})
    chosen = override(load_suite(suite), overrides)
    with Display(quiet=False, verbose=False) as display:
        return rerun_base(found, chosen, device, base, limits, display)
