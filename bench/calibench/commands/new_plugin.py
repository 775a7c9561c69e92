"""`calibench new-plugin`: a package with a method, a metric and a loader, to be filled in."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from calibench.commands.base import Command, in_json, print_json
from calibench.errors import UsageError

#: By the file of a template, the one it becomes.
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "{module}/__init__.py",
    "method.py": "{module}/method.py",
    "metric.py": "{module}/metric.py",
    "loader.py": "{module}/loader.py",
    "test_plugin.py": "tests/test_plugin.py",
}


@click.command(cls=Command)
@click.argument("name")
@in_json
def new_plugin(name: str, as_json: bool) -> None:
    """Write the package NAME with a method, a metric and a loader, whose tests pass, into a new folder."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} is no name for a package; expected small letters, digits and single hyphens, such as "
            "my-method."
        )
    folder, module = Path(name), name.replace("-", "_")
    if folder.exists():
        raise UsageError(f"{name} is there already; choose another name, or move it away.")
    written: list[Path] = []
    templates = files("calibench.commands") / "plugin"
    for template, target in _FILES.items():
        text = (templates / f"{template}.txt").read_text(encoding="utf-8")
        file = folder / target.format(module=module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(name=name, module=module), encoding="utf-8")
        written.append(file)
    if as_json:
        print_json([str(file) for file in written])
        return
    for file in written:
        click.echo(file)
    click.echo(f"Next: cd {name}, pip install -e '.[dev]', pytest, calibench run -m frequentist -m {name}")
