"""A run folder with as many methods as are registered, some of which add a score alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import report_example as example
from calibench.hashing import text_sha256
from calibench.metrics.selective import KINDS
from calibench.registry import METRICS
from calibench.score import quality
from calibench.store.records import Record, write_records
from calibench.types import Evaluation, FloatArray
from simulated import softmax

CLASSES = 4
_METRICS = ("accuracy", "ece", "ece_debiased", "nll", "brier", "oos_auroc", "oos_aupr", "oos_fpr95")
_SHIFTS = (("typos", 0.1), ("typos", 0.3), ("truncate", 0.5))


@dataclass(frozen=True)
class Spec:
    """One simulated method.

    Attributes:
        sharpness, noise: of its logits.
        score: the score by which it ranks, and how well that tells texts out of scope.
        like: the method whose logits it has.
        fit: labelled examples that it is fitted on.
    """

    name: str
    cost: float = 1.0
    sharpness: float = 1.6
    noise: float = 0.4
    passes: int = 1
    posthoc: str | None = None
    score: str | None = None
    tells: float = 0.0
    score_only: bool = False
    like: str = "frequentist"
    fit: int = 0
    error: str | None = None


def dropout(name: str, cost: float) -> Spec:
    return Spec(name, cost, 1.2, 0.3, 20, like=name)


def scored(name: str, tells: float, cost: float = 1.01, fit: int = 0, score: str | None = None) -> Spec:
    return Spec(name, cost, score=score or name, tells=tells, score_only=True, fit=fit)


MANY = (
    Spec("frequentist"),
    Spec("frequentist", posthoc="temperature", sharpness=1.0, cost=1.004, fit=800),
    dropout("mc-dropout", 19.9),
    Spec("mc-dropout", 19.9, 1.0, 0.3, 20, "temperature", like="mc-dropout", fit=800),
    dropout("mc-dropout-baal", 19.1),
    dropout("mc-dropout-batch", 17.2),
    dropout("mc-dropout-stratified", 12.3),
    dropout("mc-dropout-adaptive", 6.4),
    Spec("deep-ensemble", 5.02, 1.2, 0.1, 5, like="ensemble"),
    Spec("deep-ensemble", 5.03, 1.0, 0.1, 5, "temperature", like="ensemble", fit=800),
    Spec("last-layer-laplace-kronecker", 1.35, 1.1, 0.35, like="laplace", fit=2000),
    Spec("swag-diagonal", 20.4, 1.3, 0.3, 20, like="swag", fit=2000),
    Spec("vector", 1.003, 1.0, 0.42, fit=800),
    Spec("dirichlet", 1.003, 1.0, 0.44, fit=800),
    Spec("isotonic", 1.004, 1.02, 0.5, fit=800),
    Spec("spectral-normalised-gaussian-process", 1.1, 1.3, 0.5, like="sngp", score="variance", tells=1.2),
    Spec("hf-pipeline-baal", 27.5, 1.2, 0.3, 20, like="mc-dropout"),
    scored("energy", 1.6),
    scored("max-logit", 1.5),
    scored("odin-temperature", 1.2),
    scored("mahalanobis", 2.0, 1.12, 2000, "mahalanobis_distance"),
    scored("ddu", 1.9, 1.09, 2000, "density"),
    scored("knn", 1.9, 1.21, 2000, "neighbour_distance"),
    Spec("no-dropout", error="dropout p is 0 everywhere | nothing to draw"),
)


def build(
    folder: Path, specs: tuple[Spec, ...] = MANY, *, inside: int = 600, beyond: int = 200
) -> list[Record]:
    """Write the run folder, with the numbers of its predictions; returns its records."""
    rng = np.random.default_rng(1)
    truth = 2.5 * rng.normal(size=(inside + beyond, CLASSES))
    truth[inside:] *= 0.45
    labels = np.array([rng.choice(CLASSES, p=row) for row in softmax(truth)])
    labels[inside:] = -1
    records = []
    for spec in specs:
        text = f"{spec.name}{spec.posthoc}"
        record = example.record(
            example.Spec(spec.name, 1.0, spec.cost, passes=spec.passes, error=spec.error),
            hashlib.sha256(text.encode()).hexdigest()[:12],
            suite="clinc-oos",
            seed=0,
            model="a-model",
            n=inside + beyond,
        )
        record["method"] |= {"posthoc": spec.posthoc, "score": spec.score, "score_only": spec.score_only}
        record["data"] |= {"out_of_scope": beyond, "labels": [f"class-{i}" for i in range(CLASSES)]}
        record["reference"] = text == "frequentistNone"
        if spec.error is None:
            _fill(record, spec, folder, truth, labels)
        records.append(record)
    write_records(folder, records)
    return records


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))


def _fill(record: Record, spec: Spec, folder: Path, truth: FloatArray, labels: np.ndarray) -> None:
    noise = 2.0 * spec.noise * _rng(spec.like).normal(size=truth.shape)
    probs = softmax(spec.sharpness * (truth + noise))
    scores = {"entropy_of_passes": -(probs * np.log(probs)).sum(axis=1)} if spec.passes > 1 else {}
    if spec.score is not None:
        shared = _rng("shared").normal(size=len(labels))
        own = 0.4 * _rng(spec.name).normal(size=len(labels))
        scores[spec.score] = 8.0 + spec.tells * (labels < 0) - 0.2 * truth.max(axis=1) + shared + own
    record["metrics"] = _numbers(Evaluation(probs, labels, None, scores, spec.score))
    record["passes_used"] = {"mean": float(spec.passes), "min": spec.passes, "max": spec.passes}
    record["timing"] = example.timing(example.Spec(spec.name, 1.0, spec.cost))
    record["cost_ratio"] = example.estimate(spec.cost, 0.0 if record["reference"] else 0.02 * spec.cost)
    record["latency_ratio"] = example.estimate(0.94 * spec.cost, 0.05 * spec.cost)
    trained = spec.fit > 1000
    record["memory"] = {
        "peak_bytes": int(spec.cost * 2e7),
        "kind": "rss",
        "reason": None,
        "fit_bytes": 150_000_000 if trained else None,
    }
    if spec.fit:
        split = "train" if trained else "validation"
        record["fit"] = {"seconds": 0.003 * spec.fit, "examples": spec.fit, "split": split}
    record["shifts"] = [
        {"kind": kind, "strength": strength, "name": "clinc", "split": "test", "n": 600, "changed": 0.9}
        | {"sha256": "a" * 64, "reason": None, "metrics": _shifted(record["metrics"], strength)}
        for kind, strength in _SHIFTS
    ]
    columns: dict[str, Any] = {
        "index": np.arange(len(labels)),
        "text_sha256": [text_sha256(example.sentence(i)) for i in range(len(labels))],
        "label": labels,
        "passes": np.full(len(labels), spec.passes),
    }
    columns |= {f"p_{c}": probs[:, c] for c in range(CLASSES)}
    columns |= {f"score_{name}": score for name, score in scores.items()}
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    record["predictions"] = f"predictions/{record['cell']}.parquet"
    pq.write_table(pa.table(columns), folder / record["predictions"])


def _numbers(evaluation: Evaluation) -> dict[str, Any]:
    """As a run computes them, with too few resamples to be looked at closely."""
    chosen = [METRICS.load(name) for name in (*_METRICS, *(kind.name for kind in KINDS))]
    resamples, quality.RESAMPLES = quality.RESAMPLES, 40
    try:
        return quality.metric_values(chosen, evaluation, seed=0)
    finally:
        quality.RESAMPLES = resamples


def _shifted(metrics: dict[str, Any], strength: float) -> dict[str, Any]:
    factors = {"accuracy": 1 - 0.3 * strength, "ece": 1 + strength, "ece_noise_floor": 1.0}
    factors |= {"nll": 1 + 1.5 * strength, "brier": 1 + strength}
    return {
        name: {end: metrics[name][end] * factor for end in ("value", "low", "high")} | {"reason": None}
        for name, factor in factors.items()
    }
