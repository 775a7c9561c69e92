"""Labelled texts beside the scored ones: what is fitted on, what sets a threshold, and data that drifted."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from calibench.data import shift
from calibench.data.labels import align, ids_of, labelled
from calibench.data.subset import in_scope, limit, take
from calibench.errors import UsageError
from calibench.models.plan import Planner
from calibench.registry import DATASETS
from calibench.suites.spec import CalibrationSpec, DataSpec, ShiftSpec, Suite
from calibench.types import Dataset, IntArray, LabelledPlan, Plan

#: The kind of shift that is another data set.
ALSO = "also"


@dataclass(frozen=True, eq=False)
class CalibrationSplit:
    """What methods predict once, in a run with a calibration split.

    Attributes:
        dataset: its examples in scope, without those whose text is scored too.
        plan: their batches.
        shared: how many examples were left out because their text is scored too.
    """

    dataset: Dataset
    plan: Plan
    shared: int


@dataclass(frozen=True, eq=False)
class TrainSplit:
    """What methods with `needs_train` are fitted on.

    Attributes:
        dataset: its examples in scope, without those whose text is scored too.
        labelled: the same as a plan with labels.
    """

    dataset: Dataset
    labelled: LabelledPlan


@dataclass(frozen=True, eq=False)
class ExtraData:
    """A data set that every method predicts once, untimed, besides the one that is scored.

    Attributes:
        name: unique in the run, as in the record.
        dataset: its examples, those out of scope included.
        plan: their batches.
        kind: how the data drifted, a corruption or `ALSO`; None for what is no shifted evaluation.
        strength: of the corruption, or None.
        of: int64 [N], the scored example that each text is a corruption of; None where they are others.
    """

    name: str
    dataset: Dataset
    plan: Plan
    kind: str | None = None
    strength: float | None = None
    of: IntArray | None = None

    @property
    def key(self) -> str:
        """What it is and holds: the same key, the same predictions."""
        return f"{self.name} {self.dataset.sha256[:12]}"


def load_split(data: DataSpec, split: str | None) -> Dataset:
    """The suite's data, in the given split, without rows that have no label.

    Raises:
        UsageError: as the loader, or a setting that it does not have.
        CalibenchError: as the loader.
    """
    load = DATASETS.load(data.loader)
    given = data.reading
    foreign = given.keys() - inspect.signature(load).parameters.keys()
    if foreign:
        raise UsageError(
            f"The data set loader {data.loader!r} has no setting {min(foreign)!r}: leave it out, or pass a "
            "file with --dataset."
        )
    dataset: Dataset = load(
        data.name,
        config=data.config,
        split=split,
        revision=data.revision,
        text_columns=list(data.text) or None,
        label_column=data.label,
        **given,
    )
    return labelled(dataset, data.label_map, data.out_of_scope)


def refuse_unfit(spec: CalibrationSpec, scored: str) -> None:
    """Refuse a calibration split that would teach nothing, or what it is scored on.

    Raises:
        UsageError: it is the scored split; it is named like training data and not declared unseen; or one is
            declared unseen and none is named.
    """
    if spec.split is None:
        if spec.unseen:
            raise UsageError(
                "--unseen says that the model was not trained on the calibration split, and none is named; "
                "add --calibration-split NAME, or leave it out to cross-fit on the scored examples."
            )
        return
    if spec.split == scored:
        raise UsageError(
            f"The calibration split {spec.split!r} is the one that is scored; name another, or leave it out "
            "to cross-fit, so that no example is scored by a fit that saw it."
        )
    if spec.split.casefold().startswith("train") and not spec.unseen:
        raise UsageError(
            f"The calibration split {spec.split!r} is named like training data, on which a model is right "
            "too often for a post-hoc step to learn from; leave it out to cross-fit on the scored examples, "
            "or add --unseen if the model was not trained on it."
        )


def refuse_unknown(spec: ShiftSpec) -> None:
    """Refuse corruptions and strengths that do not exist.

    Raises:
        UsageError: naming the choices.
    """
    for corruption in spec.corruptions:
        for strength in spec.strengths:
            shift.check(corruption, strength)
    if spec.corruptions and not spec.strengths:
        raise UsageError("A shift was asked for and no strength; give some, such as 0.1 and 0.2.")


@dataclass(frozen=True, eq=False)
class Splits:
    """What there is beside the scored examples; each is found, limited, aligned and put into batches alike.

    The suite's own limit holds for all of them but the training split, which has one of its own.

    Attributes:
        scored: the examples that are scored, aligned.
        labels: the model's C outputs.
        seen: the ids of the scored split, by which those of other splits of the same data are understood;
            see `calibench.data.labels.match_labels`.
    """

    suite: Suite
    scored: Dataset
    labels: tuple[str, ...]
    planner: Planner
    seen: tuple[str, ...] = ()

    def calibration(self) -> CalibrationSplit | None:
        """What post-hoc steps and sets are fitted on, or None where the suite names no such split.

        Raises:
            UsageError: its labels are not the model's, or no example is left.
        """
        spec = self.suite.calibration
        if spec.split is None:
            return None
        dataset, shared = self._unscored(spec.split, spec.limit, self.suite.data.limit)
        dataset = in_scope(dataset)
        if not len(dataset):
            raise UsageError(
                f"The calibration split {spec.split!r} holds no labelled text that is not scored too; name "
                "another, or leave it out to cross-fit."
            )
        return CalibrationSplit(dataset, self._plan(dataset), shared)

    def train(self) -> TrainSplit:
        """What methods learn from.

        Raises:
            UsageError: there is no such split, it is the scored one, or no example is left.
            CalibenchError: it cannot be loaded.
        """
        spec = self.suite.train
        if spec.split == self.scored.split:
            raise UsageError(
                f"The training split {spec.split!r} is the one that is scored; name another with "
                "--train-split."
            )
        dataset = in_scope(self._unscored(spec.split, spec.limit)[0])
        if not len(dataset):
            raise UsageError(
                f"The training split {spec.split!r} holds no labelled text that is not scored too; name "
                "another with --train-split."
            )
        return TrainSplit(dataset, LabelledPlan(self._plan(dataset), dataset.labels))

    def threshold(self) -> ExtraData | None:
        """What the threshold between in scope and out of scope is chosen on.

        Returns:
            None where the suite names no such split, or nothing that is scored is out of scope.

        Raises:
            UsageError: it is the scored split, or lacks examples in scope or out of scope.
        """
        name = self.suite.data.threshold_split
        if name is None or not (self.scored.labels < 0).any():
            return None
        if name == self.scored.split:
            raise UsageError(
                f"The threshold split {name!r} is the one that is scored; name another in the suite, so that "
                "no threshold is judged on what it was chosen on."
            )
        dataset, _ = self._unscored(name, self.suite.data.limit)
        beyond = dataset.labels < 0
        if beyond.all() or not beyond.any():
            kind = "in scope" if beyond.all() else "out of scope"
            raise UsageError(
                f"The threshold split {name!r} holds no example {kind}; a threshold needs both: name another "
                "split in the suite, or raise the limit."
            )
        return ExtraData(f"threshold on {name}", dataset, self._plan(dataset))

    def shifted(self) -> list[ExtraData]:
        """The scored examples in scope under each corruption of the suite, at each of its strengths."""
        inside = in_scope(self.scored)
        of = np.flatnonzero(self.scored.labels >= 0)
        found = []
        for corruption in dict.fromkeys(self.suite.shift.corruptions):
            for strength in sorted(set(self.suite.shift.strengths)):
                copy = shift.shifted(inside, corruption, strength, self.suite.seeds[0])
                name = f"{corruption} {strength:g}"
                found.append(ExtraData(name, copy, self._plan(copy), corruption, strength, of))
        return found

    def others(self) -> list[ExtraData]:
        """The examples in scope of each other data set of the suite.

        Raises:
            UsageError: it cannot be found, its labels are not the model's, or no example is in scope.
        """
        found = []
        for name in dict.fromkeys(self.suite.shift.also):
            dataset = in_scope(
                self._aligned(
                    load_split(
                        DataSpec(
                            name=name,
                            label_map=self.suite.data.label_map,
                            out_of_scope=self.suite.data.out_of_scope,
                        ),
                        None,
                    ),
                    self.suite.data.limit,
                )
            )
            if not len(dataset):
                raise UsageError(
                    f"{dataset.name!r} holds no example with a label of the model; leave it out."
                )
            title = f"{ALSO} {dataset.name}, split {dataset.split}"
            found.append(ExtraData(title, dataset, self._plan(dataset), ALSO))
        return found

    def _unscored(self, split: str, *limits: int | None) -> tuple[Dataset, int]:
        """Another split without the examples whose text is scored too, and the number of these."""
        dataset = self._aligned(load_split(self.suite.data, split), *limits, seen=self.seen)
        known = set(self.scored.texts)
        fresh = np.array([i for i, text in enumerate(dataset.texts) if text not in known], dtype=np.int64)
        shared = len(dataset) - len(fresh)
        return (take(dataset, fresh) if shared else dataset), shared

    def _aligned(self, dataset: Dataset, *limits: int | None, seen: tuple[str, ...] = ()) -> Dataset:
        """A random subset of the smallest of these sizes, its labels those of the model."""
        seen = (*seen, *ids_of(dataset))
        sizes = [size for size in limits if size is not None]
        if sizes:
            dataset = limit(dataset, min(sizes), self.suite.seeds[0])
        data = self.suite.data
        return align(
            dataset, self.labels, seen=seen, out_of_scope=data.out_of_scope, label_map=data.label_map
        )

    def _plan(self, dataset: Dataset) -> Plan:
        return self.planner.plan(dataset.texts, dataset.rows)
