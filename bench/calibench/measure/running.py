"""A cell while it is measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from calibench.method import Method
from calibench.seeds import derived_seed
from calibench.suites.cells import Cell
from calibench.types import Predictive

#: Characters of an error's message that are kept.
LONGEST_MESSAGE = 1000


@dataclass(eq=False)
class Running:
    """A cell while it is measured.

    Attributes:
        self_check: True for the reference raced against itself (A/A): timed like a method of its own, without
            outputs, memory or a record; see `against_itself`.
        base: key of the cell that is measured in its place, where it is that cell with a post-hoc step.
        setup_s: seconds from nothing to a method that can predict, fitting included.
        fit: of a method that learns from training data what that took, as in a record; else None.
        failure: why it stopped, once it has.
        scores: the names of the scores that it gives; None until it has predicted.
        stored: S of the samples that it gives for a block; None until it has given any.
    """

    cell: Cell
    key: str
    self_check: bool = False
    base: str | None = None
    method: Method | None = None
    setup_s: float = 0.0
    fit: dict[str, Any] | None = None
    failure: dict[str, str] | None = None
    scores: frozenset[str] | None = None
    stored: int | None = None

    def gave(self, found: Predictive) -> None:
        """Remember what the outputs of a block hold, which those of others have to hold too."""
        self.scores = frozenset(found.scores)
        self.stored = self.stored if found.samples is None else len(found.samples)

    def seed(self, purpose: str, *numbers: int) -> int:
        """What a prediction draws from; of a method that draws once, the same but for later replicates."""
        if self.cell.factory.draws_once:
            return derived_seed(self.cell.seed, "once", *numbers[1:])
        return derived_seed(self.cell.seed, purpose, *numbers)

    def fail(self, error: BaseException) -> None:
        """Stop here, for this reason."""
        self.method = None
        self.failure = failure_of(error)

    @property
    def alive(self) -> bool:
        """Whether it has a method that has not failed."""
        return self.method is not None

    @property
    def label(self) -> str:
        """How messages and progress name it."""
        return "A/A" if self.self_check else self.cell.label


def failure_of(error: BaseException) -> dict[str, str]:
    """`error` of a record: of a long message its beginning, of one that cannot be had the type."""
    kind = type(error).__name__
    try:
        message = str(error)
    except Exception:
        message = ""
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + " [...]"
    return {"type": kind, "message": message.encode(errors="replace").decode() or kind}


def self_check_key(key: str) -> str:
    """The key of the cell that repeats cell `key`."""
    return f"{key}-again"


def against_itself(reference: Running) -> Running:
    """The reference as a second cell, to be raced against the first."""
    cell = dataclasses.replace(reference.cell, reference=False)
    return Running(cell, self_check_key(reference.key), self_check=True)
