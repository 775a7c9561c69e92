"""Where work is done: processes of this machine, or whatever else takes a piece of work and answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from calibench.sweep.work import Joined, Looked, Sharded, Task, Timed

Found = Looked | Sharded | Joined | Timed


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        error: type and message, as in a record.
        fatal: whether the sweep cannot go on: nothing can be written.
    """

    error: dict[str, str]
    fatal: bool = False


@dataclass(frozen=True)
class Job:
    """A piece of work with the number by which its answer is known, and that of its pair."""

    number: int
    pair: int
    work: Task


@dataclass(frozen=True)
class Answer:
    """What came of a job; every job has one answer, also where its process died."""

    number: int
    found: Found | Failure


class Executor(Protocol):
    """Does jobs, as many at once as it has slots."""

    @property
    def slots(self) -> int:
        """How many jobs may be under way."""

    def held(self) -> Collection[int]:
        """Pairs that an idle process has loaded; empty where nobody knows."""

    def submit(self, job: Job) -> None:
        """Begin a job; at most `slots` are under way."""

    def answers(self) -> list[Answer]:
        """Wait for one answer or more, in the order in which they come."""

    def close(self) -> None:
        """End all processes, whatever they are at."""
