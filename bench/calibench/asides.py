"""Data sets beside the one that is scored: every method predicts each of them once, untimed."""

from __future__ import annotations

from dataclasses import dataclass

from calibench.calibration import apart
from calibench.data.plan import Planner
from calibench.errors import UsageError
from calibench.suites.loader import Suite
from calibench.types import Dataset, Plan


@dataclass(frozen=True, eq=False)
class Aside:
    """A data set beside the one that is scored.

    Attributes:
        name: unique in the run, as in the record.
        dataset: its examples, those out of scope included.
        plan: their batches.
        shared: how many examples were left out because their text is scored too.
    """

    name: str
    dataset: Dataset
    plan: Plan
    shared: int = 0

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
    dataset, shared = apart(suite, name, scored, model_labels, [limit_to])
    beyond = dataset.labels < 0
    if beyond.all() or not beyond.any():
        kind = "in scope" if beyond.all() else "out of scope"
        raise UsageError(
            f"The threshold split {name!r} holds no example {kind}; a threshold needs both: name another "
            "split in the suite, or raise the limit."
        )
    return Aside(f"threshold on {name}", dataset, planner.plan(dataset.texts, dataset.rows), shared)
