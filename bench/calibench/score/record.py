"""What was measured of one cell -> its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import calibench
from calibench.errors import CalibenchError, WriteError
from calibench.measure import memory
from calibench.measure.measured import Measured, MeasuredCell
from calibench.measure.progress import Progress
from calibench.measure.running import failure_of, self_check_key
from calibench.measure.setting import Setting
from calibench.measure.splits import ExtraData
from calibench.metrics.select import left_out_metrics, select_metrics
from calibench.registry import METRICS
from calibench.score.cost import absent, timing_values
from calibench.score.joint import joint_fields
from calibench.score.outcomes import Outcome, joined, on_extra, predicted, rows_of
from calibench.score.prediction_sets import with_sets
from calibench.score.quality import (
    SHIFT_METRICS,
    below_guessing,
    curve_values,
    evaluation_of,
    metric_values,
    probs_at,
    shift_values,
)
from calibench.score.step_time import SteppedEntries, adds_time
from calibench.score.steps import FittedStep, read_later
from calibench.score.yardstick import error_fields
from calibench.store import records
from calibench.store.paths import folders, scrubbed, without_paths
from calibench.store.predictions import write_predictions
from calibench.store.records import Record
from calibench.suites.cells import Cell
from calibench.types import Dataset, Evaluation, Metric, Predictive


def make_records(
    measured: Measured, folder: Path, progress: Progress, *, untimed: str | None = None
) -> list[Record]:
    """One record per row, failed ones included; stores the predictions in the run folder.

    Args:
        untimed: where nothing was timed, why; this then stands in the place of every cost.
    """
    setting = measured.setting
    metrics = select_metrics(
        setting.suite.metrics,
        posterior_known=setting.dataset.posterior is not None,
        out_of_scope=bool((setting.dataset.labels < 0).any()),
    )
    for sentence in left_out_metrics(setting.suite.metrics):
        progress.say(sentence)
    rows = rows_of(measured)
    # What adds to a row's time is timed side by side; what all others predict is held one after the other.
    held = {item.row.key: _whole(measured, item) for item in rows if adds_time(item)}
    timings = SteppedEntries(measured, list(held.values()))
    found: list[Record] = []
    progress.stage("Scoring", len(rows))
    for item in rows:
        memory.give_back_freed_memory()
        outcome = held.pop(item.row.key, None) or _whole(measured, item)
        cell, failure = outcome.row.cell, outcome.failure
        fields: Record = {}
        if outcome.predictive is not None:
            try:
                timings.require(outcome.row.key)
                own = _measured_fields(measured, outcome, outcome.predictive, metrics, folder)
                if untimed is None:
                    fields = own | _costs(measured, outcome, timings, own)
                else:
                    fields = own | absent(own, untimed)
            except WriteError:
                raise
            except CalibenchError as error:
                failure = failure_of(error)
        record = _shared_fields(setting, cell, outcome.row.key) | _runtime(measured, cell)
        record["status"] = "ok" if failure is None else "error"
        record["error"] = _without_paths(failure, cell)
        found.append(record | fields)
        progress.step(cell.label)
    return found


def _whole(measured: Measured, outcome: Outcome) -> Outcome:
    """The same with all that there is to score."""
    return with_sets(measured, predicted(measured, outcome))


def _without_paths(failure: dict[str, str] | None, cell: Cell) -> dict[str, str] | None:
    return failure and failure | {"message": scrubbed(failure["message"], cell.params)}


def _shared_fields(setting: Setting, cell: Cell, key: str) -> Record:
    dataset, checkpoint, plan = setting.dataset, setting.checkpoint, setting.plan
    config = getattr(checkpoint.module, "config", None)
    return {
        "schema": records.SCHEMA,
        "status": None,
        "error": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "calibench": calibench.__version__,
        "cell": key,
        "suite": setting.suite.name,
        "reference": cell.reference,
        "method": {
            "name": cell.name,
            "params": without_paths(cell.params),
            "folders": folders(cell.params),
            "members": [dataclasses.asdict(member) for member in cell.members],
            "posthoc": cell.posthoc,
            "score": cell.factory.score,
            "score_only": cell.factory.score_only,
            "distribution": cell.distribution,
        },
        "data": {
            "name": dataset.name,
            "loader": setting.suite.data.loader,
            "config": dataset.config,
            "split": dataset.split,
            "revision": dataset.revision,
            "source": dataset.source,
            "sha256": dataset.sha256,
            "n": len(dataset),
            "out_of_scope": int((dataset.labels < 0).sum()),
            "labels": list(dataset.label_names),
            "limit": setting.suite.data.limit,
            "unlabelled": dataset.unlabelled,
            "reading": setting.suite.data.reading,
            "label_map": {key: str(value) for key, value in setting.suite.data.label_map.items()},
        },
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "source": checkpoint.source,
            "sha256": checkpoint.sha256,
            "config_sha256": setting.context["config"],
            "tokenizer_sha256": setting.context["tokenizer"],
            "architecture": type(checkpoint.module).__name__,
            "parameters": sum(tensor.numel() for tensor in checkpoint.module.parameters()),
            "layers": getattr(config, "num_hidden_layers", None),
            "labels": list(checkpoint.labels),
            "dtype": str(checkpoint.dtype).removeprefix("torch."),
            "device": str(checkpoint.device),
            "attention": checkpoint.attention,
        },
        "plan": {
            "batches": len(plan.batches),
            "tokens": plan.tokens,
            "padding_ratio": plan.padding_ratio,
            "token_budget": setting.planner.token_budget,
            "batch_size": setting.planner.batch_size,
            "truncated": plan.truncated,
            "padding": {"side": setting.settled.padding.side, "difference": setting.settled.difference},
            "sha256": setting.context["plan"],
        },
        "seed": cell.seed,
        "environment": setting.environment,
        "notes": list(setting.notes),
    }


def _runtime(measured: Measured, cell: Cell) -> Record:
    """What is known of what ran the model; nothing where that is PyTorch as it is."""
    facts = measured.runtimes.get(cell.runtime)
    return {} if facts is None else {"runtime": dataclasses.asdict(facts)}


def _measured_fields(
    measured: Measured,
    outcome: Outcome,
    predictive: Predictive,
    metrics: Sequence[Metric],
    folder: Path,
) -> Record:
    """The fields of a measured row, but for what it costs."""
    setting, row, source = measured.setting, outcome.row, outcome.source
    seed = setting.suite.seeds[0]
    curve = curve_values(metrics, predictive, setting.dataset, setting.suite.curve, seed)
    stored = write_predictions(
        folder,
        row.key,
        setting.dataset,
        predictive,
        probs_at(predictive, setting.suite.curve),
        {item.column: item.sets for item in outcome.sets if item.sets is not None},
    )
    evaluation = _evaluation(outcome, predictive, setting.dataset)
    if outcome.fitted is not None:
        optimism = outcome.fitted.optimism(outcome.fitted.before, evaluation, read_later(metrics))
        evaluation = dataclasses.replace(evaluation, optimism=optimism)
    warning = below_guessing(evaluation.in_scope(), setting.dataset.label_names)
    passes = predictive.passes
    return {
        "passes": source.passes,
        "passes_used": {"mean": float(passes.mean()), "min": int(passes.min()), "max": int(passes.max())},
        "coverage": _coverage_fields(source),
        "metrics": metric_values(metrics, evaluation, seed),
        "curve": curve,
        "fit": _fit(source.fit, outcome.fitted, evaluation.optimism),
        "notes": [*setting.notes, *predictive.notes, *_about(measured, outcome)],
        "warnings": [] if warning is None else [warning],
        "conformal": [item.fields for item in outcome.sets],
        "joint": _joint(measured, outcome, predictive),
        "shifts": [_shift(measured, outcome, extra) for extra in setting.shifts],
        "asides": [extra.key for extra in setting.extra_data],
        **stored,
    } | _yardstick(measured, outcome)


def _costs(measured: Measured, outcome: Outcome, timings: SteppedEntries, fields: Record) -> Record:
    """What a row costs in time and memory, and in time at each number of passes of its curve."""
    setting, row, source, curve = measured.setting, outcome.row, outcome.source, fields["curve"]
    reference = measured.reference_of(row.cell)
    timed = timing_values(timings, row.key, reference.key, curve["passes"] if curve else [])
    unknown = memory.Peak(None, "rss", "memory was not measured in this run")
    return {
        "curve": curve and curve | timed["curve"],
        "timing": timed["timing"]
        | {
            "setup_s": source.setup_s,
            "model_load_s": setting.checkpoint.load_s,
            "first_forward_s": setting.first_forward_s,
        },
        "cost_ratio": timed["cost_ratio"],
        "latency_ratio": timed["latency_ratio"],
        "self_check": _self_check(measured, outcome),
        "memory": (source.peak or unknown).as_dict(),
    }


def _about(measured: Measured, outcome: Outcome) -> list[str]:
    """What ran the model, and that a peer pads texts where nothing may be padded."""
    facts = measured.runtimes.get(outcome.row.cell.runtime)
    found = [] if facts is None else [facts.note()]
    if outcome.source.tokenises and measured.setting.settled.padding.side == "none":
        found.append("This path pads texts for itself, so that an answer depends on the texts beside it.")
    return found


def _fit(own: Record | None, step: FittedStep | None, optimism: Mapping[str, float]) -> Record | None:
    """What fitting took: the method's own fit, its post-hoc step's, or both together."""
    if step is None:
        return own
    fields = step.fields | {"optimism": dict(optimism)}
    if own is None:
        return fields
    return fields | {"seconds": own["seconds"] + step.fields["seconds"], "method": own}


def _joint(measured: Measured, outcome: Outcome, predictive: Predictive) -> Record | None:
    """The view over all classes and out of scope; None without a threshold split."""
    extra = measured.setting.threshold
    if extra is None:
        return None
    try:
        chosen_on = _evaluation(outcome, on_extra(measured, outcome, extra), extra.dataset)
    except CalibenchError as error:
        return {"reason": str(error)}
    scored = _evaluation(outcome, predictive, measured.setting.dataset)
    return joint_fields(chosen_on, extra.dataset.split, scored)


def _evaluation(outcome: Outcome, predictive: Predictive, dataset: Dataset) -> Evaluation:
    return evaluation_of(predictive, dataset, outcome.row.cell.factory.score)


def _shift(measured: Measured, outcome: Outcome, extra: ExtraData) -> Record:
    """The row's numbers on data that drifted, or why there are none."""
    setting, dataset = measured.setting, extra.dataset
    changed = None
    if extra.of is not None:
        pairs = zip(dataset.texts, extra.of, strict=True)
        changed = float(np.mean([text != setting.dataset.texts[i] for text, i in pairs]))
    metrics, reason = None, None
    try:
        predictive = on_extra(measured, outcome, extra)
        evaluation = evaluation_of(predictive, dataset)
        if outcome.fitted is not None and extra.of is not None:
            before = measured.on_extra(outcome.source, extra).probs
            chosen = [METRICS.load(name) for name in SHIFT_METRICS]
            optimism = outcome.fitted.optimism(before, evaluation, chosen, extra.of)
            evaluation = dataclasses.replace(evaluation, optimism=optimism)
        metrics = shift_values(evaluation, setting.suite.seeds[0])
    except CalibenchError as error:
        reason = str(error)
    return {
        "kind": extra.kind,
        "strength": extra.strength,
        "name": dataset.name,
        "split": dataset.split,
        "n": len(dataset),
        "changed": changed,
        "sha256": dataset.sha256,
        "metrics": metrics,
        "reason": reason,
    }


