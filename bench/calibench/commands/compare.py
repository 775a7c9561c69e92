"""`calibench compare`: run folders, cell by cell."""

from __future__ import annotations

import click

from calibench.commands.base import Command, in_json, option, print_json, show_on_terminal
from calibench.commands.completion import registered

#: What `compare` shows unless told otherwise.
COMPARED = ("accuracy", "nll", "brier", "ece_debiased", "ece")
#: The same where there are no classes.
COMPARED_CONFIDENCES = ("accuracy", "brier_confidence", "ece_debiased", "ece")


@click.command(cls=Command)
@click.argument("base", metavar="BASE[::ROW]")
@click.argument("new", metavar="NEW[::ROW]...", nargs=-1, required=True)
@option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=registered("METRICS"),
    help=f"Repeatable.  [default: {', '.join(COMPARED)}]",
)
@option("--quality-only", is_flag=True, help="Leave timings out; batch plans may then differ.")
@in_json
def compare(
    base: str, new: tuple[str, ...], metrics: tuple[str, ...], quality_only: bool, as_json: bool
) -> None:
    """Compare the cells of run folders NEW with the same ones of BASE, on the same examples.

    Runs that share no cell are compared with BASE's reference. With ::ROW, a row's label as it is printed,
    any row is compared with any other: `before::frequentist "after::frequentist + temperature"`. Where only
    NEW names one, that of BASE is the same or else the reference; where only BASE does, all of NEW are.
    """
    from calibench.compare import runs
    from calibench.compare.matched_rows import matched_rows
    from calibench.metrics.select import select_metrics
    from calibench.report.pages.comparison import as_table
    from calibench.report.terminal.comparison import comparison
    from calibench.store.records import is_untimed

    folder, row = runs.split_row(base)
    first = runs.load_run(folder)
    usual = COMPARED_CONFIDENCES if first.by_confidence else COMPARED
    chosen = select_metrics(
        metrics or usual, posterior_known=False, out_of_scope=True, classes_known=not first.by_confidence
    )
    compared = []
    for folder, other_row in map(runs.split_row, new):
        other = runs.load_run(folder)
        if (row, other_row) != (None, None):
            found = runs.match_rows(first, row, other, other_row, quality_only=quality_only)
        else:
            match = runs.match if runs.same_cells(first, other) else runs.match_reference
            found = match(first, other, quality_only=quality_only)
        timed = not all(is_untimed(pair.base) or is_untimed(pair.new) for pair in found.pairs)
        rows = matched_rows(found, chosen, timing=timed and not quality_only)
        if as_json:
            compared.append(as_table(found, rows))
        else:
            show_on_terminal(comparison(found, rows))
    if as_json:
        print_json(compared)
