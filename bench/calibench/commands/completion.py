"""What a shell completes: names that are registered, without importing what they stand for."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

Completing = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def registered(registry: str) -> Completing:
    """Names of a registry of `calibench.registry`, with what each is."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from calibench import registry as registries

        found = getattr(registries, registry)
        return [
            CompletionItem(name, help=found.summary(name))
            for name in found.names()
            if name.startswith(incomplete)
        ]

    return complete


def suites(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The suites that come with calibench, and files."""
    from calibench.suites.loader import suite_names

    names = [name for name in suite_names() if name.startswith(incomplete)]
    # Where no name fits, it is a file that the shell knows better.
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]
