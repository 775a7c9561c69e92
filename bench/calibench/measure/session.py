"""One set of cells measured side by side: what all phases share, and one timed prediction."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibench.measure.clocks import Timed, time_prediction
from calibench.measure.progress import Progress
from calibench.measure.running import Running
from calibench.measure.setting import Setting
from calibench.method import Method
from calibench.store.journal import Journal
from calibench.types import IntArray, Predictive


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
        self.progress.say(f"{running.label} failed: {error}")

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
        chosen = method or running.method
        assert chosen is not None
        seed = running.seed(purpose, *numbers)
        try:
            return time_prediction(chosen, self.setting.planner, self.setting.plan, groups, seed=seed)
        except Exception as error:
            self.failed(running, error)
            return None

    def predict_block(
        self, running: Running, block: int, repetition: int = 0, method: Method | None = None
    ) -> tuple[Predictive, Timed] | None:
        """Time a block; a repetition draws anew only where its outputs count, as replicates."""
        numbers = (block, repetition) if repetition and self.replicates else (block,)
        return self.predict(running, self.setting.blocks[block], "block", *numbers, method=method)

    def predict_one(self, running: Running, position: int) -> tuple[Predictive, Timed] | None:
        """Time one text by itself."""
        return self.predict(running, [np.array([position])], "sentence", position)


def session_name(setting: Setting, active: Sequence[Running]) -> str:
    """Names a set of cells measured side by side, so that only the same set goes on from its journal."""
    timing = setting.suite.timing
    content = [sorted(item.key for item in active), len(setting.blocks), timing.latency, setting.suite.curve]
    if setting.suite.yardstick is not None:
        content.append(dataclasses.asdict(setting.suite.yardstick))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
