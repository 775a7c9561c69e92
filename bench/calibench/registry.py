"""Methods, metrics, data set loaders, post-hoc steps and readers by name: entry points, loaded when asked "
"for."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

from calibench.containment import contained
from calibench.errors import CalibenchError, UsageError, unknown


class Registry:
    """The entry points of one group.

    Args:
        group: entry point group, for instance "calibench.methods".
        noun: what one of them is called in messages.
    """

    def __init__(self, group: str, noun: str) -> None:
        self.group = group
        self.noun = noun

    @cached_property
    def _found(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            same = found.setdefault(point.name, [])
            if all(distribution(point) != distribution(other) for other in same):
                same.append(point)
        return found

    def names(self) -> list[str]:
        """Every registered name, sorted; nothing is imported."""
        return sorted(self._found)

    def entry_point(self, name: str) -> EntryPoint:
        """The entry point called `name`.

        Raises:
            UsageError: no such name (the message lists the choices and the nearest one), or two
                distributions register it (the message names both).
        """
        points = self._found.get(name, [])
        if not points:
            raise unknown(f"Unknown {self.noun} {name!r}", name, self.names())
        if len(points) > 1:
            both = " and ".join(distribution(point) for point in points)
            raise UsageError(f"The {self.noun} {name!r} is registered by both {both}; uninstall one of them.")
        return points[0]

    def lacks(self, name: str) -> str | None:
        """What `name` needs and this environment does not have, with the line that installs it; else None.

        An entry point says what it needs by naming extras of its distribution: `module:Class [extra]`.
        Nothing is imported.
        """
        point = self.entry_point(name)
        if point.dist is None:
            return None
        for extra in point.extras:
            missing = _missing(point.dist, extra)
            if missing:
                # `EntryPoint.extras` splits names at hyphens, so that entry points write underscores.
                extra = extra.replace("_", "-")
                return f"needs {' and '.join(missing)}: pip install '{point.dist.name}[{extra}]'"
        return None

    def load(self, name: str) -> Any:
        """Import what `name` stands for.

        Raises:
            UsageError: as `entry_point`, or it fails for want of a package that it says it needs.
            CalibenchError: its module fails to import.
        """
        point = self.entry_point(name)
        try:
            return contained(f"The {self.noun} {name!r}", point.load)
        except Exception as error:
            lacking = self.lacks(name)
            if lacking is not None:
                raise UsageError(f"The {self.noun} {name!r} {lacking}.") from error
            raise CalibenchError(
                f"The {self.noun} {name!r} from {distribution(point)} failed to import "
                f"({type(error).__name__}: {error}); repair or uninstall that package."
            ) from error

    def summary(self, name: str) -> str:
        """The first line of the docstring of the module behind `name`, read without importing it."""
        try:
            point = self.entry_point(name)
        except UsageError as error:
            return str(error)
        try:
            spec = importlib.util.find_spec(point.module)
            source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
            text = ast.get_docstring(ast.parse(source)) or ""
        except Exception as error:  # a plugin may break in any way, and must not take the listing with it
            return f"cannot be read ({type(error).__name__}: {error})"
        return text.partition("\n")[0]


def require(extra: str, what: str) -> None:
    """Refuse where packages of an extra of ours are not installed.

    Args:
        what: the command or call that needs them, for the message.

    Raises:
        UsageError: says which, and how to install them.
    """
    ours = importlib.metadata.distribution("calibench")
    missing = _missing(ours, extra)
    if missing:
        raise UsageError(
            f"{what} needs {' and '.join(missing)}, which this installation leaves out: "
            f"pip install '{ours.name}[{extra}]'."
        )


def _missing(found: Distribution, extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [name for name in _packages(found, extra) if not _is_installed(name)]


@cache
def _packages(found: Distribution, extra: str) -> tuple[str, ...]:
    """The packages of an extra, those of extras that it takes in among them."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in found.requires or ()]
    names = [
        item.name
        for item in asked
        if item.marker is not None
        and item.marker.evaluate({"extra": extra.replace("_", "-")})
        and not item.marker.evaluate({"extra": ""})
    ]
    return tuple(name for name in dict.fromkeys(names) if name != found.name)


@cache
def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def distribution(point: EntryPoint) -> str:
    """Name and version of the distribution that registers an entry point."""
    return _called(point.dist) if point.dist else "an unknown distribution"


@cache
def _called(found: Distribution) -> str:
    # Each of the two reads and parses the distribution's whole metadata.
    return f"{found.name} {found.version}"


METHODS = Registry("calibench.methods", "method")
METRICS = Registry("calibench.metrics", "metric")
DATASETS = Registry("calibench.datasets", "data set loader")
POSTHOC = Registry("calibench.posthoc", "post-hoc step")
READERS = Registry("calibench.readers", "reader")
RUNTIMES = Registry("calibench.runtimes", "runtime")
SINKS = Registry("calibench.sinks", "sink")
