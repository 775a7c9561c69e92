"""`calibench run`: its help."""

from __future__ import annotations

import re

import click
from click.testing import CliRunner

from calibench.cli import main
from calibench.commands.run import run


def test_help_shows_every_option_once_and_under_a_heading() -> None:
    """Those that share a parameter too; what belongs together stands together."""
    shown = CliRunner().invoke(main, ["run", "--help"]).output
    options = [item for item in run.get_params(click.Context(run)) if isinstance(item, click.Option)]
    for name in (name for item in options for name in item.opts if name.startswith("--")):
        assert len(re.findall(rf"^  (?:-\w, )?{name}\b(?!-)", shown, re.MULTILINE)) == 1, name
    headings = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert headings[0] == "What is measured"
    assert headings[-1] == "Options"
    assert len(headings) > 5
    assert "  [SUITE]" not in shown
