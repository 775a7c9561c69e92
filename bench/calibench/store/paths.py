"""Local paths among parameters, of which records name what they lead to; and where a run goes by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def without_paths(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the base name of each local path in its place."""
    return {
        key: [base_name(item) for item in value] if isinstance(value, (list, tuple)) else base_name(value)
        for key, value in params.items()
    }


def folders(params: Mapping[str, Any]) -> list[str]:
    """The base names that stand for local paths in `without_paths(params)`."""
    return sorted({base_name(item) for item in _items(params) if _is_path(item)})


def scrubbed(message: str, params: Mapping[str, Any]) -> str:
    """A message with the base name of each local path among the parameters in its place."""
    for item in sorted((item for item in _items(params) if isinstance(item, str)), key=len, reverse=True):
        message = message.replace(item, base_name(item)) if base_name(item) != item else message
    return message


def dated_folder(name: str) -> Path:
    """The run folder of who names none: below the working directory, by the time and what is run."""
    return Path("calibench-runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"


def base_name(value: Any) -> Any:
    """The base name of a local path; anything else as it is."""
    return os.path.basename(os.path.abspath(os.path.expanduser(value))) if _is_path(value) else value


def _is_path(value: Any) -> bool:
    """Whether it is written as a local path, or is the name of something in the working directory."""
    if not isinstance(value, str) or not value:
        return False
    path = os.path.expanduser(value)
    written_as_path = os.path.isabs(path) or value.startswith(("./", "../")) or value in {".", ".."}
    return written_as_path or os.path.exists(path)


def _items(params: Mapping[str, Any]) -> Iterator[Any]:
    for value in params.values():
        yield from value if isinstance(value, (list, tuple)) else (value,)
