"""`calibench compare`: run folders, cell by cell."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command, option, show_on_terminal

#: What `compare` shows unless told otherwise.
COMPARED = ("accuracy", "nll", "brier", "ece_debiased", "ece")
#: The same where there are no classes.
COMPARED_CONFIDENCES = ("accuracy", "brier_confidence", "ece_debiased", "ece")


@click.command(cls=Command)
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
    from calibench.store.records import is_untimed

    first = runs.load_run(base)
    usual = COMPARED_CONFIDENCES if first.by_confidence else COMPARED
    chosen = select_metrics(
        metrics or usual, posterior_known=False, out_of_scope=True, classes_known=not first.by_confidence
    )
    for path in new:
        other = runs.load_run(path)
        match = runs.match if runs.same_cells(first, other) else runs.match_reference
        found = match(first, other, quality_only=quality_only)
        timed = not all(is_untimed(pair.base) or is_untimed(pair.new) for pair in found.pairs)
        show_on_terminal(comparison(found, chosen, timing=timed and not quality_only))
