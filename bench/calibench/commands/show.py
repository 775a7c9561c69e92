"""`calibench show`: records in full."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
def show(records: Path) -> None:
    """Print the records of a run folder or records file in full."""
    from rich.console import Console

    from calibench.report.terminal.records import show_record
    from calibench.store.records import load_records

    console = Console()
    for record in load_records(records):
        console.print(show_record(record))