def _yardstick(measured: Measured, outcome: Outcome) -> Record:
    """The error against the yardstick's limit; none where a post-hoc step changes the limit."""
    spec, references = measured.setting.suite.yardstick, measured.references
    if spec is None or references is None or outcome.fitted is not None:
        return {}
    source, setting = outcome.source, measured.setting
    found = [joined(source, setting, repetition) for repetition in sorted(source.outputs)]
    probs = np.stack([item.probs for item in found])
    passes = np.stack([item.passes for item in found])
    against = dataclasses.asdict(spec)
    return {"yardstick": {"against": against} | error_fields(probs, references, passes)}


def _self_check(measured: Measured, outcome: Outcome) -> dict[str, Any] | None:
    """The ratios of the reference to itself where it was raced, else None."""
    if outcome.row is not outcome.source or not outcome.source.self_checked:
        return None
    key = outcome.row.key
    timed = timing_values(measured.journal, self_check_key(key), key, [])
    return {name: timed[name] for name in ("cost_ratio", "latency_ratio")}


def _coverage_fields(source: MeasuredCell) -> dict[str, Any] | None:
    coverage = source.coverage
    if coverage is None:
        return None
    return {
        "active": coverage.active,
        "expected": coverage.expected,
        "sites": [dataclasses.asdict(site) for site in coverage.sites],
    }
