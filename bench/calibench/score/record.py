"""What a session measured for one cell -> its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

import calibench
from calibench.asides import Aside
from calibench.errors import CalibenchError
from calibench.measure import environment, memory
from calibench.measure.running import Running, again_key
from calibench.measure.session import Session
from calibench.measure.setting import Setting
from calibench.method import Method
from calibench.metrics.select import select_metrics
from calibench.registry import METHODS, distribution
from calibench.score.cost import timing_values
from calibench.score.joint import joint_fields
from calibench.score.outcomes import FittedStep, Outcome, elsewhere, joined, outcomes_of
from calibench.score.prediction_sets import with_sets
from calibench.score.quality import curve_values, evaluation_of, metric_values, probs_at, shift_values
from calibench.score.step_time import SharedTime
from calibench.score.yardstick import error_fields
from calibench.store import records
from calibench.store.journal import Entries
from calibench.store.paths import folders, scrubbed, without_paths
from calibench.store.predictions import write_predictions
from calibench.store.records import Record
from calibench.suites.cells import Cell
from calibench.types import Dataset, Evaluation, Metric, Predictive


def make_records(session: Session, peaks: Mapping[str, memory.Peak]) -> list[Record]:
    """One record per row of the session, failed ones included; stores the predictions."""
    setting = session.setting
    metrics = select_metrics(
        setting.suite.metrics,
        posterior_known=setting.dataset.posterior is not None,
        out_of_scope=bool((setting.dataset.labels < 0).any()),
    )
    captured = environment.capture()
    outcomes = [with_sets(session, outcome) for outcome in outcomes_of(session)]
    timings = SharedTime(session, outcomes)
    found: list[Record] = []
    session.progress.stage("Scoring", len(outcomes))
    for outcome in outcomes:
        running = outcome.running
        running.failure = running.failure or outcome.source.failure
        measured: Record = {}
        if running.failure is None and outcome.predictive is not None:
            try:
                measured = _measured_fields(session, outcome, outcome.predictive, metrics, peaks, timings)
            except CalibenchError as error:
                running.fail(error)
        record = _shared_fields(setting, running.cell, running.key, captured)
        record["status"] = "ok" if running.failure is None else "error"
        record["error"] = _without_paths(running.failure, running.cell)
        found.append(record | measured)
        session.progress.step(running.label)
    return found


def _without_paths(failure: dict[str, str] | None, cell: Cell) -> dict[str, str] | None:
    return failure and failure | {"message": scrubbed(failure["message"], cell.params)}


def _shared_fields(setting: Setting, cell: Cell, key: str, captured: dict[str, Any]) -> Record:
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
            "distribution": distribution(METHODS.entry_point(cell.name)),
        },
        "data": {
            "name": dataset.name,
            "config": dataset.config,
            "split": dataset.split,
            "revision": dataset.revision,
            "source": dataset.source,
            "sha256": dataset.sha256,
            "n": len(dataset),
            "out_of_scope": int((dataset.labels < 0).sum()),
            "labels": list(dataset.label_names),
            "limit": setting.limit,
        },
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "source": checkpoint.source,
            "sha256": checkpoint.sha256,
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
            "sha256": setting.context["plan"],
        },
        "seed": cell.seed,
        "environment": captured,
        "notes": list(setting.notes),
    }


def _measured_fields(
    session: Session,
    outcome: Outcome,
    predictive: Predictive,
    metrics: Sequence[Metric],
    peaks: Mapping[str, memory.Peak],
    timings: Entries,
) -> Record:
    setting, running, source = session.setting, outcome.running, outcome.source
    method = source.method
    assert method is not None
    seed = setting.suite.seeds[0]
    curve = curve_values(metrics, predictive, setting.dataset, setting.suite.curve, seed)
    path = write_predictions(
        session.folder,
        running.key,
        setting.dataset,
        predictive,
        probs_at(predictive, setting.suite.curve),
        {item.column: item.sets for item in outcome.sets if item.sets is not None},
    )
    reference = next(
        item for item in session.active if item.cell.reference and item.cell.seed == running.cell.seed
    )
    timed = timing_values(timings, running.key, reference.key, curve["passes"] if curve else [])
    if curve is not None:
        curve |= timed.pop("curve")
    unknown = memory.Peak(None, "rss", "memory was not measured in this run")
    passes = predictive.passes
    return {
        "passes": int(method.passes),
        "passes_used": {"mean": float(passes.mean()), "min": int(passes.min()), "max": int(passes.max())},
        "coverage": _coverage_fields(method),
        "metrics": metric_values(metrics, _evaluation(outcome, predictive, setting.dataset), seed),
        "curve": curve,
        "timing": timed["timing"]
        | {
            "setup_s": source.setup_s,
            "model_load_s": setting.checkpoint.load_s,
            "first_forward_s": setting.first_forward_s,
        },
        "cost_ratio": timed["cost_ratio"],
        "latency_ratio": timed["latency_ratio"],
        "self_check": _self_check(session, running),
        "memory": peaks.get(source.key, unknown).as_dict(),
        "fit": _fit(source.fit, outcome.fitted),
        "notes": [*setting.notes, *predictive.notes],
        "conformal": [item.fields for item in outcome.sets],
        "joint": _joint(session, outcome, predictive),
        "shifts": [_shift(session, outcome, aside) for aside in setting.shifts],
        "asides": [aside.key for aside in setting.asides],
        "predictions": path,
    } | _yardstick(session, outcome)


def _fit(own: Record | None, step: FittedStep | None) -> Record | None:
    """What fitting took: the method's own fit, its post-hoc step's, or both together."""
    if step is None:
        return own
    if own is None:
        return step.fields
    return step.fields | {"seconds": own["seconds"] + step.fields["seconds"], "method": own}


def _joint(session: Session, outcome: Outcome, predictive: Predictive) -> Record | None:
    """The view over all classes and out of scope; None without a threshold split."""
    aside = session.setting.threshold
    if aside is None:
        return None
    try:
        chosen_on = _evaluation(outcome, elsewhere(session, outcome, aside), aside.dataset)
    except CalibenchError as error:
        return {"reason": str(error)}
    scored = _evaluation(outcome, predictive, session.setting.dataset)
    return joint_fields(chosen_on, aside.dataset.split, scored)


def _evaluation(outcome: Outcome, predictive: Predictive, dataset: Dataset) -> Evaluation:
    return evaluation_of(predictive, dataset, outcome.running.cell.factory.score)


def _shift(session: Session, outcome: Outcome, aside: Aside) -> Record:
    """The row's numbers on data that drifted, or why there are none."""
    setting, dataset = session.setting, aside.dataset
    changed = None
    if aside.of is not None:
        pairs = zip(dataset.texts, aside.of, strict=True)
        changed = float(np.mean([text != setting.dataset.texts[i] for text, i in pairs]))
    metrics, reason = None, None
    try:
        predictive = elsewhere(session, outcome, aside)
        metrics = shift_values(evaluation_of(predictive, dataset), setting.suite.seeds[0])
    except CalibenchError as error:
        reason = str(error)
    return {
        "kind": aside.kind,
        "strength": aside.strength,
        "name": dataset.name,
        "split": dataset.split,
        "n": len(dataset),
        "changed": changed,
        "sha256": dataset.sha256,
        "metrics": metrics,
        "reason": reason,
    }


