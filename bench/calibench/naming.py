"""What tells cells of one method apart, in words that fit into a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def telling_parameters(record: Record, namesakes: Sequence[Record]) -> list[str]:
    """The parameters by which a record differs from others of its method.

    Args:
        namesakes: the records of the method, this one among them.

    Returns:
        `passes=5` for each parameter that differs; lists by their length, `2 members`, where that says which,
        else with commas; `weights 1a2b3c4d` where only the weights of the members differ.
    """
    keys = sorted({key for other in namesakes for key in _params(other)})
    telling = []
    for key in keys:
        values = [_params(other).get(key) for other in namesakes]
        if len({repr(value) for value in values}) > 1:
            telling.append(_words(key, _params(record).get(key), values))
    rivals = {_weights(other) for other in namesakes if _params(other) == _params(record)}
    if len(rivals) > 1:
        telling.append(f"weights {_weights(record)}")
    return telling


def _params(record: Record) -> dict[str, Any]:
    return record["method"].get("params") or {}


def _words(key: str, value: Any, values: Sequence[Any]) -> str:
    if not isinstance(value, (list, tuple)):
        return f"{key}={value}"
    distinct = {repr(other): len(other) for other in values if isinstance(other, (list, tuple))}
    if list(distinct.values()).count(len(value)) == 1:
        return f"{len(value)} {key}"
    return f"{key}={','.join(map(str, value))}"


def _weights(record: Record) -> str:
    """Eight hexadecimal digits that stand for the weights of all members."""
    parts = [member["sha256"] for member in record["method"].get("members") or []]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]
