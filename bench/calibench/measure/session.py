"""One set of cells measured side by side: what all phases share, and one timed prediction."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from calibench.containment import can_interrupt, contained
from calibench.errors import CalibenchError
from calibench.measure.checks import Expected, checked
from calibench.measure.clocks import Timed, time_prediction
from calibench.measure.progress import Progress
from calibench.measure.running import Running
from calibench.measure.setting import Setting
from calibench.measure.watch import Watch
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.loading import load_checkpoint
from calibench.models.plan import positions
from calibench.models.sharing import forget_written
from calibench.runtimes.start import Facts, start_checked
from calibench.store.journal import Journal
from calibench.suites.spec import TORCH
from calibench.types import IntArray, Plan, Predictive

T = TypeVar("T")


class Session:
    """One set of cells measured side by side, which every phase goes through; see `calibench.measure.phases`.

    Args:
        active: the cells to measure.
        derived: cells that share the measurement of one of these.
        folder: the run folder, for the journal.
    """

    def __init__(
        self,
        setting: Setting,
        active: Sequence[Running],
        folder: Path,
        progress: Progress,
        derived: Sequence[Running] = (),
    ) -> None:
        self.setting = setting
        self.active = list(active)
        self.derived = list(derived)
        self.progress = progress
        yardstick = setting.suite.yardstick
        self.replicates = 0 if yardstick is None else yardstick.replicates
        keep = bool(setting.suite.curve)
        self.journal = Journal(folder, session_name(setting, active), keep_samples=keep)
        #: What is known of each runtime beside PyTorch that has been started.
        self.runtimes: dict[str, Facts] = {}
        self._started: dict[str, Checkpoint | CalibenchError] = {}
        self.watch = Watch(setting.checkpoint, lambda: _load_again(setting))
        self.limit = setting.suite.timing.timeout_per_block
        if self.limit is not None and not can_interrupt():
            progress.say("--timeout-per-block is not kept here: only a main thread on a POSIX system can be.")

    def checkpoint(self, runtime: str) -> Checkpoint:
        """The run's checkpoint on a runtime, started once for all methods that run on it.

        Raises:
            CalibenchError: it cannot be started, or does not give what PyTorch gives.
        """
        if runtime == TORCH:
            return self.setting.checkpoint
        if runtime not in self._started:
            self._started[runtime] = self._start(runtime)
        found = self._started[runtime]
        if isinstance(found, CalibenchError):
            raise found
        return found

    def _start(self, runtime: str) -> Checkpoint | CalibenchError:
        self.progress.say(f"Starting {runtime}: a checkpoint that it has not had yet takes some seconds.")
        setting = self.setting
        try:
            found, facts = start_checked(setting.checkpoint, runtime, setting.plan, setting.planner)
        except CalibenchError as error:
            return error
        self.runtimes[runtime] = facts
        return found

    @property
    def alive(self) -> list[Running]:
        """The cells that have not failed, those that are raced against themselves among them."""
        return [running for running in self.active if running.alive]

    @property
    def measured(self) -> list[Running]:
        """The same without the latter: those with outputs."""
        return [running for running in self.alive if not running.self_check]

    def failed(self, running: Running, error: Exception) -> None:
        """What a method raises is its cell's failure and nobody else's."""
        running.fail(error)
        assert running.failure is not None
        self.progress.say(f"{running.label} failed: {running.failure['message']}")

    def attempt(
        self, name: str, call: Callable[[], T], *, blocks: int = 1
    ) -> tuple[T | None, Exception | None]:
        """What `call` returns, which runs a method's code, or else why it failed.

        Args:
            name: the method's, for messages.
            blocks: how many blocks' time it may take.

        Raises:
            CalibenchError: it changed what all methods share, and that could not be put back.
            KeyboardInterrupt: the user stops the run.
        """
        result, failure = None, None
        try:
            result = contained(name, call, None if self.limit is None else blocks * self.limit)
        except Exception as error:
            failure = error
        finally:
            changed = self._put_back()
        if changed is not None and failure is None:
            failure = CalibenchError(
                f"{name} changed {changed}, which all methods share; expected a method to work on a "
                "checkpoint.twin(), or to restore what it changes."
            )
        return (result, None) if failure is None else (None, failure)

    def _put_back(self) -> str | None:
        """What is not as it was, put back; None where all is."""
        changed = self.watch.put_back()
        return "the values of a shared pass" if forget_written() and changed is None else changed

    def verify_weights(self) -> None:
        """Look at every weight, once, in the end; where one has changed, nothing is kept.

        Raises:
            CalibenchError: one has, and it was not seen when.
        """
        try:
            self.watch.verify_weights()
        except CalibenchError:
            self.journal.remove()
            raise

    def predict(
        self,
        running: Running,
        groups: Sequence[IntArray],
        purpose: str,
        *numbers: int,
        method: Method | None = None,
    ) -> tuple[Predictive, Timed] | None:
        """Time one prediction of some batches of the plan; None where it failed.

        Args:
            groups: the batches, each an array of positions in the plan.
            purpose, numbers: what its seed is derived from.
            method: in the place of the cell's own.
        """
        seed = running.seed(purpose, *numbers)
        # Single texts, and methods with other parameters, may keep other numbers of passes.
        stored = running.stored if purpose == "block" and method is None else None
        found, error = self.predict_apart(
            running, self.setting.plan, groups, seed, method=method, stored=stored
        )
        if error is not None:
            self.failed(running, error)
        return found

    def predict_apart(
        self,
        running: Running,
        plan: Plan,
        groups: Sequence[IntArray],
        seed: int,
        *,
        method: Method | None = None,
        stored: int | None = None,
        blocks: int = 1,
    ) -> tuple[tuple[Predictive, Timed] | None, Exception | None]:
        """Time one prediction of some batches of any plan; or else why it failed, which is nobody's failure.

        Args:
            stored: how many passes it has to keep, where it keeps any; None for any number.
            blocks: how many blocks' time it may take.
        """
        chosen = method or running.method
        assert chosen is not None
        expected = Expected(
            name=running.cell.name,
            rows=plan.rows[positions(groups)],
            classes=len(self.setting.checkpoint.labels),
            score=running.cell.factory.score,
            scores=running.scores,
            stored=stored,
        )

        def call() -> tuple[Predictive, Timed]:
            predictive, timed = time_prediction(chosen, self.setting.planner, plan, groups, seed=seed)
            return checked(predictive, expected), timed

        found, error = self.attempt(running.cell.name, call, blocks=blocks)
        if found is not None:
            running.scores = frozenset(found[0].scores)
        return found, error

    def predict_block(
        self, running: Running, block: int, repetition: int = 0, method: Method | None = None
    ) -> tuple[Predictive, Timed] | None:
        """Time a block; a repetition draws anew only where its outputs count, as replicates."""
        numbers = (block, repetition) if repetition and self.replicates else (block,)
        found = self.predict(running, self.setting.blocks[block], "block", *numbers, method=method)
        if found is not None and method is None:
            running.gave(found[0])
        return found

    def predict_one(self, running: Running, position: int) -> tuple[Predictive, Timed] | None:
        """Time one text by itself."""
        return self.predict(running, [np.array([position])], "sentence", position)


def _load_again(setting: Setting) -> Checkpoint:
    """The run's checkpoint as its files have it."""
    model = dataclasses.asdict(setting.suite.model)
    return load_checkpoint(device=str(setting.checkpoint.device), **model)


def session_name(setting: Setting, active: Sequence[Running]) -> str:
    """Names a set of cells measured side by side, so that only the same set goes on from its journal."""
    timing = setting.suite.timing
    content = [sorted(item.key for item in active), len(setting.blocks), timing.latency, setting.suite.curve]
    if setting.suite.yardstick is not None:
        content.append(dataclasses.asdict(setting.suite.yardstick))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
