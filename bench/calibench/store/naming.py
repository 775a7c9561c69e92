"""What a row is called, everywhere: its method, what tells it from its namesakes, and its post-hoc step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from calibench.store.records import Record

#: Parameters that say nothing more once the number of members is named.
_CHOOSE_MEMBERS = {"members", "size", "last"}


def label(record: Record, among: Sequence[Record]) -> str:
    """`mc-dropout (passes=20, seed 1) + temperature`: what stands in brackets only where it tells rows apart.

    Args:
        among: the records that it is to be told from, this one among them. Its namesakes are those of its
            method, with post-hoc steps or without, so that a method is called alike in all its rows.
    """
    method = record["method"]
    telling = telling_parameters(record, [one for one in among if one["method"]["name"] == method["name"]])
    if len({one.get("seed") for one in among}) > 1:
        telling.append(f"seed {record.get('seed')}")
    name = f"{method['name']} ({', '.join(telling)})" if telling else str(method["name"])
    return f"{name} + {method['posthoc']}" if method.get("posthoc") else name


def anywhere(record: Record) -> Record:
    """What a row is on any data set, as a record of its own: two rows are one where these are equal.

    It has the method's name, parameters, post-hoc step and who registers it, and neither seed nor weights. A
    checkpoint among the parameters belongs to a task; in its place stands their number, `3 checkpoints`.
    """
    method = record["method"]
    own = {*(method.get("folders") or ()), *(member["name"] for member in _members(record))}
    params = {key: _counted(value, own) for key, value in _params(record).items()}
    # Another version of the same package is the same method, as far as a name can say.
    package = str(method.get("distribution") or "").partition(" ")[0]
    kept = {"name": method["name"], "posthoc": method.get("posthoc"), "package": package}
    return {"method": kept | {"params": params}}


def _counted(value: Any, checkpoints: set[str]) -> Any:
    items = value if isinstance(value, (list, tuple)) else [value]
    there = bool(items) and all(isinstance(item, str) and item in checkpoints for item in items)
    return f"{len(items)} checkpoint{'s' if len(items) > 1 else ''}" if there else value


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
