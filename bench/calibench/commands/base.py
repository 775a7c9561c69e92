"""What commands have in common: one sentence for an error, options of the environment, how a run ends."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibench.errors import CalibenchError

if TYPE_CHECKING:
    from calibench.flows.logging import Sent

Decorator = Callable[[Any], Any]


class _Failure(click.ClickException):
    """One sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code


def interrupted(rest: str = "") -> click.ClickException:
    """What ends a command on Ctrl-C: a sentence, and the exit code that shells give a SIGINT."""
    return _Failure(f"Interrupted{rest}.", 128 + signal.SIGINT)


class Command(click.Command):
    """A command that turns errors into one sentence and an exit code, and has `--debug`.

    Args:
        groups: of options that help shows under a heading of their own, by its words, the names of their
            parameters; all others come under the last, "Options".
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups = groups or {}
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, envvar="CALIBENCH_DEBUG", help="Show the traceback of an error."
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but several models, data sets or seeds are refused: click drops all but one."""
        if not ctx.resilient_parsing:
            _, _, given = self.make_parser(ctx).parse_args(args=list(args))
            for name in dict.fromkeys(_single(given)):
                raise click.UsageError(f"{name} is given more than once; it takes one value.", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, under the headings of the groups."""
        options = [item for item in self.get_params(ctx) if isinstance(item, click.Option)]
        taken = {name for names in self._groups.values() for name in names}
        rest = [str(item.name) for item in options if item.name not in taken]
        for title, names in {**self._groups, "Options": list(dict.fromkeys(rest))}.items():
            found = [item.get_help_record(ctx) for name in names for item in options if item.name == name]
            lines = [line for line in found if line is not None]
            with formatter.section(title):
                formatter.write_dl(lines)

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug", False)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            raise interrupted() from None
        except BrokenPipeError:  # `| head` has seen enough, which click takes for an end and no error
            raise
        except CalibenchError as error:
            if debug:
                traceback.print_exc()
            raise _Failure(str(error), error.exit_code) from error
        except Exception as error:
            if debug:
                traceback.print_exc()
            raise click.ClickException(
                f"Unexpected {type(error).__name__}: {error}. This is a defect of calibench or of a plugin; "
                "run again with --debug for the traceback, and report it."
            ) from error


#: Options that somebody may take for axes of a grid; of any other the last one counts, as usual.
ONE_OF = ("--model", "--dataset", "--seed")


def _single(given: Iterable[click.Parameter]) -> list[str]:
    """The options of `ONE_OF` that stand there more than once."""
    names = [name for item in given for name in item.opts if name in ONE_OF]
    return [name for at, name in enumerate(names) if name in names[:at]]


def option(*names: str, **settings: Any) -> Decorator:
    """A click option that can also be set by CALIBENCH_ and its long name."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "CALIBENCH_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, **settings)


into_folder = option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder. [default: dated, in calibench-runs]"
)


def overwriting(what: str) -> Decorator:
    """The option that says what becomes of records that are there; `what` is its help."""
    return option(
        "--overwrite-strategy",
        type=click.Choice(["always", "never", "only-missing"]),
        default="only-missing",
        show_default=True,
        help=what,
    )


in_json = option("--json", "as_json", is_flag=True, help="Print JSON instead, and nothing else.")

quietly = option("-q", "--quiet", is_flag=True, help="Print errors only.")


def show_on_terminal(renderable: Any) -> None:
    """Print a table as the terminal can show it."""
    from calibench.report.terminal.progress import printed

    printed(renderable)


def print_json(value: Any) -> None:
    """Print a value as one JSON document, which any program can read."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def finish(records: list[dict[str, Any]], folder: Path, *, quiet: bool, as_json: bool) -> None:
    """Print the table, write the report, and fail where a row did."""
    from calibench.report import write_report
    from calibench.report.terminal.records import terminal_table

    quiet = quiet or as_json
    if not quiet:  # drawing takes longer than the numbers: nobody waits for it to see them
        show_on_terminal(terminal_table(records, folder))
        sys.stdout.flush()
    report = write_report(folder)
    if not quiet:
        click.echo(f"Report: {report}")
    if as_json:
        print_json(run_found(records, folder, report))
    refuse_failed(records, report, "rows")


def run_found(records: Sequence[Mapping[str, Any]], folder: Path, report: Path) -> dict[str, Any]:
    """What a run has found, for `--json`."""
    return {"folder": str(folder), "report": str(report), "records": list(records)}


def told(sent: Iterable[Sent], *, quiet: bool) -> list[str]:
    """Say where a run folder is in each sink; the sentences of those that failed."""
    failures = []
    for item in sent:
        if item.failure is not None:
            failures.append(item.failure)
        elif not quiet:
            click.echo(f"Logged to {item.sink}: {item.where}")
    return failures


def refuse_failed(records: list[dict[str, Any]], report: Path, noun: str, also: Sequence[str] = ()) -> None:
    """End with exit code 1 where a record is of a failure; they are `noun` in the message.

    Args:
        also: sentences about what else failed.
    """
    from calibench.store.naming import label

    failed = [record for record in records if record["status"] == "error"]
    sentences = list(also)
    if failed:
        names = ", ".join(label(record, records) for record in failed)
        sentences.insert(0, f"{len(failed)} of {len(records)} {noun} failed ({names}); see {report}.")
    if sentences:
        raise click.ClickException(" ".join(sentences))
