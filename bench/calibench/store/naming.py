"""What tells cells of one method apart, in words that fit into a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from calibench.store.records import Record

#: Parameters that say nothing more once the number of members is named.
_CHOOSE_MEMBERS = {"members", "size", "last"}


def telling_parameters(record: Record, namesakes: Sequence[Record]) -> list[str]:
    """The parameters by which a record differs from others of its method.

    Args:
        namesakes: the records of the method, this one among them.

    Returns:
        `passes=5` for each parameter that differs; `2 members` where their number says which; lists with
        commas; `weights 1a2b3c4d` where only the weights of the members differ.
    """
    keys = sorted({key for other in namesakes for key in _params(other)})
    # Rows that share a measurement, such as those with a post-hoc step, are one cell here.
    counts = {(repr(_params(other)), _weights(other)): len(_members(other)) for other in namesakes}
    telling = []
    if len(set(counts.values())) == len(counts) > 1:
        telling.append(f"{len(_members(record))} members")
        keys = [key for key in keys if key not in _CHOOSE_MEMBERS]
    for key in keys:
        values = [_params(other).get(key) for other in namesakes]
        if len({repr(value) for value in values}) > 1:
            telling.append(_words(key, _params(record).get(key)))
    rivals = {_weights(other) for other in namesakes if _params(other) == _params(record)}
    if len(rivals) > 1:
        telling.append(f"weights {_weights(record)}")
    return telling


def _params(record: Record) -> dict[str, Any]:
    return record["method"].get("params") or {}


def _members(record: Record) -> list[Record]:
    return record["method"].get("members") or []


def _words(key: str, value: Any) -> str:
    return f"{key}={','.join(map(str, value))}" if isinstance(value, (list, tuple)) else f"{key}={value}"


def _weights(record: Record) -> str:
    """Eight hexadecimal digits that stand for the weights of all members."""
    parts = [member["sha256"] for member in _members(record)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]
