"""What the command line changes in a suite, as a new suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibench.errors import UsageError
from calibench.registry import DATASETS, METHODS
from calibench.suites.spec import (
    LONGEST_TIMEOUT,
    CalibrationSpec,
    ConformalSpec,
    DataSpec,
    MethodSpec,
    ModelSpec,
    ShiftSpec,
    Suite,
    TimingSpec,
)


@dataclass(frozen=True)
class Overrides:
    """Every field is None or empty where the suite's own value stands.

    Attributes:
        loader: instead of the suite's, with the data set and split that are asked for.
        dataset, dataset_config, dataset_revision, split, text_columns, label_column, limit,
            delimiter, encoding, quoting: see `DataSpec`.
        label_map: "VALUE=OUTPUT", or several with commas between; see `DataSpec`.
        model, model_revision, dtype, attention: see `ModelSpec`.
        runtimes: these instead of the suite's; see `Suite`.
        methods: these instead of the suite's, with the suite's parameters where it has them.
        method_args: "METHOD.key=value", or "key=value" where one method is chosen.
        passes, seed: for all methods.
        token_budget, batch_size, warmup, runs, min_time, timeout_per_block: see `TimingSpec`.
        effort: "fast" or "rigorous": fewer or more timing repetitions, never other examples or passes.
        memory_budget_mb: for methods with that parameter.
        posthoc: these post-hoc steps instead of the suite's.
        calibration_split, unseen: see `CalibrationSpec`.
        train_split, train_limit: see `TrainSpec`.
        shift, also: these corruptions and other data sets instead of the suite's.
        shift_strengths: numbers with commas between, instead of the suite's.
        conformal: these kinds of prediction sets instead of the suite's.
        conformal_level, class_conditional: see `ConformalSpec`.
    """

    loader: str | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_revision: str | None = None
    split: str | None = None
    text_columns: Sequence[str] = ()
    label_column: str | None = None
    limit: int | None = None
    label_map: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None
    model: str | None = None
    model_revision: str | None = None
    dtype: str | None = None
    attention: str | None = None
    runtimes: Sequence[str] = ()
    methods: Sequence[str] = ()
    method_args: Sequence[str] = ()
    passes: int | None = None
    seed: int | None = None
    token_budget: int | None = None
    batch_size: int | None = None
    warmup: int | None = None
    runs: int | None = None
    min_time: float | None = None
    timeout_per_block: float | None = None
    effort: str | None = None
    memory_budget_mb: int | None = None
    posthoc: Sequence[str] = ()
    calibration_split: str | None = None
    unseen: bool = False
    train_split: str | None = None
    train_limit: int | None = None
    shift: Sequence[str] = ()
    shift_strengths: str | None = None
    also: Sequence[str] = ()
    conformal: Sequence[str] = ()
    conformal_level: float | None = None
    class_conditional: bool = False


def override(suite: Suite, given: Overrides) -> Suite:
    """The suite with what was given.

    Raises:
        UsageError: an unknown method, or an argument for a method that is not run.
    """
    specs = _methods(suite, given)
    if given.passes is not None:
        # Asked for on the command line, it stands above what the suite says of single methods.
        specs = [
            replace(spec, params={k: v for k, v in spec.params.items() if k != "passes"}) for spec in specs
        ]
    return replace(
        suite,
        data=_data(suite.data, given),
        model=_model(suite.model, given),
        method=tuple(_with_arguments(specs, given)),
        runtimes=tuple(dict.fromkeys(given.runtimes)) or suite.runtimes,
        passes=suite.passes if given.passes is None else given.passes,
        seeds=suite.seeds if given.seed is None else (given.seed,),
        posthoc=tuple(dict.fromkeys(given.posthoc)) or suite.posthoc,
        calibration=_calibration(suite.calibration, given),
        train=replace(suite.train, **_set(split=given.train_split, limit=given.train_limit)),
        timing=_timing(suite.timing, given),
        shift=_shift(suite.shift, given),
        conformal=_conformal(suite.conformal, given),
    )


def _set(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _data(data: DataSpec, given: Overrides) -> DataSpec:
    if given.loader is not None:
        DATASETS.entry_point(given.loader)
        data = DataSpec(loader=given.loader, name=given.dataset, limit=data.limit)
    elif given.dataset is not None:
        # Another data set: what the suite says of the columns and revision of its own does not carry over,
        # nor do its splits to a file, which has none.
        whole = data.loader != "huggingface" or Path(given.dataset).expanduser().is_file()
        data = DataSpec(
            name=given.dataset,
            split=None if whole else data.split,
            out_of_scope=data.out_of_scope,
            threshold_split=None if whole else data.threshold_split,
            limit=data.limit,
        )
    text = tuple(given.text_columns) or None
    return replace(
        data,
        **_set(
            config=given.dataset_config,
            revision=given.dataset_revision,
            split=given.split,
            text=text,
            label=given.label_column,
            limit=given.limit,
            label_map=_label_map(given.label_map) or None,
            delimiter=given.delimiter,
            encoding=given.encoding,
            quoting=given.quoting,
        ),
    )


def _label_map(given: Sequence[str]) -> dict[str, str]:
    """The label map that "VALUE=OUTPUT" texts say; a comma is part of a value where no new pair begins."""
    found: dict[str, str] = {}
    for text in given:
        pieces: list[str] = []
        for piece in text.split(","):
            if not pieces or ("=" in piece and "=" in pieces[-1]):
                pieces.append(piece)
            else:
                pieces[-1] += f",{piece}"
        for piece in pieces:
            value, equals, output = piece.rpartition("=")
            if not equals or not value:
                raise UsageError(
                    f"--label-map {text!r} is not VALUE=OUTPUT, such as positive=LABEL_1,negative=LABEL_0."
                )
            if found.get(value, output) != output:
                raise UsageError(
                    f"--label-map maps {value!r} to {found[value]!r} and {output!r}; choose one."
                )
            found[value] = output.strip()
    return found


def _model(model: ModelSpec, given: Overrides) -> ModelSpec:
    if given.model is not None:
        model = replace(model, name=given.model, revision=None)
    return replace(model, **_set(revision=given.model_revision, dtype=given.dtype, attention=given.attention))


def _calibration(calibration: CalibrationSpec, given: Overrides) -> CalibrationSpec:
    if given.calibration_split is not None:
        # What the suite declares is about the split that it names.
        calibration = replace(calibration, split=given.calibration_split, unseen=False, limit=None)
    return replace(calibration, unseen=calibration.unseen or given.unseen)


def _shift(shift: ShiftSpec, given: Overrides) -> ShiftSpec:
    corruptions = tuple(given.shift) or shift.corruptions
    strengths = shift.strengths
    if given.shift_strengths is not None:
        if not corruptions:
            raise UsageError("--shift-strengths says how far to shift, and nothing is; add --shift NAME.")
        try:
            strengths = tuple(float(part) for part in given.shift_strengths.split(","))
        except ValueError:
            raise UsageError(
                f"--shift-strengths {given.shift_strengths!r} is not a list of numbers, such as 0.1,0.3."
            ) from None
    return ShiftSpec(corruptions, strengths, tuple(given.also) or shift.also)


def _conformal(conformal: ConformalSpec, given: Overrides) -> ConformalSpec:
    kinds = tuple(dict.fromkeys(given.conformal)) or conformal.kinds
    if not kinds and (given.conformal_level is not None or given.class_conditional):
        raise UsageError(
            "--conformal-level and --class-conditional say which prediction sets to make, and none are; add "
            "--conformal KIND."
        )
    return replace(
        conformal,
        kinds=kinds,
        class_conditional=conformal.class_conditional or given.class_conditional,
        **_set(level=given.conformal_level),
    )


def _timing(timing: TimingSpec, given: Overrides) -> TimingSpec:
    if given.min_time is not None and not math.isfinite(given.min_time):
        raise UsageError(f"--min-time is {given.min_time}; expected a number of seconds.")
    limit = given.timeout_per_block
    if limit is not None and not 0 < limit <= LONGEST_TIMEOUT:
        raise UsageError(
            f"--timeout-per-block is {limit:g}; expected seconds above 0 and up to a year, or none."
        )
    if given.effort == "fast":
        timing = replace(timing, runs=1, latency=min(timing.latency, 10))
    elif given.effort == "rigorous":
        timing = replace(timing, runs=3 * timing.runs, latency=4 * timing.latency)
    return replace(
        timing,
        **_set(
            token_budget=given.token_budget,
            batch_size=given.batch_size,
            warmup=given.warmup,
            runs=given.runs,
            min_time=given.min_time,
            timeout_per_block=given.timeout_per_block,
        ),
    )


def _methods(suite: Suite, given: Overrides) -> list[MethodSpec]:
    if not given.methods:
        return list(suite.method)
    found: list[MethodSpec] = []
    named = {spec.name: spec for spec in map(MethodSpec, given.methods)}
    for name, spec in named.items():
        lacking = METHODS.lacks(spec.method)
        if lacking is not None:
            raise UsageError(f"The method {spec.method!r} {lacking}.")
        # A suite may have several settings of one method; asked for by name, none is optional.
        ours = [replace(spec, optional=False) for spec in suite.method if spec.name == name]
        found += ours or [spec]
    return found


def _with_arguments(specs: Sequence[MethodSpec], given: Overrides) -> list[MethodSpec]:
    extra: dict[str, dict[str, str]] = {spec.name: {} for spec in specs}
    for argument in given.method_args:
        target, separator, value = argument.partition("=")
        name, dot, key = target.rpartition(".")
        if not separator or not key:
            raise UsageError(
                f"--method-arg {argument!r} is not METHOD.key=value, or key=value for one method."
            )
        if not dot and len(specs) != 1:
            raise UsageError(
                f"--method-arg {argument!r} names no method, and {len(specs)} are run; write "
                f"METHOD.{argument}, or choose one method with -m."
            )
        name = name or specs[0].name
        if name not in extra:
            raise UsageError(
                f"--method-arg {argument!r} is for {name!r}, which is not run; choose from "
                f"{', '.join(extra)}."
            )
        extra[name][key] = value
    budget: Mapping[str, Any] = (
        {} if given.memory_budget_mb is None else {"memory_budget_mb": given.memory_budget_mb}
    )
    return [
        replace(spec, params={**spec.params, **_applicable(spec.method, budget), **extra[spec.name]})
        for spec in specs
    ]


def _applicable(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the method has a parameter for; nothing is imported where there are none."""
    if not values:
        return {}
    from calibench.method import parameters

    known = parameters(METHODS.load(name))
    return {key: value for key, value in values.items() if key in known}
