"""Metrics and sinks as a third party would register them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from calibench.registry import METRICS, Registry


class _Point(EntryPoint):
    """An entry point with something at hand in the place of a module."""

    def load(self) -> Any:
        found = vars(self)["found"]
        if isinstance(found, BaseException):
            raise found
        return found


@dataclass(frozen=True)
class Registers:
    """A distribution."""

    name: str
    version: str


def register(
    monkeypatch: pytest.MonkeyPatch, *, version: str = "1.0", registry: Registry = METRICS, **things: Any
) -> None:
    """Let a package called halves register these, by name; what is an exception is raised by the import."""
    points = {name: list(points) for name, points in registry._found.items()}
    for name, found in things.items():
        point = _Point(name, "halves:thing", registry.group)
        vars(point).update(dist=Registers(name="halves", version=version), found=found)
        points[name] = [point]
    monkeypatch.setitem(vars(registry), "_found", points)
