"""Data sets beside the one that is scored: every method predicts each of them once, untimed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibench.calibration import apart, load_split
from calibench.data import shift
from calibench.data.labels import align
from calibench.data.subset import in_scope, limit
from calibench.errors import UsageError
from calibench.models.plan import Planner
from calibench.suites.spec import DataSpec, ShiftSpec, Suite
from calibench.types import Dataset, IntArray, Plan

#: The kind of shift that is another data set.
ALSO = "also"


@dataclass(frozen=True, eq=False)
class Aside:
    """A data set beside the one that is scored.

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


def threshold_split(
    suite: Suite, scored: Dataset, model_labels: tuple[str, ...], planner: Planner, limit_to: int | None
) -> Aside | None:
    """What the threshold between in scope and out of scope is chosen on.

    Args:
        scored: the examples that are scored, aligned.
        model_labels: the model's C outputs.
        limit_to: the run's own limit, which holds for this split too.

    Returns:
        None where the suite names no such split, or nothing that is scored is out of scope.

    Raises:
        UsageError: it is the scored split, or lacks examples in scope or out of scope.
    """
    name = suite.data.threshold_split
    if name is None or not (scored.labels < 0).any():
        return None
    if name == scored.split:
        raise UsageError(
            f"The threshold split {name!r} is the one that is scored; name another in the suite, so that no "
            "threshold is judged on what it was chosen on."
        )
    dataset, _ = apart(suite, name, scored, model_labels, [limit_to])
    beyond = dataset.labels < 0
    if beyond.all() or not beyond.any():
        kind = "in scope" if beyond.all() else "out of scope"
        raise UsageError(
            f"The threshold split {name!r} holds no example {kind}; a threshold needs both: name another "
            "split in the suite, or raise the limit."
        )
    return Aside(f"threshold on {name}", dataset, planner.plan(dataset.texts, dataset.rows))


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


def shifted_copies(suite: Suite, scored: Dataset, planner: Planner) -> list[Aside]:
    """The scored examples in scope under each corruption of the suite, at each of its strengths, rising."""
    inside = in_scope(scored)
    of = np.flatnonzero(scored.labels >= 0)
    found = []
    for corruption in dict.fromkeys(suite.shift.corruptions):
        for strength in sorted(set(suite.shift.strengths)):
            copy = shift.shifted(inside, corruption, strength, suite.seeds[0])
            plan = planner.plan(copy.texts, copy.rows)
            found.append(Aside(f"{corruption} {strength:g}", copy, plan, corruption, strength, of))
    return found


def other_data(
    suite: Suite, model_labels: tuple[str, ...], planner: Planner, limit_to: int | None
) -> list[Aside]:
    """The examples in scope of each other data set of the suite.

    Raises:
        UsageError: it cannot be found, its labels are not the model's, or no example is in scope.
    """
    found = []
    for name in dict.fromkeys(suite.shift.also):
        dataset = load_split(DataSpec(name=name), None)
        if limit_to is not None:
            dataset = limit(dataset, limit_to, suite.seeds[0])
        dataset = in_scope(align(dataset, model_labels, out_of_scope=suite.data.out_of_scope))
        if not len(dataset):
            raise UsageError(f"{dataset.name!r} holds no example with a label of the model; leave it out.")
        plan = planner.plan(dataset.texts, dataset.rows)
        found.append(Aside(f"{ALSO} {dataset.name}, split {dataset.split}", dataset, plan, ALSO))
    return found
