"""What all cells of a run share: data, checkpoint, the frozen batch plan and its blocks."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import torch

import calibench
from calibench.data.labels import align, ids_of, matching
from calibench.data.subset import limit
from calibench.errors import CalibenchError, UsageError
from calibench.hashing import dataset_sha256, plan_sha256
from calibench.measure.environment import capture
from calibench.measure.progress import Progress
from calibench.measure.splits import (
    CalibrationSplit,
    ExtraData,
    Splits,
    TrainSplit,
    load_split,
    refuse_unfit,
    refuse_unknown,
)
from calibench.metrics.select import third_parties
from calibench.models.checkpoint import Checkpoint, settled_note
from calibench.models.identity import config_sha256, tokenizer_sha256
from calibench.models.loading import load_checkpoint
from calibench.models.padding import Settled, padded, settle_padding
from calibench.models.plan import Planner
from calibench.models.plan import blocks as blocks_of
from calibench.suites.spec import Suite
from calibench.types import Dataset, IntArray, Plan

#: Padded tokens per batch where the suite does not say: what fits a CPU's caches, and what fills a GPU.
TOKEN_BUDGET = {"cpu": 1024, "cuda": 16384, "mps": 4096}


@dataclass(frozen=True, eq=False)
class Setting:
    """What all cells of a run share.

    Attributes:
        threshold: what the threshold between in scope and out of scope is chosen on; None where there is
            none to choose.
        shifts: data that drifted, on which every method is evaluated besides.
        calibration: what post-hoc steps and sets are fitted on; None where they are cross-fitted, or there
            are none.
        train: what methods learn from that need training data; None where none does, or there is none.
        train_missing: why there is none.
        settled: how texts are padded, and that this changes no answer.
        context: what the keys of all cells depend on.
        environment: as it is before any method has run.
    """

    suite: Suite
    dataset: Dataset
    checkpoint: Checkpoint
    planner: Planner
    plan: Plan
    blocks: list[list[IntArray]]
    calibration: CalibrationSplit | None
    train: TrainSplit | None
    train_missing: str | None
    threshold: ExtraData | None
    shifts: tuple[ExtraData, ...]
    settled: Settled
    context: dict[str, Any]
    first_forward_s: float
    environment: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def extra_data(self) -> tuple[ExtraData, ...]:
        """What every method predicts once, untimed, besides what is scored."""
        return self.shifts if self.threshold is None else (self.threshold, *self.shifts)


def load_setting(
    suite: Suite,
    device: str,
    progress: Progress,
    *,
    post_hoc: bool = False,
    learning: bool = False,
) -> Setting:
    """Load data and model and plan the batches.

    Args:
        post_hoc: whether any cell has a post-hoc step or prediction sets, which may need data of its own.
        learning: whether any method learns from training data. If there is none, that is for these to say.

    Raises:
        UsageError: what the suite names is not there, or does not fit together.
        CalibenchError: it could not be loaded.
    """
    refuse_unknown(suite.shift)
    dataset, checkpoint, seen, notes = _matched(suite, device, progress, post_hoc=post_hoc)
    timing = suite.timing
    settled = settle_padding(checkpoint, dataset.texts, suite.seeds[0])
    checkpoint = padded(checkpoint, settled.padding)
    if settled.note is not None:
        progress.say(settled.note)
        notes = (*notes, settled.note)
    budget = timing.token_budget or TOKEN_BUDGET[checkpoint.device.type]
    planner = Planner.of(checkpoint, token_budget=budget, batch_size=timing.batch_size)
    plan = planner.plan(dataset.texts, dataset.rows)
    splits = Splits(suite, dataset, checkpoint.labels, planner, seen)
    calibration = splits.calibration() if post_hoc else None
    train, train_missing = None, None
    if learning:
        try:
            train = splits.train()
        except CalibenchError as error:
            train_missing = str(error)
    return Setting(
        suite,
        dataset,
        checkpoint,
        planner,
        plan,
        blocks_of(plan, timing.blocks),
        calibration,
        train,
        train_missing,
        splits.threshold(),
        (*splits.shifted(), *splits.others()),
        settled,
        _context(suite, dataset, checkpoint, plan, calibration, train)
        | ({} if settled.note is None else {"padding": dataclasses.asdict(settled.padding)}),
        _first_forward(checkpoint, plan),
        capture(),
        notes,
    )


def _matched(
    suite: Suite, device: str, progress: Progress, *, post_hoc: bool
) -> tuple[Dataset, Checkpoint, tuple[str, ...], tuple[str, ...]]:
    """The scored data and the model, labels matched, with the ids of the split and notes on how."""
    data = suite.data
    if suite.model.name is None:
        raise UsageError(
            f"The suite {suite.name!r} comes without a model; pass --model with a hub id or a folder of a "
            "text classifier that outputs the labels of its data."
        )
    dataset = load_split(data, data.split)
    if post_hoc:
        refuse_unfit(suite.calibration, dataset.split)
    elif suite.calibration.split is not None:
        progress.say("The calibration split is not used: nothing is fitted; add --posthoc or --conformal.")
    progress.step(f"{dataset.name}: {len(dataset)} examples")
    checkpoint = load_checkpoint(device=device, **dataclasses.asdict(suite.model))
    progress.step(checkpoint.name)
    seen = ids_of(dataset)
    if data.limit is not None:
        dataset = limit(dataset, data.limit, suite.seeds[0])
    settings: dict[str, Any] = {
        "seen": seen,
        "out_of_scope": data.out_of_scope,
        "label_map": data.label_map,
    }
    notes = matching(dataset, checkpoint.labels, **settings).notes
    if dataset.unlabelled:
        count = dataset.unlabelled
        which = "1 row has no label and is" if count == 1 else f"{count:,} rows have no label and are"
        notes = (*notes, f"Of the split {dataset.split!r}, {which} left out.")
    sparse = settled_note(checkpoint)
    notes = notes if sparse is None else (*notes, sparse)
    for note in notes:
        progress.say(note)
    return align(dataset, checkpoint.labels, **settings), checkpoint, seen, notes


def _context(
    suite: Suite,
    dataset: Dataset,
    checkpoint: Checkpoint,
    plan: Plan,
    calibration: CalibrationSplit | None,
    train: TrainSplit | None,
) -> dict[str, Any]:
    """What the keys of cells depend on."""
    context: dict[str, Any] = {
        "suite": suite.name,
        "data": dataset.sha256,
        # Neither the data as loaded nor the weights say which output is which class.
        "labels": dataset_sha256(dataset.texts, dataset.labels, dataset.label_names, dataset.split),
        "model": checkpoint.sha256,
        "config": config_sha256(checkpoint.module.config),
        "tokenizer": tokenizer_sha256(checkpoint.tokenizer),
        "max_length": checkpoint.max_length,
        "out_of_scope": sorted(suite.data.out_of_scope),
        "dtype": str(checkpoint.dtype),
        "device": checkpoint.device.type,
        "attention": checkpoint.attention,
        "plan": plan_sha256(plan),
        "calibration": calibration.dataset.sha256 if calibration else suite.calibration.folds,
        "train": train.dataset.sha256 if train else None,
        "version": calibench.__version__,
    }
    if suite.data.label_map:
        context["label_map"] = dict(suite.data.label_map)
    if others := third_parties(suite.metrics):
        context["metrics"] = others
    if suite.yardstick is not None:
        context["yardstick"] = dataclasses.asdict(suite.yardstick)
    return context


def _first_forward(checkpoint: Checkpoint, plan: Plan) -> float:
    """Seconds of the first forward pass after loading, which pays for what later ones find ready."""
    start = time.perf_counter()
    with torch.inference_mode():
        checkpoint.module(**plan.batches[0].inputs).logits.float().cpu()
    return time.perf_counter() - start
