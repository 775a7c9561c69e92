"""One set of cells measured side by side, in interleaved blocks that are journalled as they finish."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibench import memory
from calibench.asides import Aside
from calibench.calibration import CalibrationSplit
from calibench.cells import Cell, bind
from calibench.errors import CalibenchError
from calibench.journal import Journal
from calibench.progress import Progress
from calibench.registry import METHODS
from calibench.seeds import derived_seed
from calibench.setting import Setting
from calibench.sharing import alone, charges, sharing
from calibench.timing import Timed, frozen_heap, time_prediction
from calibench.types import FloatArray, IntArray, Method, Plan, Predictive


@dataclass(eq=False)
class Running:
    """A cell while it is measured.

    Attributes:
        again: True for the reference raced against itself (A/A): timed like a method of its own, without
            outputs, memory or a record; see `once_more`.
        base: key of the cell that is measured in its place, where it is that cell with a post-hoc step.
        setup_s: seconds from nothing to a method that can predict, fitting included.
        fit: of a method that learns from training data what that took, as in a record; else None.
        failure: why it stopped, once it has.
        outputs: block number -> what it predicted in the first repetition.
        replicates: for each later repetition, the same; of suites with a yardstick.
    """

    cell: Cell
    key: str
    again: bool = False
    base: str | None = None
    method: Method | None = None
    setup_s: float = 0.0
    fit: dict[str, Any] | None = None
    failure: dict[str, str] | None = None
    outputs: dict[int, Predictive] = field(default_factory=dict)
    replicates: dict[int, dict[int, Predictive]] = field(default_factory=dict)

    def seed(self, purpose: str, *numbers: int) -> int:
        """What a prediction draws from; of a method that draws once, the same but for later replicates."""
        if self.cell.factory.draws_once:
            return derived_seed(self.cell.seed, "once", *numbers[1:])
        return derived_seed(self.cell.seed, purpose, *numbers)

    def fail(self, error: BaseException) -> None:
        self.method = None
        self.failure = {"type": type(error).__name__, "message": str(error) or type(error).__name__}

    @property
    def alive(self) -> bool:
        return self.method is not None

    @property
    def label(self) -> str:
        return "A/A" if self.again else self.cell.label


def again_key(key: str) -> str:
    """The key of the cell that repeats cell `key`."""
    return f"{key}-again"


def once_more(reference: Running) -> Running:
    """The reference as a second cell, to be raced against the first."""
    cell = dataclasses.replace(reference.cell, reference=False)
    return Running(cell, again_key(reference.key), again=True)


def session_name(setting: Setting, active: Sequence[Running]) -> str:
    """Names a set of cells measured side by side, so that only the same set goes on from its journal."""
    timing = setting.suite.timing
    content = [sorted(item.key for item in active), len(setting.blocks), timing.latency, setting.suite.curve]
    if setting.suite.yardstick is not None:
        content.append(dataclasses.asdict(setting.suite.yardstick))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _part(running: Running, split: CalibrationSplit) -> str:
    """What the journal calls a cell's predictions for the calibration split."""
    return f"{running.key}-{split.dataset.sha256[:12]}"


def _aside_part(running: Running, aside: Aside) -> str:
    """What the journal calls a cell's predictions for a data set beside."""
    return f"{running.key}-aside-{aside.dataset.sha256[:12]}"


def _replicate(repetition: int, block: int) -> str:
    """What the journal calls the outputs of a later repetition."""
    return f"{block}-{repetition}"


