"""`calibench score`: predictions that come in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from calibench.commands.base import Command, finish, in_json, into_folder, option, overwriting, quietly
from calibench.commands.completion import registered


@click.command(cls=Command)
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
@option(
    "--from",
    "reader",
    default="file",
    show_default=True,
    shell_complete=registered("READERS"),
    help="What wrote it: see ls readers.",
)
@option(
    "--normalise",
    type=click.Choice(["none", "characters", "bytes"]),
    default="none",
    show_default=True,
    help="Of lm-eval, what log-likelihoods of choices are divided by.",
)
@option("--reference", help="Compare with this method.  [default: the first]")
@option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=registered("METRICS"),
    help="Compute this metric; repeatable.  [default: all]",
)
@option(
    "--posthoc",
    multiple=True,
    shell_complete=registered("POSTHOC"),
    help="Add a row with this post-hoc step to every file; repeatable.",
)
@option("--conformal", multiple=True, help="Make prediction sets of every row: lac, aps or raps; repeatable.")
@option(
    "--conformal-level", type=float, default=0.9, show_default=True, help="How often they hold the label."
)
@option("--class-conditional", is_flag=True, help="Hold that level within every class.")
@option(
    "--calibration-split",
    metavar="COLUMN=VALUE",
    help="Fit steps and sets on these rows, and score the others.  [default: cross-fit]",
)
@option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds and resampling.")
@option("--suite", default="scored", show_default=True, help="What the table is called.")
@into_folder
@overwriting("Rows with a record in the run folder: score again, refuse, or keep.")
@in_json
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
    as_json: bool,
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
    from calibench.report.terminal.progress import Display
    from calibench.score.scored import Wanted
    from calibench.store.paths import dated_folder

    names = [name_and_file(word)[0] for word in files]
    column, by_method = parse_prices(prices, names)
    columns = (
        "calibration_split",
        "label",
        "probs",
        "prob",
        "logits",
        "confidence",
        "correct",
        "group",
        "renormalise",
    )
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
        metrics=tuple(dict.fromkeys(given["metrics"])),
        seed=given["seed"],
        prices=by_method,
    )
    folder = output or dated_folder(wanted.suite)
    with Display(quiet=quiet, verbose=False) as display:
        display.stage("Reading", len(files))
        tables = read_methods(files, asked, reader=reader, format=file_format, told=display.step)
        records = score_tables(tables, folder, wanted, overwrite=overwrite_strategy, progress=display)
    del tables  # the report reads what was stored
    finish(records, folder, quiet=quiet, as_json=as_json)