def _yardstick(session: Session, outcome: Outcome) -> Record:
    """The error against the yardstick's limit; none where a post-hoc step changes the limit."""
    spec, references = session.setting.suite.yardstick, session.untimed.references
    if spec is None or references is None or outcome.fitted is not None:
        return {}
    source, setting = outcome.source, session.setting
    found = [joined(source, setting, repetition) for repetition in [0, *sorted(source.replicates)]]
    probs = np.stack([item.probs for item in found])
    passes = np.stack([item.passes for item in found])
    against = dataclasses.asdict(spec)
    return {"yardstick": {"against": against} | error_fields(probs, references, passes)}


def _self_check(session: Session, running: Running) -> dict[str, Any] | None:
    """The ratios of the reference to itself where it was raced, else None."""
    key = again_key(running.key)
    if all(item.key != key or not item.alive for item in session.active):
        return None
    timed = timing_values(session.journal, key, running.key, [])
    return {name: timed[name] for name in ("cost_ratio", "latency_ratio")}


def _coverage_fields(method: Method) -> dict[str, Any] | None:
    coverage = method.coverage
    if coverage is None:
        return None
    return {
        "active": coverage.active,
        "expected": coverage.expected,
        "sites": [dataclasses.asdict(site) for site in coverage.sites],
    }
