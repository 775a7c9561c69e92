"""A sweep file -> the pairs of a model and a data set, each with the suite that is run on it."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from calibench.errors import UsageError, unknown
from calibench.registry import METHODS
from calibench.store.paths import base_name
from calibench.suites.loader import build, suite_of, table_of
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import (
    CalibrationSpec,
    ConformalSpec,
    DataSpec,
    MethodSpec,
    ModelSpec,
    ShiftSpec,
    Suite,
    TimingSpec,
    TrainSpec,
)

T = TypeVar("T")

#: What the name of a model or a data set may hold: it becomes part of a folder's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Between the two in a folder's name.
BETWEEN = "--"


@dataclass(frozen=True)
class ModelEntry(ModelSpec):
    """A model of the axis; `id` is what the sweep calls it, by itself the last part of its name."""

    id: str | None = None


@dataclass(frozen=True)
class DataEntry(DataSpec):
    """A data set of the axis.

    Attributes:
        id: what the sweep calls it; by itself the last part of its name, or else its loader.
        shift: what is evaluated besides on this data set, in the place of the sweep's.
        models: ids of the models that are run on it; empty for all.
    """

    id: str | None = None
    shift: ShiftSpec | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclude:
    """What is left out: all cells that fit every key that is given, each by its id or name."""

    model: str | None = None
    data: str | None = None
    method: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class PairEntry:
    """What holds for one model on one data set, in the place of what is said elsewhere; see `DataSpec`.

    Attributes:
        calibration_split, train_split, train_limit: as on the command line of `calibench run`.
    """

    model: str = ""
    data: str = ""
    split: str | None = None
    text: tuple[str, ...] = ()
    label: str | None = None
    limit: int | None = None
    label_map: Mapping[str, Any] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None
    calibration_split: str | None = None
    train_split: str | None = None
    train_limit: int | None = None
    passes: int | None = None
    token_budget: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class SweepFile:
    """Every key of a sweep file; those that a suite has too mean what they mean there.

    Attributes:
        model, data, method, seeds: the axes.
        exclude: cells that are left out.
        pair: settings of one model on one data set.
    """

    name: str
    title: str = ""
    model: tuple[ModelEntry, ...] = ()
    data: tuple[DataEntry, ...] = ()
    method: tuple[MethodSpec, ...] = ()
    seeds: tuple[int, ...] = (0,)
    exclude: tuple[Exclude, ...] = ()
    pair: tuple[PairEntry, ...] = ()
    reference: str = "frequentist"
    passes: int = 20
    metrics: tuple[str, ...] = ()
    curve: tuple[int, ...] = ()
    posthoc: tuple[str, ...] = ()
    calibration: CalibrationSpec = field(default_factory=CalibrationSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    timing: TimingSpec = field(default_factory=TimingSpec)
    shift: ShiftSpec = field(default_factory=ShiftSpec)
    conformal: ConformalSpec = field(default_factory=ConformalSpec)


@dataclass(frozen=True)
class Pair:
    """One model on one data set.

    Attributes:
        model, data: their ids.
        suite: what is run.
    """

    model: str
    data: str
    suite: Suite

    @property
    def folder(self) -> str:
        """The name of its run folder in the sweep's."""
        return f"{self.model}{BETWEEN}{self.data}"


@dataclass(frozen=True)
class Sweep:
    """A sweep file, understood.

    Attributes:
        pairs: those that are left, models first.
    """

    name: str
    title: str
    pairs: tuple[Pair, ...]


def load_sweep(path: str) -> Sweep:
    """Read a sweep file.

    Raises:
        UsageError: it cannot be read, or says something that no sweep has.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"Could not read the sweep {path} ({reason}); give a readable TOML file, as in docs/sweep.md."
        ) from error
    return parse_sweep(text, file.stem)


def parse_sweep(text: str, name: str) -> Sweep:
    """Make a sweep of TOML text; `name` is its name where the text gives none.

    Raises:
        UsageError: as of `load_sweep`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The sweep {name!r} is not valid TOML: {error}.") from error
    said = build(SweepFile, {"name": name} | table, f"the sweep {name!r}")
    for axis in ("model", "data", "method"):
        if not getattr(said, axis):
            raise UsageError(f"The sweep {name!r} has no {axis}; add a [[{axis}]] table with a name.")
    if not said.seeds:
        raise UsageError(f"seeds is empty in the sweep {name!r}; expected at least one integer.")
    for seed, count in Counter(said.seeds).items():
        if count > 1:
            raise UsageError(f"seeds holds {seed} twice in the sweep {name!r}; name each seed once.")
    for spec in said.method:
        METHODS.entry_point(spec.method)
    METHODS.entry_point(said.reference)
    pairs = _pairs(said)
    return Sweep(said.name, said.title, tuple(pairs))


