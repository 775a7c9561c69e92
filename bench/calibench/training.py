"""Labelled training texts, for methods that learn from what the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from calibench.calibration import apart
from calibench.data.subset import in_scope
from calibench.errors import UsageError
from calibench.models.plan import Planner
from calibench.suites.spec import Suite
from calibench.types import Dataset, LabelledPlan


@dataclass(frozen=True, eq=False)
class TrainSplit:
    """What methods with `needs_train` are fitted on.

    Attributes:
        dataset: its examples in scope, without those whose text is scored too.
        labelled: the same as a plan with labels.
    """

    dataset: Dataset
    labelled: LabelledPlan


def train_split(suite: Suite, scored: Dataset, model_labels: tuple[str, ...], planner: Planner) -> TrainSplit:
    """The suite's training split.

    Args:
        scored: the examples that are scored.
        model_labels: the model's C outputs.

    Raises:
        UsageError: there is no such split, it is the scored one, or no example is left.
        CalibenchError: it cannot be loaded.
    """
    spec = suite.train
    if spec.split == scored.split:
        raise UsageError(
            f"The training split {spec.split!r} is the one that is scored; name another with --train-split."
        )
    dataset = in_scope(apart(suite, spec.split, scored, model_labels, [spec.limit])[0])
    if not len(dataset):
        raise UsageError(
            f"The training split {spec.split!r} holds no labelled text that is not scored too; name another "
            "with --train-split."
        )
    plan = planner.plan(dataset.texts, dataset.rows)
    return TrainSplit(dataset, LabelledPlan(plan, dataset.labels))
