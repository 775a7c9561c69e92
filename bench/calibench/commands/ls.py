"""`calibench ls`: what is registered."""

from __future__ import annotations

import click

from calibench.commands.base import Command


@click.command(cls=Command)
@click.argument("what", type=click.Choice(["methods", "metrics", "datasets", "posthoc", "readers", "suites"]))
def ls(what: str) -> None:
    """List what is registered: methods, metrics, data set loaders, post-hoc steps, readers or suites."""
    from calibench.metrics.select import title_of
    from calibench.registry import DATASETS, METHODS, METRICS, POSTHOC, READERS
    from calibench.suites.loader import load_suite, suite_names

    if what == "suites":
        rows = [(name, load_suite(name).title) for name in suite_names()]
    elif what == "metrics":
        rows = [(name, title_of(name)) for name in METRICS.names()]
    else:
        found = {"methods": METHODS, "datasets": DATASETS, "posthoc": POSTHOC, "readers": READERS}
        registry = found[what]
        rows = [(name, registry.summary(name)) for name in registry.names()]
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        click.echo(f"{name:<{width}}  {summary}")
