"""What a session measured for one cell -> its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

import calibench
from calibench import environment, memory, records
from calibench.cells import Cell
from calibench.errors import CalibenchError
from calibench.evaluate import curve_values, evaluation_of, metric_values, probs_at, select_metrics
from calibench.records import Record
from calibench.registry import METHODS, distribution
from calibench.session import Running, Session, again_key
from calibench.setting import Setting
from calibench.summary import timing_values
from calibench.types import Method, Metric, Predictive


def make_records(session: Session, peaks: Mapping[str, memory.Peak]) -> list[Record]:
    """One record per cell of the session, in its order, failed ones included; stores the predictions."""
    setting = session.setting
    metrics = select_metrics(setting.suite.metrics, posterior_known=setting.dataset.posterior is not None)
    captured = environment.capture()
    found: list[Record] = []
    session.progress.stage("Scoring", len(session.active))
    for running in (item for item in session.active if not item.again):
        measured: Record = {}
        if running.failure is None:
            try:
                predictive = joined(running, setting)
                check_usable(predictive, setting)
                measured = _measured_fields(session, running, predictive, metrics, peaks)
            except CalibenchError as error:
                running.fail(error)
        record = _shared_fields(setting, running.cell, running.key, captured)
        record["status"] = "ok" if running.failure is None else "error"
        record["error"] = running.failure
        found.append(record | measured)
        session.progress.step(running.cell.label)
    return found


def joined(running: Running, setting: Setting) -> Predictive:
    """The blocks of the first repetition, put together in data set order."""
    order = np.concatenate([np.sort(np.concatenate(groups)) for groups in setting.blocks])
    inverse = np.argsort(order)
    parts = [running.outputs[block] for block in range(len(setting.blocks))]

    def join(arrays: Sequence[Any], axis: int = 0) -> Any:
        if any(array is None for array in arrays):
            return None
        return np.take(np.concatenate(arrays, axis=axis), inverse, axis=axis)

    return Predictive(
        probs=join([part.probs for part in parts]),
        passes=join([part.passes for part in parts]),
        samples=join([part.samples for part in parts], axis=1),
        standard_error=join([part.standard_error for part in parts]),
        scores={name: join([part.scores[name] for part in parts]) for name in parts[0].scores},
        sets=join([part.sets for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def check_usable(predictive: Predictive, setting: Setting) -> None:
    """Refuse to score what is not a probability.

    Raises:
        CalibenchError: values that are not finite, or rows that do not sum to 1, naming the first such row.
    """
    rows = setting.dataset.rows
    bad = np.flatnonzero(~np.isfinite(predictive.probs).all(axis=1))
    if len(bad):
        raise CalibenchError(
            f"{len(bad)} of {len(rows)} examples got probabilities that are not finite, the first in row "
            f"{rows[bad[0]]}; expected finite logits: try --dtype float32, or another checkpoint."
        )
    off = np.flatnonzero(np.abs(predictive.probs.sum(axis=1) - 1) > 1e-4)
    if len(off):
        raise CalibenchError(
            f"The probabilities of row {rows[off[0]]} sum to {predictive.probs[off[0]].sum():.6f}; expected "
            "1: repair the method, which may have returned logits."
        )


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
            "params": dict(cell.params),
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
    running: Running,
    predictive: Predictive,
    metrics: Sequence[Metric],
    peaks: Mapping[str, memory.Peak],
) -> Record:
    setting, method = session.setting, running.method
    assert method is not None
    seed = setting.suite.seeds[0]
    curve = curve_values(metrics, predictive, setting.dataset, setting.suite.curve, seed)
    path = records.write_predictions(
        session.folder, running.key, setting.dataset, predictive, probs_at(predictive, setting.suite.curve)
    )
    reference = next(
        item for item in session.active if item.cell.reference and item.cell.seed == running.cell.seed
    )
    timed = timing_values(session.journal, running.key, reference.key, curve["passes"] if curve else [])
    if curve is not None:
        curve |= timed.pop("curve")
    unknown = memory.Peak(None, "rss", "memory was not measured in this run")
    passes = predictive.passes
    return {
        "passes": int(method.passes),
        "passes_used": {"mean": float(passes.mean()), "min": int(passes.min()), "max": int(passes.max())},
        "coverage": _coverage_fields(method),
        "metrics": metric_values(metrics, evaluation_of(predictive, setting.dataset), seed),
        "curve": curve,
        "timing": timed["timing"]
        | {
            "setup_s": running.setup_s,
            "model_load_s": setting.checkpoint.load_s,
            "first_forward_s": setting.first_forward_s,
        },
        "cost_ratio": timed["cost_ratio"],
        "latency_ratio": timed["latency_ratio"],
        "self_check": _self_check(session, running),
        "memory": peaks.get(running.key, unknown).as_dict(),
        "fit": None,
        "notes": [*setting.notes, *predictive.notes],
        "predictions": path,
    }


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
