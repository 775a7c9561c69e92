"""`calibench env`: this machine and its libraries."""

from __future__ import annotations

import click

from calibench.commands.base import Command


@click.command(cls=Command)
def env() -> None:
    """Print what a record says of this machine and its libraries."""
    from calibench.measure.environment import capture

    for name, value in capture().items():
        click.echo(f"{name}: {'none' if value is None else value}")
