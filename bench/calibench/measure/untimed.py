"""What cells predict apart from the scored data, once and without a clock that counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from calibench.asides import Aside
from calibench.calibration import CalibrationSplit
from calibench.errors import CalibenchError
from calibench.measure.clocks import time_prediction
from calibench.measure.progress import Progress
from calibench.measure.running import Running
from calibench.measure.setting import Setting
from calibench.method import bind
from calibench.models.sharing import sharing
from calibench.registry import METHODS
from calibench.seeds import derived_seed
from calibench.store.journal import Journal
from calibench.types import FloatArray, Plan, Predictive


class Untimed:
    """Predictions for the calibration split, for data sets beside, and of a yardstick's long references.

    Attributes:
        references: float64 [2, N, C], once predicted, of a suite with a yardstick.
    """

    def __init__(self, setting: Setting, journal: Journal, progress: Progress) -> None:
        self.setting = setting
        self.journal = journal
        self.progress = progress
        self.references: FloatArray | None = None

    def predict_references(self) -> None:
        """Two long references of the yardstick's limit, in runs that are journalled one by one."""
        spec = self.setting.suite.yardstick
        if spec is None:
            return
        seed = self.setting.suite.seeds[0]
        each = -(-spec.reference_passes // spec.passes)
        done = {entry["run"] for entry in self.journal.of_kind("reference")}
        left = [run for run in range(2 * each) if run not in done]
        self.progress.stage("Long references", len(left))
        name = spec.reference or spec.method
        factory = METHODS.load(name)
        method = factory(self.setting.checkpoint, **bind(name, factory, {"passes": spec.passes}))
        for run in left:
            predictive = method.predict(self.setting.plan, seed=derived_seed(seed, "reference", run))
            kept = dataclasses.replace(predictive, samples=None)
            self.journal.save_outputs(f"reference-{run}", {"reference": kept})
            self.journal.append({"kind": "reference", "run": run})
            self.progress.step(f"{spec.passes} passes of {name}")
        probs = np.stack(
            [self.journal.load_outputs(f"reference-{run}")["reference"].probs for run in range(2 * each)]
        )
        self.references = probs.reshape(2, each, *probs.shape[1:]).mean(axis=1)

    def predict_calibration(self, runnings: Sequence[Running], bases: Collection[str | None]) -> None:
        """Run the methods that have something to fit over the calibration split, if there is one.

        Args:
            bases: keys of those with rows beside that have a post-hoc step.
        """
        split = self.setting.calibration
        if split is None:
            return
        sets = bool(self.setting.suite.conformal.kinds)
        done = {entry["cell"] for entry in self._calibration_entries(split)}
        left = [
            running
            for running in runnings
            if running.key not in done and (sets or running.cell.fits or running.key in bases)
        ]
        self.progress.stage("Calibration split", len(left))
        with sharing():
            for running in left:
                self.journal.append(
                    {"kind": "calibration", "cell": running.key, "data": split.dataset.sha256}
                    | self._predict_split(running, split)
                )
                self.progress.step(running.label)

    def _predict_split(self, running: Running, split: CalibrationSplit) -> dict[str, Any]:
        # Where it fails, it is the rows with post-hoc steps that do, not the method's own.
        return self._predict_once(running, split.plan, "calibration", _part(running, split))

    def _predict_once(self, running: Running, plan: Plan, purpose: str, part: str) -> dict[str, Any]:
        """Predict a plan apart from the scored one, and keep the outputs as `part` of the journal."""
        assert running.method is not None
        groups = [batch.index for batch in plan.batches]
        seed = running.seed(purpose)
        try:
            predictive, timed = time_prediction(running.method, self.setting.planner, plan, groups, seed=seed)
        except Exception as error:
            return {"failure": str(error) or type(error).__name__}
        kept = dataclasses.replace(predictive, samples=None)
        self.journal.save_outputs(part, {running.key: kept})
        return {"failure": None, "seconds": timed.end_to_end_s}

    def predict_asides(self, runnings: Sequence[Running]) -> None:
        """Run every method once over each data set beside; what fails there costs these numbers only."""
        done = {(entry["cell"], entry["aside"]) for entry in self.journal.of_kind("aside")}
        for aside in self.setting.asides:
            left = [item for item in runnings if (item.key, aside.key) not in done]
            self.progress.stage(aside.name.capitalize(), len(left))
            with sharing():
                for running in left:
                    self.journal.append(
                        {"kind": "aside", "cell": running.key, "aside": aside.key}
                        | self._predict_once(running, aside.plan, "aside", _aside_part(running, aside))
                    )
                    self.progress.step(running.label)

    def aside_outputs(self, running: Running, aside: Aside) -> Predictive:
        """What a method predicted for a data set beside.

        Raises:
            CalibenchError: it failed there.
        """
        entry = next(
            item
            for item in self.journal.of_kind("aside")
            if (item["cell"], item["aside"]) == (running.key, aside.key)
        )
        if entry["failure"] is not None:
            raise CalibenchError(f"it failed on {aside.name}: {entry['failure']}")
        return self.journal.load_outputs(_aside_part(running, aside))[running.key]

    def _calibration_entries(self, split: CalibrationSplit) -> list[dict[str, Any]]:
        entries = self.journal.of_kind("calibration")
        return [entry for entry in entries if entry["data"] == split.dataset.sha256]

    def calibration_outputs(self, running: Running, split: CalibrationSplit) -> tuple[Predictive, float]:
        """What a method predicted for the calibration split, and the seconds it took.

        Raises:
            CalibenchError: it failed there.
        """
        entry = next(item for item in self._calibration_entries(split) if item["cell"] == running.key)
        if entry["failure"] is not None:
            raise CalibenchError(f"{running.label} failed on the calibration split: {entry['failure']}")
        return self.journal.load_outputs(_part(running, split))[running.key], entry["seconds"]


def _part(running: Running, split: CalibrationSplit) -> str:
    """What the journal calls a cell's predictions for the calibration split."""
    return f"{running.key}-{split.dataset.sha256[:12]}"


def _aside_part(running: Running, aside: Aside) -> str:
    """What the journal calls a cell's predictions for a data set beside."""
    return f"{running.key}-aside-{aside.dataset.sha256[:12]}"
