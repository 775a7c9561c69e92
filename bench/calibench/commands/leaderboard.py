"""`calibench leaderboard`: methods over tasks, from run folders."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command, in_json, option, quietly, show_on_terminal
from calibench.commands.completion import registered
from calibench.errors import UsageError


@click.command(cls=Command)
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=registered("METRICS"),
    help="Rank by it, the first one foremost; repeatable.  [default: nll, ece_debiased, brier, accuracy]",
)
@option("--reference", help="Compare with this method.  [default: that of the records]")
@option(
    "--min-tasks",
    type=click.IntRange(min=1),
    help="Rank methods that are in so many tasks, on the tasks that have them all.  [default: all tasks]",
)
@option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the pages, the table and the figures."
)
@option(
    "--format",
    "formats",
    type=click.Choice(["markdown", "html", "csv"]),
    multiple=True,
    help="What to write there; repeatable.  [default: all]",
)
@in_json
@quietly
def leaderboard(
    folders: tuple[Path, ...],
    metrics: tuple[str, ...],
    reference: str | None,
    min_tasks: int | None,
    output: Path | None,
    formats: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Rank methods over the tasks of all run folders in FOLDERS, at any depth.

    A task is a data set; checkpoints and seeds on it are replicates. What cannot be compared is left out, and
    said to be.
    """
    from calibench.compare.leaderboard import leaderboard as ranked

    if formats and output is None:
        raise UsageError("--format is about files, and there is no folder for them; add -o FOLDER.")
    board = ranked(folders, metrics, reference=reference, min_tasks=min_tasks)
    if as_json:
        from calibench.report.pages.leaderboard import as_json as json_of

        click.echo(json_of(board))
    elif not quiet:
        from calibench.report.terminal.leaderboard import board_table

        show_on_terminal(board_table(board))
    if output is not None:
        from calibench.report.pages.leaderboard import written

        for path in written(board, output, formats):
            if not quiet and not as_json:
                click.echo(f"Leaderboard: {path}")
