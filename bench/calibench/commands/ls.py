"""`calibench ls`: what is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibench.commands.base import Command, in_json, print_json
from calibench.errors import UsageError

if TYPE_CHECKING:
    from calibench.registry import Registry

_KINDS = ["methods", "metrics", "datasets", "posthoc", "runtimes", "readers", "sinks", "suites"]


@click.command(cls=Command)
@click.argument("what", type=click.Choice(_KINDS))
@in_json
def ls(what: str, as_json: bool) -> None:
    """List what is registered: methods, metrics, data set loaders, post-hoc steps, runtimes and so on."""
    from calibench.registry import DATASETS, METHODS, METRICS, POSTHOC, READERS, RUNTIMES, SINKS

    # Each takes what it lists and no more: numpy takes longer to import than a listing without it.
    if what == "suites":
        from calibench.suites.loader import load_suite, suite_names

        rows = [(name, load_suite(name).title) for name in suite_names()]
    elif what == "metrics":
        from calibench.metrics.select import title_of

        rows = [(name, title_of(name)) for name in METRICS.names()]
    else:
        found = {
            "methods": METHODS,
            "datasets": DATASETS,
            "posthoc": POSTHOC,
            "runtimes": RUNTIMES,
            "readers": READERS,
            "sinks": SINKS,
        }
        registry = found[what]
        rows = [(name, _with_needs(registry, name)) for name in registry.names()]
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        click.echo(f"{name:<{width}}  {summary}")


def _with_needs(registry: Registry, name: str) -> str:
    """What it is, and what has to be installed for it."""
    summary = registry.summary(name)
    try:
        lacking = registry.lacks(name)
    except UsageError:  # two packages register it, which the summary says
        return summary
    return summary if lacking is None else f"{summary} ({lacking})"
