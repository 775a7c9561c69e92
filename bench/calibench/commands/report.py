"""`calibench report`: pages and tables from a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command, in_json, option, print_json
from calibench.errors import UsageError


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option(
    "--format",
    "formats",
    type=click.Choice(["markdown", "html", "model-card", "eval-results", "csv", "json"]),
    multiple=True,
    help="What to write beside the records; repeatable.  [default: markdown]",
)
@option("--html", is_flag=True, help="Write report.html too, one page that needs nothing else.")
@option("--include-text", is_flag=True, help="Show sentences on the page; mind the licence of the data.")
@option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where one form that is a text goes; - prints it.",
)
@option("--dataset", help="Folder or hub id of the sentences, where the data came from a folder.")
@in_json
def report(
    records: Path,
    formats: tuple[str, ...],
    html: bool,
    include_text: bool,
    output: str | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Write reports from a run folder: report.md and its figures, unless told otherwise."""
    from calibench import report as reports

    chosen = dict.fromkeys([*(formats or ["markdown"]), *(["html"] if html else [])])
    if include_text and "html" not in chosen:
        raise UsageError("--include-text is about the page, which was not asked for; add --html.")
    folder = records.parent if records.is_file() else records
    if output is not None:
        _one(folder, list(chosen), output)
        return
    paths = []
    for path in reports.write(folder, chosen, include_text=include_text, dataset=dataset):
        paths.append(str(path))
        if not as_json:
            click.echo(f"Report: {path}")
    if as_json:
        print_json(paths)


def _one(folder: Path, forms: list[str], output: str) -> None:
    """Write one form to a file of any name, or print it."""
    from calibench.report import TEXTS, text_of
    from calibench.store.files import write_whole

    if len(forms) != 1 or forms[0] not in TEXTS:
        raise UsageError(
            f"--output is for one form that is a text, and there is {', '.join(forms)}; give one --format of "
            f"{', '.join(TEXTS)}."
        )
    text = text_of(folder, forms[0])
    if output == "-":
        click.echo(text, nl=False)
    else:
        write_whole(Path(output), text.encode())
        click.echo(f"Report: {output}")
