"""Suites of calibench on fewer examples."""

from __future__ import annotations

from dataclasses import replace

from calibench.suites.loader import load_suite
from calibench.suites.spec import Suite


def limited(name: str, limit: int) -> Suite:
    """The suite of that name on a random subset of its data."""
    suite = load_suite(name)
    return replace(suite, data=replace(suite.data, limit=limit))
