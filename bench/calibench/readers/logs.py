"""Logs of evaluation tools: JSON lines, and values by their path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from calibench.errors import UsageError
from calibench.readers.files import Source, object_in


def content_of(source: Source) -> bytes:
    """All of a file.

    Raises:
        UsageError: it cannot be read.
    """
    if source.path is None:
        return source.content
    try:
        return source.path.read_bytes()
    except OSError as error:
        raise UsageError(f"{source.name!r} cannot be read ({error.strerror}); check the path.") from error


def lines_of(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one per line, each with the number of its line, from 1.

    Raises:
        UsageError: a line that is no object, or none at all.
    """
    number = 0
    for number, line in enumerate(content_of(source).split(b"\n"), start=1):
        if line.strip():
            yield number, object_in(source.name, number, line)
    if not number or not content_of(source).strip():
        raise UsageError(f"{source.name!r} holds no rows; expected a JSON object per line.")


def value_at(value: Any, path: str) -> Any:
    """What is at a path of keys, such as "doc.subject", or None."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def text_at(value: Any, path: str) -> str | None:
    """`value_at` as a word; None where there is nothing, or more than one value."""
    found = value_at(value, path)
    return None if found is None or isinstance(found, Mapping | list) else str(found)
