"""A suite file -> `Suite`: what to run, on what, and how much effort to spend on timing.

Every key of a suite file is a field below; docs/suites.md shows them in use.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from calibench.errors import UsageError


@dataclass(frozen=True)
class DataSpec:
    """Which labelled texts.

    Attributes:
        loader: a registered data set loader.
        name: hub id or folder; None for loaders that bring their own data.
        config, split, revision: as in `datasets.load_dataset`.
        text: columns of the text, or of the two texts of a pair; empty to recognise them.
        label: column of the label; None to recognise it.
        out_of_scope: names of labels that the model is not meant to output.
        threshold_split: the split on which the threshold between in scope and out of scope is chosen.
        limit: a random subset of this size, unless the command line asks for another; None for all of it.
    """

    loader: str = "huggingface"
    name: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    text: tuple[str, ...] = ()
    label: str | None = None
    out_of_scope: tuple[str, ...] = ()
    threshold_split: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Which checkpoint: hub id, folder or "embedded", and how to load it; without a name, `--model` says."""

    name: str | None = None
    revision: str | None = None
    dtype: str = "float32"
    attention: str | None = None


@dataclass(frozen=True)
class MethodSpec:
    """A registered method and its parameters.

    Attributes:
        replicates: of a suite with a yardstick, how many of its replicates this method takes part in; None
            for all. For slow methods.
        optional: left out of a run, saying so, where a parameter that it needs is not given, or where it is
            in bfloat16 and the CPU has no instructions for that.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    replicates: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class CalibrationSpec:
    """What post-hoc steps and prediction sets are fitted on.

    Attributes:
        split: a split apart from the one that is scored; None to cross-fit on the scored examples.
        unseen: the model was not trained on that split. Asked for only where its name says otherwise.
        limit: a random subset of the split, of this size; None for all of it.
        folds: of the cross-fit.
    """

    split: str | None = None
    unseen: bool = False
    limit: int | None = None
    folds: int = 5


@dataclass(frozen=True)
class ConformalSpec:
    """Which prediction sets every row gets; see `calibench.conformal`.

    Attributes:
        kinds: "lac", "aps", "raps"; empty for none.
        level: probability with which a set is to hold its label.
        class_conditional: hold the level within every class.
        raps_lambda, raps_k_reg: of "raps"; those of the paper unless given.
    """

    kinds: tuple[str, ...] = ()
    level: float = 0.9
    class_conditional: bool = False
    raps_lambda: float = 0.01
    raps_k_reg: int = 5


@dataclass(frozen=True)
class TrainSpec:
    """What methods that learn from training data are fitted on.

    Attributes:
        split: a split of the suite's data, apart from the one that is scored.
        limit: a random subset of it, of this size; None for all of it.
    """

    split: str = "train"
    limit: int | None = None


@dataclass(frozen=True)
class TimingSpec:
    """How much effort goes into timing; never which examples or how many passes.

    Attributes:
        runs: repetitions of the whole plan; the outputs of the first are scored.
        min_time: repeat until the reference has been timed for this many seconds.
        blocks: number of blocks the plan is cut into; methods take turns within each.
        warmup: untimed blocks per method before the first timed one.
        latency: sentences timed one at a time.
        memory: whether to measure peak memory, in a process per method.
        token_budget: padded tokens per batch at most; None for the device's default.
        batch_size: sentences per batch at most, inside the token budget.
    """

    runs: int = 1
    min_time: float = 0.0
    blocks: int = 12
    warmup: int = 1
    latency: int = 100
    memory: bool = True
    token_budget: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class ShiftSpec:
    """What every method is evaluated on besides, untimed: data that drifted.

    Attributes:
        corruptions: of the scored texts; see `calibench.data.shift`.
        strengths: of each corruption, above 0 and up to 1.
        also: other data sets with labels of the model, each a hub id, folder or file.
    """

    corruptions: tuple[str, ...] = ()
    strengths: tuple[float, ...] = (0.1, 0.2, 0.4)
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class YardstickSpec:
    """What the error of each method is measured against; see `calibench.yardstick`.

    Attributes:
        method: whose mean over passes, in the limit, is right.
        passes: an error is matched if it is that of so many passes of `method`.
        reference: a method with the same limit, run for the two long references.
        reference_passes: of each of the two, in runs of `passes`.
        replicates: repetitions, each with a seed of its own.
    """

    method: str
    passes: int = 50
    reference: str = ""
    reference_passes: int = 500
    replicates: int = 20


@dataclass(frozen=True)
class Suite:
    """Everything a run needs to know.

    Attributes:
        name: as in the records.
        title: one sentence.
        data, model, calibration, train, timing: see their classes.
        method: the methods, in table order.
        reference: the method every cost ratio is against; it is run even where it was not asked for.
        passes: for every method that has the parameter and does not set it itself.
        seeds: each seed is a cell of its own.
        metrics: registered metrics; empty for all that apply.
        curve: numbers of passes at which running means are scored; empty for none.
        posthoc: post-hoc steps; every method has a row without and one with each of them.
        yardstick: what errors are measured against; None for no such measurement.
        shift: what every method is evaluated on besides.
        conformal: prediction sets of every row.
    """

    name: str
    title: str = ""
    data: DataSpec = field(default_factory=DataSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    method: tuple[MethodSpec, ...] = ()
    reference: str = "frequentist"
    passes: int = 20
    seeds: tuple[int, ...] = (0,)
    metrics: tuple[str, ...] = ()
    curve: tuple[int, ...] = ()
    posthoc: tuple[str, ...] = ()
    calibration: CalibrationSpec = field(default_factory=CalibrationSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    timing: TimingSpec = field(default_factory=TimingSpec)
    shift: ShiftSpec = field(default_factory=ShiftSpec)
    yardstick: YardstickSpec | None = None
    conformal: ConformalSpec = field(default_factory=ConformalSpec)


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
        near = difflib.get_close_matches(name, suite_names(), n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        choices = ", ".join(suite_names())
        raise UsageError(f"Unknown suite {name!r};{hint} choose from {choices}, or name a .toml file.")
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
    suite: Suite = _build(Suite, {"name": name} | table, f"the suite {name!r}")
    if not suite.method:
        raise UsageError(f"The suite {name!r} names no method; add a [[method]] table with a name.")
    for label, value in (("passes", suite.passes), ("timing.runs", suite.timing.runs)):
        if value < 1:
            raise UsageError(f"{label} is {value} in the suite {name!r}; expected 1 or more.")
    if suite.calibration.folds < 2:
        raise UsageError(
            f"calibration.folds is {suite.calibration.folds} in the suite {name!r}; expected 2 or more."
        )
    if suite.yardstick is not None:
        _check_yardstick(suite.yardstick, f"the suite {name!r}")
    if not suite.seeds:
        raise UsageError(f"seeds is empty in the suite {name!r}; expected at least one integer.")
    return suite


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


def _build(kind: type, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a TOML table, every key and value checked against its fields."""
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if kind is MethodSpec and key not in known:
            raise UsageError(
                f"Unknown key {key!r} in {where}; a method's parameters go under [method.params]."
            )
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"Unknown key {key!r} in {where};{hint} choose from {', '.join(known)}.")
        values[key] = _value(hints[key], value, f"{key} in {where}")
    if kind is YardstickSpec:
        values.setdefault("method", "")
    missing = [item for item in ("name",) if item in known and item not in values and kind is MethodSpec]
    if missing:
        raise UsageError(f"A [[method]] table in {where} has no name; give it a registered method's name.")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        if isinstance(value, Mapping):
            return _build(hint, value, where)
        raise UsageError(f"{where} is {value!r}; expected a table.")
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} is {value!r}; expected a list.")
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is UnionType:
        return _value(arguments[0], value, where)
    if origin is not None:
        if isinstance(value, Mapping):
            return dict(value)
        raise UsageError(f"{where} is {value!r}; expected a table.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UsageError(f"{where} is {value!r}; expected {_NOUNS.get(hint, hint)}.")


_NOUNS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
