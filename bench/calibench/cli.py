"""The command line: parses, calls, prints; nothing else.

Libraries that take long to import are imported by the commands that use them.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import click

import calibench
from calibench.errors import CalibenchError, UsageError

Decorator = Callable[[Any], Any]


class _Failure(click.ClickException):
    """One sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code


class Command(click.Command):
    """A command that turns errors into one sentence and an exit code, and has `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug", False)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            raise click.ClickException("Interrupted.") from None
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
quietly = option("-q", "--quiet", is_flag=True, help="Print errors only.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(calibench.__version__, prog_name="calibench")
def main() -> None:
    """Measure how much calibration an uncertainty method buys a text classifier, and what it costs.

    Every option can also be set in the environment: --batch-size by CALIBENCH_BATCH_SIZE, and so on.
    """


@main.command(cls=Command)
@click.argument("suite", default="embedded")
@option(
    "-m", "--method", "methods", multiple=True, help="Run this method instead of the suite's; repeatable."
)
@option(
    "-a", "--method-arg", "method_args", multiple=True, help="METHOD.key=value, or key=value for one method."
)
@option("--posthoc", multiple=True, help="Add a row with this post-hoc step to every method; repeatable.")
@option("--conformal", multiple=True, help="Make prediction sets of every row: lac, aps or raps; repeatable.")
@option("--conformal-level", type=float, help="How often they are to hold the label.  [default: 0.9]")
@option("--class-conditional", is_flag=True, help="Hold that level within every class.")
@option("--calibration-split", help="Fit post-hoc steps and sets on this split.  [default: cross-fit]")
@option("--unseen", is_flag=True, help="The model was not trained on the calibration split.")
@option("--train-split", help="Fit what learns from training data on this split.  [default: the suite's]")
@option("--train-limit", type=click.IntRange(min=1), help="A random subset of it, of this size.")
@option("--shift", multiple=True, help="Evaluate on corrupted texts too: typos, ...; repeatable.")
@option("--shift-strengths", help="How far, above 0 and up to 1: 0.1,0.3.  [default: the suite's]")
@option("--also", multiple=True, help="Evaluate on this data set too, a hub id or local folder; repeatable.")
@option("--passes", type=click.IntRange(min=1), help="Forward passes of every stochastic method.")
@option("--dataset", help="Hub id or local folder, instead of the suite's data set.")
@option("--dataset-config", help="Configuration of the data set.")
@option("--dataset-revision", help="Revision of the data set on the hub.")
@option("--split", help="Split to evaluate on.")
@option("--text-column", "text_columns", multiple=True, help="Column of the text; twice for pairs of texts.")
@option("--label-column", help="Column of the label.")
@option(
    "--label-map", multiple=True, help="Which output each label is: positive=LABEL_1,negative=0; repeatable."
)
@option("--delimiter", help="Between the cells of a csv or tsv file.  [default: by its suffix]")
@option("--encoding", help="Of a csv, tsv or json file.  [default: UTF-8]")
@option("--quoting", type=click.Choice(["double", "none"]), help="Of csv (default: double) and tsv (none).")
@option("-L", "--limit", type=click.IntRange(min=1), help="Evaluate a seeded random subset of this size.")
@option("--model", help="Hub id or local folder, instead of the suite's checkpoint.")
@option("--model-revision", help="Revision of the checkpoint on the hub.")
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@option("--dtype", help="float32, bfloat16, float16 or float64.")
@option("--attention", help="Attention implementation: sdpa, eager, ...")
@option("--token-budget", type=click.IntRange(min=1), help="Padded tokens per batch, at most.")
@option("-b", "--batch-size", type=click.IntRange(min=1), help="Sentences per batch, at most.")
@option("--memory-budget", "memory_budget_mb", type=click.IntRange(min=1), help="MiB for duplicated batches.")
@option("--seed", type=click.IntRange(min=0), help="Seed of masks, order and resampling.")
@option("-w", "--warmup", type=click.IntRange(min=0), help="Untimed blocks per method before the timed ones.")
@option("-r", "--runs", type=click.IntRange(min=1), help="Timed repetitions of the whole plan.")
@option("--min-time", type=click.FloatRange(min=0), help="Repeat until the reference ran this many seconds.")
@option(
    "--timeout-per-block",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a method that is still at a block fails.  [default: never]",
)
@option("--fast", "effort", flag_value="fast", help="Less timing effort; the same examples and passes.")
@option(
    "--rigorous", "effort", flag_value="rigorous", help="More timing effort; the same examples and passes."
)
@option("--self-check", is_flag=True, help="Race the reference against itself too, and say what could show.")
@into_folder
@option(
    "--overwrite-strategy",
    type=click.Choice(["always", "never", "only-missing"]),
    default="only-missing",
    show_default=True,
    help="Cells with a record in the run folder: measure again, refuse, or keep.",
)
@quietly
@option("-v", "--verbose", is_flag=True, help="Print each step on a line of its own.")
def run(
    suite: str,
    output: Path | None,
    device: str,
    self_check: bool,
    overwrite_strategy: Any,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Run SUITE, a suite's name or a TOML file, and print the table."""
    from calibench.suites.loader import load_suite
    from calibench.suites.overrides import Overrides, override

    chosen = override(load_suite(suite), Overrides(**given))
    folder = output or Path("calibench-runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{chosen.name}"

    from calibench.report import write_report
    from calibench.report.parts.against import closing
    from calibench.report.terminal.progress import Display
    from calibench.report.terminal.records import terminal_table
    from calibench.run import run as run_suite
    from calibench.store.naming import label

    with Display(quiet=quiet, verbose=verbose) as display:
        try:
            records = run_suite(
                chosen,
                folder,
                device=device,
                overwrite=overwrite_strategy,
                self_check=self_check,
                progress=display,
            )
        except KeyboardInterrupt:
            raise click.ClickException(
                f"Interrupted; finished blocks are kept: run the same command with -o {folder} to go on."
            ) from None
        report = write_report(folder)
    if not quiet:
        display.print(terminal_table(records))
        if self_check:
            display.print(closing(records, folder))
        click.echo(f"Report: {report}")
    failed = [record for record in records if record["status"] == "error"]
    if failed:
        names = ", ".join(label(record, records) for record in failed)
        raise click.ClickException(f"{len(failed)} of {len(records)} cells failed ({names}); see {report}.")


@main.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[NAME=]FILE...")
@option("--label", help="Column of the label.")
@option("--probs", help="Columns of the probabilities, as 'p_*' or a,b,c; or one column of lists.")
@option("--prob", help="Column of the probability of the second of two classes.")
@option("--logits", is_flag=True, help="These columns hold logits, or log-probabilities.")
@option("--confidence", help="Column of how sure the answer is; with --correct, where there are no classes.")
@option("--correct", help="Column of whether the answer is right.")
@option("--classes", help="Names of the classes, in the order of the columns or of numbers: neg,pos.")
@option("--id", "id_column", help="Match the rows of several files by this column.  [default: by row]")
@option("--group", help="Column of a subgroup: metrics and verdicts for each.")
@option("--prices", metavar="COLUMN|A=0.002,B=0.03", help="What an answer costs: a column, or by method.")
@option("--renormalise", is_flag=True, help="Divide each row by its sum, where probabilities were rounded.")
@option("--skip-nulls", is_flag=True, help="Leave out rows that lack a value.")
@option("--format", "file_format", help="csv, tsv, jsonl, parquet, arrow or npz.  [default: by its suffix]")
@option("--delimiter", help="Between the cells of a csv or tsv file.  [default: by its suffix]")
@option("--quoting", type=click.Choice(["double", "none"]), help="Of csv (default: double) and tsv (none).")
@option("--from", "reader", default="file", show_default=True, help="What wrote it: see ls readers.")
@option(
    "--normalise",
    type=click.Choice(["none", "characters", "bytes"]),
    default="none",
    show_default=True,
    help="Of lm-eval, what log-likelihoods of choices are divided by.",
)
@option("--reference", help="Compare with this method.  [default: the first]")
@option("--posthoc", multiple=True, help="Add a row with this post-hoc step to every file; repeatable.")
@option("--conformal", multiple=True, help="Make prediction sets of every row: lac, aps or raps; repeatable.")
@option(
    "--conformal-level", type=float, default=0.9, show_default=True, help="How often they hold the label."
)
@option("--class-conditional", is_flag=True, help="Hold that level within every class.")
@option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds and resampling.")
@option("--suite", default="scored", show_default=True, help="What the table is called.")
@into_folder
@option(
    "--overwrite-strategy",
    type=click.Choice(["always", "never", "only-missing"]),
    default="only-missing",
    show_default=True,
    help="Rows with a record in the run folder: score again, refuse, or keep.",
)
@quietly
def score(
    files: tuple[str, ...],
    classes: str | None,
    id_column: str | None,
    prices: str | None,
    file_format: str | None,
    reader: str,
    output: Path | None,
    overwrite_strategy: Any,
    quiet: bool,
    **given: Any,
) -> None:
    """Score predictions that are in FILES: csv, tsv, jsonl, parquet, arrow, npz, or - for standard input.

    Several files are several methods on the same rows, and the first is what others are compared with.
    """
    from calibench.flows.scoring import score as score_tables
    from calibench.posthoc.conformal import recipes
    from calibench.readers.asked import Asked
    from calibench.readers.methods import name_and_file, parse_prices, read_methods
    from calibench.registry import POSTHOC
    from calibench.score.scored import Wanted

    names = [name_and_file(word)[0] for word in files]
    column, by_method = parse_prices(prices, names)
    columns = ("label", "probs", "prob", "logits", "confidence", "correct", "group", "renormalise")
    asked = Asked(
        **{name: given[name] for name in (*columns, "skip_nulls", "delimiter", "quoting", "normalise")},
        classes=tuple(name.strip() for name in classes.split(",")) if classes else (),
        id=id_column,
        price=column,
    )
    for step in given["posthoc"]:
        POSTHOC.entry_point(step)
    level = {"level": given["conformal_level"], "class_conditional": given["class_conditional"]}
    wanted = Wanted(
        suite=given["suite"],
        reference=given["reference"],
        posthoc=tuple(dict.fromkeys(given["posthoc"])),
        recipes=recipes(given["conformal"], **level),
        seed=given["seed"],
        prices=by_method,
    )
    tables = read_methods(files, asked, reader=reader, format=file_format)
    folder = output or Path("calibench-runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{wanted.suite}"
    records = score_tables(tables, folder, wanted, overwrite=overwrite_strategy)
    _finish(records, folder, quiet=quiet)


def _finish(records: list[dict[str, Any]], folder: Path, *, quiet: bool) -> None:
    """Print the table, write the report, and fail where a row did."""
    from calibench.report import write_report
    from calibench.report.terminal.records import terminal_table
    from calibench.store.naming import label

    if not quiet:  # drawing takes longer than the numbers: nobody waits for it to see them
        _print(terminal_table(records))
        sys.stdout.flush()
    report = write_report(folder)
    if not quiet:
        click.echo(f"Report: {report}")
    failed = [record for record in records if record["status"] == "error"]
    if failed:
        names = ", ".join(label(record, records) for record in failed)
        raise click.ClickException(f"{len(failed)} of {len(records)} rows failed ({names}); see {report}.")


@main.command(cls=Command)
@click.argument("what", type=click.Choice(["methods", "metrics", "datasets", "posthoc", "readers", "suites"]))
def ls(what: str) -> None:
    """List what is registered: methods, metrics, data set loaders, post-hoc steps, readers or suites."""
    from calibench.metrics.select import title_of
    from calibench.registry import DATASETS, METHODS, METRICS, POSTHOC, READERS
    from calibench.suites.loader import load_suite, suite_names

    if what == "suites":
        rows = [(name, load_suite(name).title) for name in suite_names()]
    elif what == "metrics":
        rows = [(name, title_of(name)) for name in METRICS.names()]
    else:
        found = {"methods": METHODS, "datasets": DATASETS, "posthoc": POSTHOC, "readers": READERS}
        registry = found[what]
        rows = [(name, registry.summary(name)) for name in registry.names()]
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        click.echo(f"{name:<{width}}  {summary}")


@main.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
def show(records: Path) -> None:
    """Print the records of a run folder or records file in full."""
    from rich.console import Console

    from calibench.report.terminal.records import show_record
    from calibench.store.records import load_records

    console = Console()
    for record in load_records(records):
        console.print(show_record(record))


@main.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option(
    "--format",
    "formats",
    type=click.Choice(["markdown", "html", "model-card", "csv", "json"]),
    multiple=True,
    help="What to write beside the records; repeatable.  [default: markdown]",
)
@option("--html", is_flag=True, help="Write report.html too, one page that needs nothing else.")
@option("--include-text", is_flag=True, help="Show sentences on the page; mind the licence of the data.")
@option("--dataset", help="Folder or hub id of the sentences, where the data came from a folder.")
def report(
    records: Path, formats: tuple[str, ...], html: bool, include_text: bool, dataset: str | None
) -> None:
    """Write reports from a run folder: report.md and its figures, unless told otherwise."""
    from calibench import report as reports

    chosen = dict.fromkeys([*(formats or ["markdown"]), *(["html"] if html else [])])
    if include_text and "html" not in chosen:
        raise UsageError("--include-text is about the page, which was not asked for; add --html.")
    writers: dict[str, Callable[[Path], Path]] = {
        "markdown": reports.write_report,
        "html": lambda folder: reports.write_html(folder, include_text, dataset),
        "model-card": reports.write_model_card,
        "csv": reports.write_csv,
        "json": reports.write_json,
    }
    folder = records.parent if records.is_file() else records
    for name in chosen:
        click.echo(f"Report: {writers[name](folder)}")


#: What `compare` shows unless told otherwise.
COMPARED = ("accuracy", "nll", "brier", "ece_debiased", "ece")
#: The same where there are no classes.
COMPARED_CONFIDENCES = ("accuracy", "brier_confidence", "ece_debiased", "ece")


@main.command(cls=Command)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path), nargs=-1, required=True)
@option("--metric", "metrics", multiple=True, help=f"Repeatable.  [default: {', '.join(COMPARED)}]")
@option("--quality-only", is_flag=True, help="Leave timings out; batch plans may then differ.")
def compare(base: Path, new: tuple[Path, ...], metrics: tuple[str, ...], quality_only: bool) -> None:
    """Compare the cells of run folders NEW with the same ones of BASE, on the same examples.

    Runs that share no cell are compared with BASE's reference.
    """
    from calibench.compare import runs
    from calibench.metrics.select import select_metrics
    from calibench.report.terminal.comparison import comparison
    from calibench.store.records import is_scored

    first = runs.load_run(base)
    usual = COMPARED_CONFIDENCES if first.by_confidence else COMPARED
    chosen = select_metrics(
        metrics or usual, posterior_known=False, out_of_scope=True, classes_known=not first.by_confidence
    )
    for path in new:
        other = runs.load_run(path)
        match = runs.match if runs.same_cells(first, other) else runs.match_reference
        found = match(first, other, quality_only=quality_only)
        timed = not all(is_scored(pair.base) and is_scored(pair.new) for pair in found.pairs)
        _print(comparison(found, chosen, timing=timed and not quality_only))


@main.command(cls=Command)
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
    _print(checked(found, findings))
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


def _print(renderable: Any) -> None:
    from calibench.report.terminal.progress import printed

    printed(renderable)


@main.command(cls=Command)
def env() -> None:
    """Print what a record says of this machine and its libraries."""
    from calibench.measure.environment import capture

    for name, value in capture().items():
        click.echo(f"{name}: {'none' if value is None else value}")


if __name__ == "__main__":
    sys.exit(main())
