"""`calibench show`: records in full."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command, in_json, print_json


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@in_json
def show(records: Path, as_json: bool) -> None:
    """Print the records of a run folder or records file in full."""
    from rich.console import Console

    from calibench.report.terminal.records import show_record
    from calibench.store.records import load_records

    found = load_records(records)
    if as_json:
        print_json(found)
        return
    console = Console()
    for record in found:
        console.print(show_record(record))
