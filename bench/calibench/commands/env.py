"""`calibench env`: this machine and its libraries."""

from __future__ import annotations

import click

from calibench.commands.base import Command, in_json, print_json


@click.command(cls=Command)
@in_json
def env(as_json: bool) -> None:
    """Print what a record says of this machine and its libraries."""
    from importlib.util import find_spec

    from calibench.measure.environment import capture, capture_reading

    found = capture_reading() if find_spec("torch") is None else capture()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name}: {'none' if value is None else value}")
