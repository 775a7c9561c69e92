"""A suite file -> `Suite`, every key and value checked."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from calibench.errors import UsageError, unknown
from calibench.suites.spec import LONGEST_TIMEOUT, MethodSpec, Suite, YardstickSpec

T = TypeVar("T")


def suite_names() -> list[str]:
    """The suites that come with calibench."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("calibench.suites").iterdir()
        if entry.name.endswith(".toml")
    )


def load_suite(name: str) -> Suite:
    """Read a suite by name, or from a TOML file.

    Raises:
        UsageError: no such suite or file, bad TOML, or a key or value that no suite has.
    """
    if name in suite_names():
        return parse_suite(files("calibench.suites").joinpath(f"{name}.toml").read_text("utf-8"), name)
    path = Path(name)
    if path.suffix != ".toml":
        raise unknown(f"Unknown suite {name!r}", name, suite_names(), ", or name a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"Could not read the suite {name} ({reason}); give a readable TOML file.") from error
    return parse_suite(text, path.stem)


def parse_suite(text: str, name: str) -> Suite:
    """Make a suite of TOML text; `name` is its name where the text gives none."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The suite {name!r} is not valid TOML: {error}.") from error
    return suite_of(table, name)


def table_of(suite: Suite) -> dict[str, Any]:
    """The suite as a table that `suite_of` makes it of again, in types that JSON has."""
    table: dict[str, Any] = _table(suite)
    return table


def _table(value: Any) -> Any:
    if is_dataclass(value):
        found = {item.name: getattr(value, item.name) for item in fields(value)}
        return {key: _table(item) for key, item in found.items() if item is not None}
    if isinstance(value, tuple):
        return [_table(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def suite_of(table: Mapping[str, Any], name: str) -> Suite:
    """Make a suite of a table; `name` is its name where the table gives none."""
    suite = build(Suite, {"name": name} | dict(table), f"the suite {name!r}")
    if not suite.method:
        raise UsageError(f"The suite {name!r} names no method; add a [[method]] table with a name.")
    for label, value, least in _numbers(suite):
        if value is not None and not least <= value < math.inf:
            raise UsageError(f"{label} is {value} in the suite {name!r}; expected {least} or more.")
    limit = suite.timing.timeout_per_block
    if limit is not None and not 0 < limit <= LONGEST_TIMEOUT:
        raise UsageError(
            f"timing.timeout_per_block is {limit:g} in the suite {name!r}; expected seconds above 0 and up "
            "to a year."
        )
    if suite.yardstick is not None:
        _check_yardstick(suite.yardstick, f"the suite {name!r}")
    if not suite.seeds:
        raise UsageError(f"seeds is empty in the suite {name!r}; expected at least one integer.")
    return suite


def _numbers(suite: Suite) -> Iterator[tuple[str, float | None, int]]:
    """What a number is called, the number, and the least it may be."""
    timing = suite.timing
    yield from (
        ("passes", suite.passes, 1),
        ("data.limit", suite.data.limit, 1),
        ("train.limit", suite.train.limit, 1),
        ("calibration.limit", suite.calibration.limit, 1),
        ("calibration.folds", suite.calibration.folds, 2),
        ("timing.runs", timing.runs, 1),
        ("timing.min_time", timing.min_time, 0),
        ("timing.blocks", timing.blocks, 1),
        ("timing.warmup", timing.warmup, 0),
        ("timing.latency", timing.latency, 0),
        ("timing.token_budget", timing.token_budget, 1),
        ("timing.batch_size", timing.batch_size, 1),
    )
    yield from (("One of seeds", seed, 0) for seed in suite.seeds)
    yield from (("One of curve", count, 1) for count in suite.curve)


def _check_yardstick(spec: YardstickSpec, where: str) -> None:
    if not spec.method:
        raise UsageError(f"The [yardstick] of {where} has no method; name the one whose limit is right.")
    for label, value, least in (
        ("passes", spec.passes, 1),
        ("reference_passes", spec.reference_passes, spec.passes),
        ("replicates", spec.replicates, 2),
    ):
        if value < least:
            raise UsageError(f"yardstick.{label} is {value} in {where}; expected {least} or more.")


def build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a TOML table, every key and value checked against its fields.

    Args:
        where: what the table is called in messages.

    Raises:
        UsageError: a key that is no field, or a value of another type.
    """
    import msgspec

    try:
        found = msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_sentence(str(error), table, where)) from error
    _refuse_unknown(found, table, where)
    return found


#: What msgspec says of a value of another type, and of one that is missing.
_OTHER_TYPE = re.compile(r"Expected `([^`]+)`, got `[^`]+` - at `\$\.?(.*)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`(?: - at `\$\.?(.*)`)?")
_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _sentence(said: str, table: Mapping[str, Any], where: str) -> str:
    """What is wrong, in words of a suite file."""
    if missing := _MISSING.fullmatch(said):
        return f"{_place(missing[2] or '', where)} has no {missing[1]}; give it one."
    other = _OTHER_TYPE.fullmatch(said)
    if other is None:
        return f"{where} cannot be read: {said}."
    value: Any = table
    for key in _keys(other[2]):
        value = value[int(key) if isinstance(value, list) else key]
    noun = _NOUNS.get(other[1].removesuffix(" | null"), other[1])
    return f"{_place(other[2], where)} is {value!r}; expected {noun}."


def _keys(path: str) -> list[str]:
    """`method[0].params` as its parts."""
    return [key for key in re.split(r"[.\[\]]+", path) if key]


def _place(path: str, where: str) -> str:
    """`timing.runs` as "runs in timing in the suite 'x'"; which of a list it is, its value says."""
    return " in ".join([*(key for key in reversed(_keys(path)) if not key.isdigit()), where])


def _refuse_unknown(found: Any, table: Any, where: str) -> None:
    """Refuse a key that is no field: of dataclasses msgspec passes over them."""
    if isinstance(found, tuple):
        for item, own in zip(found, table, strict=True):
            _refuse_unknown(item, own, where)
    if not is_dataclass(found):
        return
    known = [item.name for item in fields(found)]
    for key, value in table.items():
        if key not in known and isinstance(found, MethodSpec):
            raise UsageError(
                f"Unknown key {key!r} in {where}; a method's parameters go under [method.params]."
            )
        if key not in known:
            raise unknown(f"Unknown key {key!r} in {where}", key, known)
        _refuse_unknown(getattr(found, key), value, f"{key} in {where}")