def _pairs(said: SweepFile) -> list[Pair]:
    models = _named(said.model, "model", [item.id or _last(item.name or "") for item in said.model])
    datas = _named(said.data, "data", [item.id or _last(item.name or item.loader) for item in said.data])
    known: dict[str, Sequence[Any]] = {
        "model": list(models),
        "data": list(datas),
        "method": list(dict.fromkeys(spec.name for spec in said.method)),
        "seed": list(said.seeds),
    }
    for exclude in said.exclude:
        _check_exclude(exclude, known, said)
    for data, entry in datas.items():
        for model in entry.models:
            _require(
                model, known["model"], f"The data set {data!r} names the model {model!r}, which is not there"
            )
    settings = _settings(said, known)
    found = []
    for model in models:
        for data in (data for data, entry in datas.items() if model in (entry.models or models)):
            suite = _suite(said, models[model], datas[data])
            suite = _with_settings(suite, settings.pop((model, data), None))
            kept = _kept(suite, [item for item in said.exclude if _fits(item, model, data)])
            if kept is not None:
                found.append(Pair(model, data, suite_of(table_of(kept), said.name)))
            elif (model, data) in {(item.model, item.data) for item in said.pair}:
                raise UsageError(
                    f"A [[pair]] is about {model} on {data}, which is excluded; remove one of them."
                )
    for model, data in settings:
        raise UsageError(
            f"A [[pair]] is about {model} on {data}, whose models do not include it; remove one of them."
        )
    if not found:
        raise UsageError(f"The sweep {said.name!r} excludes every cell; expected at least one to be left.")
    _refuse_twins(pair.folder for pair in found)
    return found


def _named(entries: Sequence[T], axis: str, names: Sequence[str]) -> dict[str, T]:
    """The entries of an axis by their ids."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"The {axis} {name!r} needs an id of letters, digits and any of ._-, which becomes part of a "
                'folder\'s name; give it one with id = "...".'
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"Two entries of the axis {axis} are called {twice[0]!r}; give one of them another id."
        )
    return dict(zip(names, entries, strict=True))


def _last(name: str) -> str:
    """What a model or data set is called by itself: the last part of a hub id or of a path."""
    stem = str(base_name(name)).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")


def _refuse_twins(folders: Iterable[str]) -> None:
    """Refuse folders that some file systems take for one."""
    seen: dict[str, str] = {}
    for folder in folders:
        other = seen.setdefault(folder.casefold(), folder)
        if other is not folder:
            raise UsageError(
                f"Two pairs would share the folder {folder!r}; give a model or a data set another id."
            )


def _check_exclude(exclude: Exclude, known: Mapping[str, Sequence[Any]], said: SweepFile) -> None:
    given = {item.name: getattr(exclude, item.name) for item in fields(Exclude)}
    given = {key: value for key, value in given.items() if value is not None}
    where = "An [[exclude]] table"
    if not given:
        raise UsageError(f"{where} is empty; name a model, data, method or seed to leave out.")
    for key, value in given.items():
        _require(value, known[key], f"{where} names the {key} {value!r}, which is in no cell")
    if {"method", "seed"} <= given.keys():
        raise UsageError(
            f"{where} names both a method and a seed, and all methods of a seed are measured side by side; "
            "name one of the two."
        )
    if given.get("method") == said.reference:
        raise UsageError(
            f"{where} leaves out {said.reference!r}, the reference that every cost is against; set reference "
            "to another method, or keep it."
        )


def _require(value: Any, known: Sequence[Any], fault: str) -> None:
    if value not in known:
        raise unknown(fault, str(value), map(str, known))


def _settings(said: SweepFile, known: Mapping[str, Sequence[Any]]) -> dict[tuple[str, str], PairEntry]:
    found: dict[tuple[str, str], PairEntry] = {}
    for item in said.pair:
        for key in ("model", "data"):
            value = getattr(item, key)
            if not value:
                raise UsageError(
                    f"A [[pair]] table names no {key}; say which model on which data it is about."
                )
            _require(value, known[key], f"A [[pair]] table names the {key} {value!r}, which is not there")
        if (item.model, item.data) in found:
            raise UsageError(f"Two [[pair]] tables are about {item.model} on {item.data}; put them together.")
        found[item.model, item.data] = item
    return found


def _suite(said: SweepFile, model: ModelEntry, data: DataEntry) -> Suite:
    shared = {item.name for item in fields(Suite)} & {item.name for item in fields(SweepFile)}
    values = {name: getattr(said, name) for name in shared - {"model", "data"}}
    suite = Suite(**values, model=_plain(ModelSpec, model), data=_plain(DataSpec, data))
    return suite if data.shift is None else replace(suite, shift=data.shift)


def _plain(kind: type[T], entry: Any) -> T:
    """An entry of an axis without what only the axis has."""
    return kind(**{item.name: getattr(entry, item.name) for item in fields(kind)})  # type: ignore[arg-type]


def _with_settings(suite: Suite, entry: PairEntry | None) -> Suite:
    if entry is None:
        return suite
    given = Overrides(
        split=entry.split,
        text_columns=entry.text,
        label_column=entry.label,
        limit=entry.limit,
        delimiter=entry.delimiter,
        encoding=entry.encoding,
        quoting=entry.quoting,
        calibration_split=entry.calibration_split,
        train_split=entry.train_split,
        train_limit=entry.train_limit,
        passes=entry.passes,
        token_budget=entry.token_budget,
        batch_size=entry.batch_size,
    )
    found = override(suite, given)
    if entry.label_map:
        found = replace(found, data=replace(found.data, label_map=dict(entry.label_map)))
    return found


def _fits(exclude: Exclude, model: str, data: str) -> bool:
    return exclude.model in (None, model) and exclude.data in (None, data)


def _kept(suite: Suite, excludes: Sequence[Exclude]) -> Suite | None:
    """The suite without what is excluded; None where nothing is left."""
    if any(item.method is None and item.seed is None for item in excludes):
        return None
    methods = {item.method for item in excludes}
    seeds = {item.seed for item in excludes}
    suite = replace(
        suite,
        method=tuple(spec for spec in suite.method if spec.name not in methods),
        seeds=tuple(seed for seed in suite.seeds if seed not in seeds),
    )
    return suite if suite.method and suite.seeds else None
