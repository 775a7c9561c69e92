"""`calibench check`: the gate."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibench.commands.base import Command, option, show_on_terminal
from calibench.commands.run import run
from calibench.errors import UsageError, WriteError

if TYPE_CHECKING:
    from calibench.compare.gate import Checked
    from calibench.compare.limits import Limit

#: What `check` writes.
FORMS = ("table", "json", "markdown", "junit")


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option("--against", "base", type=click.Path(path_type=Path), help="Run folder to hold changes to.")
@option("--baseline", metavar="NAME", help="The same, as --save-baseline has kept it under a name.")
@option("--save-baseline", metavar="NAME", help="Keep RECORDS under a name, unless a limit is broken.")
@option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path(".calibench", "baselines"),
    show_default=True,
    help="Where they are kept.",
)
@option(
    "--max-regression",
    "changes",
    multiple=True,
    metavar="[ROW:]NAME=AMOUNT",
    help="How much worse than --against a metric (ece=0.01), throughput or latency (throughput=5%) may get; "
    "comma-separated or repeated.",
)
@option(
    "--max",
    "most",
    multiple=True,
    metavar="[ROW:]NAME=VALUE",
    help="How large a metric (ece=0.05) or a cost (latency_p50=20, in ms) may be; comma-separated or "
    "repeated.",
)
@option(
    "--min",
    "least",
    multiple=True,
    metavar="[ROW:]NAME=VALUE",
    help="How small one may be: accuracy=0.9, sentences_per_s=100; comma-separated or repeated.",
)
@option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="table",
    show_default=True,
    help="How to write what was found.",
)
@option("--json", "form", flag_value="json", help="The same as --format json.")
@option("-o", "--output", metavar="FILE", default="-", show_default=True, help="Where to; - is the terminal.")
@option("--rerun-base", metavar="REV|FOLDER", help="Race RECORDS' methods with this build or checkpoint.")
@option("--suite", help="Where the race finds the suite file, if RECORDS were made from one.")
@option("--model", help="Where the race finds the checkpoint, if RECORDS are of a folder.")
@option("--dataset", help="Where the race finds the data, if RECORDS are of a folder or file.")
def check(
    records: Path,
    base: Path | None,
    baseline: str | None,
    save_baseline: str | None,
    baselines: Path,
    changes: tuple[str, ...],
    most: tuple[str, ...],
    least: tuple[str, ...],
    form: str,
    output: str,
    rerun_base: str | None,
    **places: str | None,
) -> None:
    """Fail where RECORDS got worse than a base by more than they may, or where a value is beyond a limit.

    A limit holds for every row, or for the one that it names: `--max "mc-dropout + temperature:ece=0.05"`.

    Two runs compare cost ratios, and of the reference seconds, which seldom tell. --rerun-base does: it lets
    today's code take turns with a git revision or checkout of what changed, or with the base's checkpoint.

    Exit codes: 0 within all limits, 1 one is shown to be broken or a row failed, 2 not comparable or not
    understood, 3 undecided, because the run is too noisy to tell. In a job of GitHub's the result is added
    to its summary.
    """
    from calibench.compare.gate import FAILED, hold
    from calibench.compare.limits import LEAST, MOST, parse_limits
    from calibench.compare.runs import load_run, match
    from calibench.store.baselines import find_baseline
    from calibench.store.baselines import save_baseline as keep

    if base is not None and baseline is not None:
        raise UsageError("--against and --baseline are two bases; give one of them.")
    if baseline is not None:
        base = find_baseline(baseline, baselines)
    limits = [*parse_limits(changes), *parse_limits(most, MOST), *parse_limits(least, LEAST)]
    if save_baseline is not None and not limits and base is None:
        click.echo(f"Baseline: {keep(records, save_baseline, baselines)}")
        return
    speeds = any(limit.is_speed for limit in limits)
    _refuse_without_use(limits, base, rerun_base, speeds=speeds)
    new = load_run(records)
    found = None if base is None else match(load_run(base), new, quality_only=not speeds)
    raced = None if found is None or rerun_base is None else _raced(found, limits, rerun_base, places)
    held = hold(new, limits, found, raced)
    _write(held, form, output)
    if save_baseline is not None and held.outcome != FAILED:
        click.echo(f"Baseline: {keep(records, save_baseline, baselines)}", err=True)
    sys.exit(held.exit_code)


def _write(found: Checked, form: str, output: str) -> None:
    """Where it goes to a file the terminal shows the table; CI shows the Markdown on its page of the job."""
    from calibench.report.pages import check as pages
    from calibench.report.terminal.comparison import checked
    from calibench.report.terminal.progress import as_text
    from calibench.store.files import append, write_whole

    forms = {"json": pages.as_json, "markdown": pages.as_markdown, "junit": pages.as_junit}
    to_file = output != "-"
    if form == "table" or to_file:
        show_on_terminal(checked(found))
    if to_file:
        text = as_text(checked(found)) if form == "table" else forms[form](found)
        write_whole(Path(output), text.encode())
    elif form != "table":
        click.echo(forms[form](found), nl=False)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            append(Path(summary), pages.as_markdown(found).encode())
        except WriteError as error:  # what was found stands: exit code 1 would say that a limit is broken
            click.echo(f"Warning: {error}", err=True)


def _refuse_without_use(
    limits: Sequence[Limit], base: Path | None, rerun_base: str | None, *, speeds: bool
) -> None:
    """Refuse a limit that lacks what it is about, and what no limit is about."""
    changes = [limit for limit in limits if limit.kind == "max-regression"]
    if changes and base is None:
        raise UsageError(
            f"The limit {changes[0]} is on a change, and there is no base; add --against with a run folder "
            "or --baseline with a name, or limit the value with --max or --min."
        )
    if base is not None and not changes:
        raise UsageError(
            "A base is about changes, which have no limit; add one with --max-regression, such as ece=0.01."
        )
    if not limits:
        raise UsageError(
            "There is no limit to check; give one with --max-regression, --max or --min, such as ece=0.01, "
            "or keep the run with --save-baseline NAME."
        )
    if rerun_base is not None and not speeds:
        raise UsageError("--rerun-base is about speed, which has no limit; add one, such as throughput=5%.")


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
