"""What a suite says: every key of a suite file is a field here; docs/suites.md shows them in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibench.posthoc.conformal import Recipe, recipes

#: The runtime of whatever names none: PyTorch, as `transformers` makes the model.
TORCH = "torch"


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
        label_map: by a value of the label column, the model's output for it, by name or by number; "" for
            rows that have no label.
        delimiter, encoding, quoting: of a local file of text; see `calibench.data.tables.Reading`.
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
    label_map: Mapping[str, Any] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None

    @property
    def reading(self) -> dict[str, str]:
        """Those of the last three that are set."""
        names = ("delimiter", "encoding", "quoting")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


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
        name: the method's, and after " @ " the runtime's where that is not PyTorch: "frequentist @ compile".
        replicates: of a suite with a yardstick, how many of its replicates this method takes part in; None
            for all. For slow methods.
        optional: left out of a run, saying so, where a parameter that it needs is not given, or where it is
            in bfloat16 and the CPU has no instructions for that.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    replicates: int | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", on_runtime(self.method, self.runtime))

    @property
    def method(self) -> str:
        """The registered name of the method."""
        return parts_of(self.name)[0]

    @property
    def runtime(self) -> str:
        """The registered name of the runtime."""
        return parts_of(self.name)[1]


def parts_of(name: str) -> tuple[str, str]:
    """The method and the runtime that a name such as "frequentist @ compile" says."""
    method, at, runtime = name.partition("@")
    return method.strip(), runtime.strip() if at else TORCH


def on_runtime(method: str, runtime: str) -> str:
    """What a method is called on a runtime."""
    return method if runtime == TORCH else f"{method} @ {runtime}"


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
    """Which prediction sets every row gets; see `calibench.posthoc.conformal`.

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


#: Seconds in a year: no clock keeps a longer time out, or one that is no number.
LONGEST_TIMEOUT = 366 * 24 * 3600


@dataclass(frozen=True)
class TimingSpec:
    """How much effort goes into timing; never which examples or how many passes.

    Attributes:
        runs: repetitions of the whole plan; the outputs of the first are scored.
        min_time: repeat until the reference has been timed for this many seconds.
        blocks: number of blocks the plan is cut into; methods take turns within each.
        warmup: untimed batches per method, each of another block; on accelerators it runs all of all blocks.
        latency: sentences timed one at a time.
        memory: whether to measure peak memory, in a process per method.
        token_budget: padded tokens per batch at most; None for the device's default.
        batch_size: sentences per batch at most, inside the token budget.
        timeout_per_block: seconds that a method may take for a block, or for a single text, before it fails;
            for all that it does at once, as setting up, as many times that as there are blocks. None for as
            long as it takes.
    """

    runs: int = 1
    min_time: float = 0.0
    blocks: int = 12
    warmup: int = 1
    latency: int = 100
    memory: bool = True
    token_budget: int | None = None
    batch_size: int | None = None
    timeout_per_block: float | None = None


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
    """What the error of each method is measured against; see `calibench.score.yardstick`.

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
        runtimes: on each of these a method has a row of its own, where it asks no more of a model than its
            forward pass; empty for PyTorch alone. One that asks for more has its row on PyTorch.
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
    runtimes: tuple[str, ...] = ()
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


def recipes_of(spec: ConformalSpec) -> tuple[Recipe, ...]:
    """What a suite asks for; raises UsageError where it cannot be."""
    return recipes(
        spec.kinds,
        level=spec.level,
        class_conditional=spec.class_conditional,
        raps_lambda=spec.raps_lambda,
        raps_k_reg=spec.raps_k_reg,
    )