class Session:
    """One set of cells measured side by side, from set-up to records.

    Args:
        active: the cells to measure.
        derived: cells that share the measurement of one of these.
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
        self.folder = folder
        self.progress = progress
        self.timing = setting.suite.timing
        yardstick = setting.suite.yardstick
        self._replicates = 0 if yardstick is None else yardstick.replicates
        #: float64 [2, N, C], once measured, of a suite with a yardstick.
        self.references: FloatArray | None = None
        keep = bool(setting.suite.curve)
        self.journal = Journal(folder, session_name(setting, active), keep_samples=keep)

    def measure(self) -> dict[str, memory.Peak]:
        """Set-up, warm-up, blocks, single sentences, calibration split, memory; returns peaks by cell key."""
        self._set_up()
        with frozen_heap():
            self._warm_up()
            self._throughput()
            self._references()
            self._curve_timing()
            self._latency()
        self._calibration()
        self._asides()
        return self._memory()

    def _failed(self, running: Running, error: Exception) -> None:
        running.fail(error)
        self.progress.say(f"{running.label} failed: {error}")

    def _alive(self) -> list[Running]:
        return [running for running in self.active if running.alive]

    def _set_up(self) -> None:
        self.progress.stage("Setting up", len(self.active))
        for running in self.active:
            start = time.perf_counter()
            try:
                running.method = running.cell.factory(self.setting.checkpoint, **running.cell.params)
                charged = self._fit(running, running.method)
            except Exception as error:
                charged = 0.0
                self._failed(running, error)
            running.setup_s = time.perf_counter() - start + charged
            self.progress.step(running.label)

    def _fit(self, running: Running, method: Method) -> float:
        """Fit a method that learns from training data; returns the seconds charged beside the clock's."""
        if not method.needs_train:
            return 0.0
        train = self.setting.train
        if train is None:
            raise CalibenchError(
                f"{running.cell.name} learns from training data, and there is none. "
                f"{self.setting.train_missing}"
            )
        start = time.perf_counter()
        with charges() as charged:
            method.fit(train.labelled)
        running.fit = {
            "seconds": time.perf_counter() - start + charged.seconds,
            "examples": len(train.dataset),
            "folds": None,
            "split": train.dataset.split,
            "unseen": None,
            "parameters": dict(method.learnt),
        }
        return charged.seconds

    def _warm_up(self) -> None:
        """Every shape once through the model, then each method on whole blocks; on accelerators on all."""
        everything = self.setting.checkpoint.device.type != "cpu"
        count = len(self.setting.blocks) if everything else min(self.timing.warmup, len(self.setting.blocks))
        self.progress.stage("Warming up", count * len(self._alive()))
        with torch.inference_mode():
            for batch in self.setting.plan.batches:
                self.setting.checkpoint.module(**batch.inputs)
        for block in range(count):
            for running in self._alive():
                few = running.cell.replicates is not None  # too slow to be run whole for nothing
                groups = self.setting.blocks[block]
                self._predict(running, groups[:1] if few else groups, "block", block)
                self.progress.step(running.label)

    def _predict(
        self,
        running: Running,
        groups: Sequence[IntArray],
        purpose: str,
        *numbers: int,
        method: Method | None = None,
    ) -> tuple[Predictive, Timed] | None:
        """Time one prediction; what it raises is the cell's failure and nobody else's."""
        chosen = method or running.method
        assert chosen is not None
        seed = running.seed(purpose, *numbers)
        try:
            return time_prediction(chosen, self.setting.planner, self.setting.plan, groups, seed=seed)
        except Exception as error:
            self._failed(running, error)
            return None

    def _predict_block(
        self, running: Running, block: int, repetition: int = 0, method: Method | None = None
    ) -> tuple[Predictive, Timed] | None:
        """A repetition draws anew only where its outputs count, as replicates."""
        numbers = (block, repetition) if repetition and self._replicates else (block,)
        return self._predict(running, self.setting.blocks[block], "block", *numbers, method=method)

    def _predict_one(self, running: Running, position: int) -> tuple[Predictive, Timed] | None:
        return self._predict(running, [np.array([position])], "sentence", position)

    def _throughput(self) -> None:
        finished = {(entry["repetition"], entry["block"]): entry for entry in self.journal.of_kind("block")}
        for (repetition, block), entry in finished.items():
            if repetition == 0:
                stored = self.journal.load_outputs(block)
                for running in self.active:
                    if running.key in stored:
                        running.outputs[block] = stored[running.key]
            elif repetition < self._replicates:
                self._keep(repetition, block, self.journal.load_outputs(_replicate(repetition, block)))
            for running in self.active:
                if running.key in entry["failures"] and running.alive:
                    running.method = None
                    running.failure = entry["failures"][running.key]
        repetition = 0
        runs = max(self.timing.runs, self._replicates)
        while repetition < runs or self._reference_seconds() < self.timing.min_time:
            order = list(range(len(self.setting.blocks)))
            draw = random.Random(derived_seed(self.setting.suite.seeds[0], "order", repetition))
            draw.shuffle(order)
            left = [block for block in order if (repetition, block) not in finished]
            self.progress.stage(f"Repetition {repetition + 1}", len(left) * len(self._in_turn(repetition)))
            for block in left:
                self._one_block(repetition, block, draw)
            if not self._alive():
                return
            repetition += 1

    def _one_block(self, repetition: int, block: int, draw: random.Random) -> None:
        turn = self._in_turn(repetition)
        draw.shuffle(turn)
        times: dict[str, Any] = {}
        outputs: dict[str, Predictive] = {}
        with sharing():
            for running in turn:
                result = self._beside_others(running, block, repetition)
                if result is not None:
                    predictive, timed = result
                    times[running.key] = timed.as_dict()
                    if not running.again:
                        outputs[running.key] = predictive
                self.progress.step(running.label)
        positions = np.concatenate(self.setting.blocks[block])
        if repetition == 0:
            self.journal.save_outputs(block, outputs)
            for running in self.active:
                if running.key in outputs:
                    running.outputs[block] = outputs[running.key]
        elif repetition < self._replicates:
            self.journal.save_outputs(_replicate(repetition, block), outputs)
            self._keep(repetition, block, outputs)
        self.journal.append(
            {
                "kind": "block",
                "repetition": repetition,
                "block": block,
                "sentences": len(positions),
                "tokens": sum(len(self.setting.plan.token_ids[position]) for position in positions),
                "order": [running.key for running in turn],
                "cells": times,
                "failures": {r.key: r.failure for r in self.active if r.failure is not None},
            }
        )

    def _beside_others(
        self, running: Running, block: int, repetition: int
    ) -> tuple[Predictive, Timed] | None:
        """A method's prediction of a block, with passes that it shares unless others are compared with it."""
        own = running.cell.reference or running.again
        with alone() if own else nullcontext():
            return self._predict_block(running, block, repetition)

    def _in_turn(self, repetition: int) -> list[Running]:
        return [
            running
            for running in self._alive()
            if running.cell.replicates is None or repetition < running.cell.replicates
        ]

    def _keep(self, repetition: int, block: int, outputs: Mapping[str, Predictive]) -> None:
        for running in self.active:
            if running.key in outputs:
                running.replicates.setdefault(repetition, {})[block] = outputs[running.key]

    def _references(self) -> None:
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

    def _reference_seconds(self) -> float:
        keys = [running.key for running in self.active if running.cell.reference and running.alive]
        if not keys:
            return float("inf")
        blocks = self.journal.of_kind("block")
        return float(
            sum(entry["cells"][keys[0]]["end_to_end_s"] for entry in blocks if keys[0] in entry["cells"])
        )

    def _curve_timing(self) -> None:
        """Time each number of passes of the curve by itself, on a few blocks, beside the reference."""
        if not self.setting.suite.curve:
            return
        counts = self.setting.suite.curve
        blocks = range(min(3, len(self.setting.blocks)))
        done = {(entry["block"], entry["passes"]) for entry in self.journal.of_kind("curve")}
        left = [(block, k) for block in blocks for k in counts if (block, k) not in done]
        curved = [r for r in self._alive() if "passes" in r.cell.params and not r.again]
        reference = [running for running in self._alive() if running.cell.reference]
        self.progress.stage("Timing the curve", len(left))
        for block, k in left:
            times: dict[str, Any] = {}
            for running in [*reference, *curved]:
                cell = running.cell
                if "passes" not in cell.params:
                    method = running.method
                elif k <= cell.params["passes"]:
                    method = cell.factory(self.setting.checkpoint, **{**cell.params, "passes": k})
                    if method.draws_once:  # before the clock starts, as for every other prediction
                        self._predict(running, [np.array([0])], "block", block, method=method)
                else:
                    continue
                result = self._predict_block(running, block, method=method)
                if result is not None:
                    times[running.key] = result[1].as_dict()
            sentences = sum(len(group) for group in self.setting.blocks[block])
            entry = {"kind": "curve", "block": block, "passes": k, "sentences": sentences, "cells": times}
            self.journal.append(entry)
            self.progress.step(f"{k} passes")

    def _latency(self) -> None:
        """One sentence at a time, the same sentences for every method, methods in random order."""
        plan, seed = self.setting.plan, self.setting.suite.seeds[0]
        count = min(self.timing.latency, len(plan))
        draw = np.random.default_rng(derived_seed(seed, "latency"))
        chosen = draw.permutation(len(plan))[:count]
        done = {entry["position"] for entry in self.journal.of_kind("latency")}
        left = [int(position) for position in chosen if int(position) not in done]
        self.progress.stage("Latency", len(left))
        for number, position in enumerate(left):
            if number == 0:
                for running in self._alive():
                    self._predict_one(running, position)
            turn = self._alive()
            random.Random(derived_seed(seed, "turn", position)).shuffle(turn)
            times: dict[str, Any] = {}
            for running in turn:
                result = self._predict_one(running, position)
                if result is not None:
                    times[running.key] = result[1].end_to_end_s
            self.journal.append({"kind": "latency", "position": position, "cells": times})
            self.progress.step(f"{len(turn)} methods")

    def _calibration(self) -> None:
        """Run the methods that have something to fit over the calibration split, if there is one."""
        split = self.setting.calibration
        if split is None:
            return
        bases = {running.base for running in self.derived}
        sets = bool(self.setting.suite.conformal.kinds)
        done = {entry["cell"] for entry in self._calibration_entries(split)}
        left = [
            running
            for running in self._alive()
            if not running.again
            and running.key not in done
            and (sets or running.cell.fits or running.key in bases)
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

    def _asides(self) -> None:
        """Run every method once over each data set beside; what fails there costs these numbers only."""
        done = {(entry["cell"], entry["aside"]) for entry in self.journal.of_kind("aside")}
        for aside in self.setting.asides:
            left = [item for item in self._alive() if not item.again and (item.key, aside.key) not in done]
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

    def _memory(self) -> dict[str, memory.Peak]:
        done = {entry["cell"]: entry["peak"] for entry in self.journal.of_kind("memory")}
        peaks = {
            key: memory.Peak(peak["peak_bytes"], peak["kind"], peak["reason"], peak["fit_bytes"])
            for key, peak in done.items()
        }
        left = [running for running in self._alive() if running.key not in done and not running.again]
        if not self.timing.memory or not left:
            return peaks
        self.progress.stage("Memory", len(left))
        heaviest = max(self.setting.plan.batches, key=lambda batch: batch.inputs["input_ids"].numel())
        model = dataclasses.asdict(self.setting.suite.model)
        tasks = [
            memory.MemoryTask(
                checkpoint=model | {"device": str(self.setting.checkpoint.device)},
                method=running.cell.name,
                params=running.cell.params,
                texts=tuple(self.setting.plan.texts[position] for position in heaviest.index),
                rows=tuple(int(row) for row in self.setting.plan.rows[heaviest.index]),
                seed=running.cell.seed,
                threads=torch.get_num_threads(),
                train=self._train_data(running),
            )
            for running in left
        ]
        for running, peak in zip(left, memory.measure(tasks), strict=True):
            peaks[running.key] = peak
            self.journal.append({"kind": "memory", "cell": running.key, "peak": peak.as_dict()})
            self.progress.step(running.label)
        return peaks

    def _train_data(self, running: Running) -> memory.TrainData | None:
        train = self.setting.train
        if train is None or not running.cell.factory.needs_train:
            return None
        plan, planner = train.labelled.plan, self.setting.planner
        return memory.TrainData(
            plan.texts,
            plan.rows.tolist(),
            train.labelled.labels.tolist(),
            planner.token_budget,
            planner.batch_size,
        )
