"""`calibench run`: measure a suite."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from calibench.commands.base import (
    Command,
    in_json,
    interrupted,
    into_folder,
    option,
    overwriting,
    print_json,
    quietly,
    refuse_failed,
    run_found,
    show_on_terminal,
    told,
)
from calibench.commands.completion import registered, suites

#: What help shows together.
_GROUPS = {
    "What is measured": ("methods", "method_args", "runtimes", "passes", "posthoc", "seed"),
    "Data": (
        "loader",
        "dataset",
        "dataset_config",
        "dataset_revision",
        "split",
        "limit",
        "text_columns",
        "label_column",
        "label_map",
        "delimiter",
        "encoding",
        "quoting",
    ),
    "Model and device": ("model", "model_revision", "device", "dtype", "attention"),
    "What is fitted": ("calibration_split", "unseen", "train_split", "train_limit"),
    "Prediction sets and shifted data": (
        "conformal",
        "conformal_level",
        "class_conditional",
        "shift",
        "shift_strengths",
        "also",
    ),
    "Batches and timing": (
        "token_budget",
        "batch_size",
        "memory_budget_mb",
        "warmup",
        "runs",
        "min_time",
        "timeout_per_block",
        "effort",
        "self_check",
    ),
}


@click.command(cls=Command, groups=_GROUPS)
@click.argument("suite", default="embedded", shell_complete=suites)
@option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    shell_complete=registered("METHODS"),
    help="Run this method instead of the suite's; repeatable.",
)
@option(
    "-a", "--method-arg", "method_args", multiple=True, help="METHOD.key=value, or key=value for one method."
)
@option(
    "--runtime",
    "runtimes",
    multiple=True,
    shell_complete=registered("RUNTIMES"),
    help="What runs the model: torch, compile, bfloat16, onnxruntime, onnxruntime-int8; repeatable.",
)
@option(
    "--posthoc",
    multiple=True,
    shell_complete=registered("POSTHOC"),
    help="Add a row with this post-hoc step to every method; repeatable.",
)
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
@option(
    "--loader",
    shell_complete=registered("DATASETS"),
    help="Data set loader, instead of the suite's: see calibench ls datasets.",
)
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
@option(
    "-w", "--warmup", type=click.IntRange(min=0), help="Untimed batches per method before the timed blocks."
)
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
@overwriting("Cells with a record in the run folder: measure again, refuse, or keep.")
@option(
    "--log",
    "sinks",
    multiple=True,
    shell_complete=registered("SINKS"),
    help="Send it to this tool too: see calibench ls sinks; repeatable.",
)
@option("--dry-run", is_flag=True, help="Say what would run and about how long; measure nothing.")
@in_json
@quietly
@option("-v", "--verbose", is_flag=True, help="Print each step on a line of its own.")
def run(
    suite: str,
    output: Path | None,
    device: str,
    self_check: bool,
    sinks: tuple[str, ...],
    dry_run: bool,
    overwrite_strategy: Any,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Run SUITE, a suite's name or a TOML file, and print the table."""
    from calibench.registry import require
    from calibench.store.paths import dated_folder
    from calibench.suites.loader import load_suite
    from calibench.suites.overrides import Overrides, override

    require("run", "calibench run")
    chosen = override(load_suite(suite), Overrides(**given))
    folder = output or dated_folder(Path(given["dataset"] or chosen.name).stem)
    found = _sinks(sinks)

    if dry_run:
        from calibench.sweep.dry_run import dry_run as look
        from calibench.sweep.planned import dry_table

        looked = look(chosen, folder, device)
        if as_json:
            print_json(asdict(looked))
        else:
            show_on_terminal(dry_table(looked))
        return

    from calibench.measure.fork_server import ahead
    from calibench.report.terminal.progress import Display

    with Display(quiet=quiet, verbose=verbose) as display, ahead(chosen.timing.memory):
        from calibench.report import write_report
        from calibench.report.parts.against import closing
        from calibench.report.terminal.records import terminal_table
        from calibench.run import run as run_suite

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
            raise interrupted(
                f"; finished blocks are kept: run the same command with -o {folder} to go on"
            ) from None
        report = write_report(folder)
    if as_json:
        print_json(run_found(records, folder, report))
    elif not quiet:
        display.print(terminal_table(records, folder))
        if self_check:
            display.print(closing(records, folder))
        click.echo(f"Report: {report}")
    refuse_failed(records, report, "cells", _logged(folder, found, quiet=quiet or as_json))


def _logged(folder: Path, chosen: dict[str, Any], *, quiet: bool) -> list[str]:
    """Send the run to its sinks; the sentences of those that failed."""
    if not chosen:
        return []
    from calibench.flows.logging import log

    return told(log(folder, chosen), quiet=quiet)


def _sinks(names: tuple[str, ...]) -> dict[str, Any]:
    """What runs are sent to, which takes no import where nobody asks for it."""
    if not names:
        return {}
    from calibench.flows.logging import sinks

    return sinks(names)
