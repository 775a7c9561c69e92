"""`calibench log`: a run folder to other tools."""

from __future__ import annotations

from pathlib import Path

import click

from calibench.commands.base import Command, option, sent


@click.command(cls=Command)
@click.argument("records", type=click.Path(path_type=Path))
@option(
    "--to", "names", multiple=True, required=True, help="A sink, see calibench ls sinks: mlflow; repeatable."
)
def log(records: Path, names: tuple[str, ...]) -> None:
    """Send a run folder to other tools, such as MLflow or TensorBoard."""
    from calibench.flows.logging import sinks

    failures = sent(records, sinks(names), quiet=False)
    if failures:
        raise click.ClickException(" ".join(failures))
