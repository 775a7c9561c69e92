"""One set of cells measured side by side, in interleaved blocks that are journalled as they finish."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibench.errors import CalibenchError
from calibench.measure import memory
from calibench.measure.clocks import Timed, frozen_heap, time_prediction
from calibench.measure.progress import Progress
from calibench.measure.running import Running
from calibench.measure.setting import Setting
from calibench.measure.untimed import Untimed
from calibench.method import Method
from calibench.models.encoder import Encoder
from calibench.models.sharing import alone, charges, sharing
from calibench.seeds import derived_seed
from calibench.store.journal import Journal
from calibench.types import IntArray, Predictive


def session_name(setting: Setting, active: Sequence[Running]) -> str:
    """Names a set of cells measured side by side, so that only the same set goes on from its journal."""
    timing = setting.suite.timing
    content = [sorted(item.key for item in active), len(setting.blocks), timing.latency, setting.suite.curve]
    if setting.suite.yardstick is not None:
        content.append(dataclasses.asdict(setting.suite.yardstick))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


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
        keep = bool(setting.suite.curve)
        self.journal = Journal(folder, session_name(setting, active), keep_samples=keep)
        self.untimed = Untimed(setting, self.journal, progress)

    def measure(self) -> dict[str, memory.Peak]:
        """Set-up, warm-up, blocks, single sentences, calibration split, memory; returns peaks by cell key."""
        self._set_up()
        with frozen_heap():
            self._warm_up()
            self._throughput()
            self.untimed.predict_references()
            self._curve_timing()
            self._latency()
        bases = {running.base for running in self.derived}
        self.untimed.predict_calibration([item for item in self._alive() if not item.again], bases)
        self.untimed.predict_asides([item for item in self._alive() if not item.again])
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
            made = False
            for running in turn:
                if not made and running.method is not None and running.method.encoder is not None:
                    self._make_shared_pass(running.method.encoder, block)
                    made = True
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

    def _make_shared_pass(self, encoder: Encoder, block: int) -> None:
        """Make the pass that methods share, before the first of them: its own work would slow it for all."""
        plan, groups = self.setting.plan, self.setting.blocks[block]
        try:
            for batch in self.setting.planner.assemble(plan.texts, plan.rows, groups).batches:
                encoder(batch)
        except Exception as error:  # each method then makes the pass for itself, and fails for itself
            self.progress.say(f"The pass that methods share failed: {error}")

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
