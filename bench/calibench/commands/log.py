"""`calibench log`: a run folder to other tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from calibench.commands.base import Command, in_json, option, print_json, told
from calibench.commands.completion import registered


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option(
    "--to",
    "names",
    multiple=True,
    required=True,
    shell_complete=registered("SINKS"),
    help="A sink, see calibench ls sinks: mlflow; repeatable.",
)
@in_json
def log(records: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Send a run folder to other tools, such as MLflow or TensorBoard."""
    from calibench.flows.logging import log as sent
    from calibench.flows.logging import sinks

    found = list(sent(records, sinks(names)))
    if as_json:
        print_json([asdict(item) for item in found])
    failures = told(found, quiet=as_json)
    if failures:
        raise click.ClickException(" ".join(failures))
