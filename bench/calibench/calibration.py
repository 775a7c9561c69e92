"""Labelled examples apart from those that are scored, for post-hoc steps to be fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibench.data.labels import align
from calibench.data.subset import in_scope, limit, take
from calibench.errors import UsageError
from calibench.models.plan import Planner
from calibench.registry import DATASETS
from calibench.suites.spec import CalibrationSpec, DataSpec, Suite
from calibench.types import Dataset, Plan


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


def load_split(data: DataSpec, split: str | None) -> Dataset:
    """The suite's data, in the given split."""
    dataset: Dataset = DATASETS.load(data.loader)(
        data.name,
        config=data.config,
        split=split,
        revision=data.revision,
        text_columns=list(data.text) or None,
        label_column=data.label,
    )
    return dataset


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


def calibration_split(
    suite: Suite, scored: Dataset, model_labels: tuple[str, ...], planner: Planner, limit_to: int | None
) -> CalibrationSplit | None:
    """The suite's calibration split, or None where it names none.

    Args:
        scored: the examples that are scored.
        model_labels: the model's C outputs.
        limit_to: the run's own limit, which holds for this split too.

    Raises:
        UsageError: its labels are not the model's, or no example is left.
    """
    spec = suite.calibration
    if spec.split is None:
        return None
    dataset, shared = apart(suite, spec.split, scored, model_labels, [spec.limit, limit_to])
    dataset = in_scope(dataset)
    if not len(dataset):
        raise UsageError(
            f"The calibration split {spec.split!r} holds no labelled text that is not scored too; name "
            "another, or leave it out to cross-fit."
        )
    return CalibrationSplit(dataset, planner.plan(dataset.texts, dataset.rows), shared)


def apart(
    suite: Suite,
    split: str,
    scored: Dataset,
    model_labels: tuple[str, ...],
    limits: Sequence[int | None],
) -> tuple[Dataset, int]:
    """Another split of the suite's data, aligned, without the examples whose text is scored too.

    Args:
        limits: it is a random subset of the smallest of these sizes.

    Returns:
        what is left, and how many examples were left out.

    Raises:
        UsageError: its labels are not the model's.
    """
    dataset = load_split(suite.data, split)
    sizes = [size for size in limits if size is not None]
    if sizes:
        dataset = limit(dataset, min(sizes), suite.seeds[0])
    dataset = align(dataset, model_labels, out_of_scope=suite.data.out_of_scope)
    known = set(scored.texts)
    fresh = np.array([i for i, text in enumerate(dataset.texts) if text not in known], dtype=np.int64)
    shared = len(dataset) - len(fresh)
    return (take(dataset, fresh) if shared else dataset), shared
