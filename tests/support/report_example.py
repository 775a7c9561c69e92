"""A run folder made from the schema alone, by simulating classifiers: what the report tests read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calibench.hashing import text_sha256
from calibench.stats.ratios import ratio_interval
from calibench.store.records import SCHEMA, Record, write_records
from calibench.types import FloatArray, IntArray

LABELS = ["negative", "positive"]
CURVE = (1, 5, 10, 20, 40, 60, 80)
STUDY_MODEL = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"


@dataclass(frozen=True)
class Spec:
    """One simulated method: how sharp and how noisy it is, what it costs, which dropout sites it lights."""

    name: str
    sharpness: float
    cost: float
    passes: int = 20
    sites: tuple[int, int] | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    noise: float = 1.5
    like: str | None = None  # the method with whose noise it is wrong


METHODS = (
    Spec("frequentist", 1.9, 1.0, passes=1),
    Spec("mc-dropout-baal", 1.5, 19.1, sites=(8, 0)),
    Spec("mc-dropout", 1.1, 19.9, sites=(8, 6)),
    Spec("mc-dropout-batch", 1.1, 17.2, sites=(8, 6), notes=("The chunk was halved to 10 copies.",)),
    Spec("hf-pipeline-baal", 1.5, 27.5, sites=(8, 0)),
)
FAILED = Spec("no-dropout", 1.0, 1.0, error="dropout p is 0 everywhere | nothing to draw")


def sentence(row: int) -> str:
    return f"the film in row {row} is <superb> & new"


def estimate(value: float, width: float) -> dict[str, Any]:
    return {"value": value, "low": value - width, "high": value + width, "reason": None}


def missing(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}


def ece(probs: FloatArray, labels: IntArray, bins: int = 10) -> float:
    confidence, right = probs.max(1), probs.argmax(1) == labels
    bucket = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(np.sum(confidence[bucket == b] - right[bucket == b])) for b in range(bins)]
    return float(np.sum(gaps) / len(labels))


def simulate(spec: Spec, n: int, seed: int) -> tuple[FloatArray, IntArray, FloatArray]:
    """Probabilities [N, 2] of an overconfident classifier, labels [N], the true posterior [N, 2]."""
    truth = np.random.default_rng(7).normal(0.0, 6.0, n)
    positive = 1 / (1 + np.exp(-truth))
    labels = (np.random.default_rng(11).random(n) < positive).astype(np.int64)
    key = int(hashlib.sha256(f"{spec.like or spec.name}{seed}".encode()).hexdigest()[:8], 16)
    logit = spec.sharpness * truth + np.random.default_rng(key).normal(0.0, spec.noise, n)
    said = 1 / (1 + np.exp(-logit))
    return np.stack([1 - said, said], 1), labels, np.stack([1 - positive, positive], 1)


def metrics(probs: FloatArray, labels: IntArray, posterior: FloatArray | None) -> dict[str, Any]:
    own = probs[np.arange(len(labels)), labels]
    floor = ece(probs, (np.random.default_rng(3).random(len(labels)) < probs[:, 1]).astype(np.int64))
    plain = ece(probs, labels)
    result = {
        "accuracy": estimate(float(np.mean(probs.argmax(1) == labels)), 0.02),
        "ece": estimate(plain, 0.019) | {"definition": {"bins": 10, "binning": "equal width", "norm": 1}},
        "ece_15": estimate(ece(probs, labels, 15), 0.019),
        "ece_equal_mass": estimate(plain * 0.97, 0.019),
        "ece_debiased": estimate(plain - floor, 0.019),
        "mce": estimate(0.31, 0.11),
        "ece_classwise": estimate(plain * 0.6, 0.012),
        "nll": estimate(float(-np.mean(np.log(own))), 0.05),
        "brier": estimate(float(np.mean(np.sum((probs - np.eye(2)[labels]) ** 2, 1))), 0.02),
        "ece_noise_floor": estimate(floor, 0.006),
    }
    if posterior is not None:
        result["posterior_error"] = estimate(float(np.mean(np.abs(probs - posterior)[:, 1])), 0.004)
        result["ece_true"] = estimate(0.0512, 0.004)
    return result


def coverage(sites: tuple[int, int]) -> dict[str, Any]:
    hidden, attention = sites
    made = [{"name": f"drop.{i}", "kind": "hidden", "p": 0.1, "active": i < hidden} for i in range(8)]
    made += [{"name": f"att.{i}", "kind": "attention", "p": 0.1, "active": i < attention} for i in range(6)]
    return {"active": hidden + attention, "expected": 14, "sites": made}


def fewer_passes(probs: FloatArray, spec: Spec, seed: int) -> dict[int, FloatArray]:
    """Running means {k: [N, 2]} that come closer to `probs` with every pass."""
    logit = np.log(probs[:, 1]) - np.log(probs[:, 0])
    noise = np.random.default_rng(seed + 17).normal(0.0, 1.0, (len(probs), 1))[:, 0]
    said = {k: 1 / (1 + np.exp(-logit - noise * (1 / k - 1 / CURVE[-1]))) for k in CURVE}
    return {k: np.stack([1 - p, p], 1) for k, p in said.items()} if spec.passes > 1 else {}


def curve(spec: Spec, at: dict[int, FloatArray], labels: IntArray) -> dict[str, Any]:
    def points(name: str, width: float) -> list[dict[str, Any]]:
        result = []
        for k in CURVE:
            value = metrics(at[k], labels, None)[name]["value"]
            order = 0.2 * width * np.sqrt((1 - k / CURVE[-1]) / k)
            point = estimate(value, width) | {"order_low": value - order, "order_high": value + order}
            result.append(point)
        return result

    return {
        "passes": list(CURVE),
        "metrics": {
            "accuracy": points("accuracy", 0.02),
            "ece": points("ece", 0.019),
            "nll": points("nll", 0.05),
        },
        "seconds": [0.0007 * spec.cost * k / 20 for k in CURVE],
        "cost_ratio": [estimate(spec.cost * k / 20, 0.06 * spec.cost * k / 20) for k in CURVE],
    }


def blocks(spec: Spec) -> list[dict[str, Any]]:
    """Twelve blocks of the same sentences, whose typical ratio to the reference's is `cost`."""
    base = 0.05 * (1.0 + 0.2 * np.sin(np.arange(12)))
    key = int(hashlib.sha256(spec.name.encode()).hexdigest()[:8], 16)
    own = base * np.random.default_rng(key).normal(1.0, 0.04 if spec.name != "frequentist" else 0.0, 12)
    own *= spec.cost / float(ratio_interval(own, base).value or 1.0)
    return [
        {
            "repetition": 0,
            "block": i,
            "sentences": 72,
            "tokens": 1800,
            "position": 0,
            "end_to_end_s": float(s),
        }
        | {"tokenise_s": None, "forward_s": None}
        for i, s in enumerate(own)
    ]


def timing(spec: Spec) -> dict[str, Any]:
    rate, p50 = 1432.7 / spec.cost, 3.418 * spec.cost
    forward = 0.58 * spec.cost
    return {
        "throughput": {
            "sentences_per_s": estimate(rate, 0.04 * rate),
            "tokens_per_s": estimate(24.6 * rate, rate),
            "blocks": 12,
            "repetitions": 1,
        },
        "latency_ms": {
            "n": 100,
            "p50": estimate(p50, 0.1 * p50),
            "p90": estimate(1.5 * p50, 0.2 * p50),
            "p95": estimate(1.7 * p50, 0.3 * p50),
            "p99": missing("n too small: p99 needs 473 requests or more"),
        },
        "blocks": blocks(spec),
        "stages_s": {"tokenise": 0.051, "forward": forward, "aggregate": 0.004, "end_to_end": forward + 0.06},
        "stalls": {"marked": 0, "repeated": 0, "left": 0},
        "setup_s": 0.0123,
        "first_forward_s": 0.0871,
        "model_load_s": 0.912,
    }


def record(spec: Spec, cell: str, *, suite: str, seed: int, model: str, n: int) -> Record:
    """A record of the schema without its results."""
    return {
        "schema": SCHEMA,
        "status": "error" if spec.error else "ok",
        "error": {"type": "RefusedError", "message": spec.error} if spec.error else None,
        "created": "2026-01-02T03:04:05+00:00",
        "calibench": "0.1.0",
        "cell": cell,
        "suite": suite,
        "reference": spec.name == "frequentist",
        "method": {
            "name": spec.name,
            "params": {"passes": spec.passes} if spec.passes > 1 else {},
            "distribution": "calibench 0.1.0",
        },
        "data": {
            "name": "sst2",
            "config": None,
            "split": "validation",
            "revision": None,
            "source": "folder",
            "sha256": "d" * 64,
            "n": n,
            "labels": LABELS,
            "limit": None,
        },
        "model": {
            "name": model,
            "revision": None,
            "source": "folder",
            "sha256": "e" * 64,
            "architecture": "DistilBertForSequenceClassification",
            "parameters": 66955010,
            "labels": ["NEGATIVE", "POSITIVE"],
            "dtype": "float32",
            "device": "cpu",
            "attention": "sdpa",
            "layers": 6,
        },
        "plan": {
            "batches": 14,
            "tokens": 21494,
            "padding_ratio": 0.0312,
            "token_budget": 2048,
            "batch_size": None,
            "truncated": 0,
            "sha256": "f" * 64,
        },
        "seed": seed,
        "passes": spec.passes,
        "passes_used": None,
        "coverage": None,
        "metrics": None,
        "curve": None,
        "timing": None,
        "cost_ratio": None,
        "latency_ratio": None,
        "memory": None,
        "fit": None,
        "notes": list(spec.notes),
        "predictions": None,
        "environment": {
            "python": "3.11.9",
            "platform": "Linux x86_64",
            "cpu": "An example CPU",
            "cores": 2,
            "threads": 2,
            "gpu": None,
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "calibench": "0.1.0",
            "git_revision": "abc1234",
        },
    }


def add_results(made: Record, spec: Spec, folder: Path, *, seed: int, with_curve: bool, truth: bool) -> None:
    """Fill in what an "ok" record holds, and store the predictions it names."""
    probs, labels, posterior = simulate(spec, made["data"]["n"], seed)
    made["metrics"] = metrics(probs, labels, posterior if truth else None)
    made["passes_used"] = {"mean": float(spec.passes), "min": spec.passes, "max": spec.passes}
    made["coverage"] = coverage(spec.sites) if spec.sites else None
    at = fewer_passes(probs, spec, seed) if with_curve else {}
    made["curve"] = curve(spec, at, labels) if at else None
    made["timing"] = timing(spec)
    made["cost_ratio"] = estimate(spec.cost, 0.03 * spec.cost if spec.name != "frequentist" else 0.0)
    made["latency_ratio"] = estimate(0.94 * spec.cost, 0.05 * spec.cost)
    made["memory"] = {"peak_bytes": int(spec.cost * 2e7), "kind": "rss", "reason": None}
    relative = f"predictions/{made['cell']}.parquet"
    columns: dict[str, Any] = {
        "index": np.arange(len(labels)),
        "text_sha256": [text_sha256(sentence(i)) for i in range(len(labels))],
        "label": labels,
        "p_0": probs[:, 0],
        "p_1": probs[:, 1],
        "passes": np.full(len(labels), spec.passes),
        "score_entropy": -np.sum(probs * np.log(probs), axis=1),
    }
    if truth:
        columns |= {"posterior_0": posterior[:, 0], "posterior_1": posterior[:, 1]}
    for k, running in at.items():
        columns |= {f"p{k}_{c}": running[:, c] for c in range(2)}
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / relative)
    made["predictions"] = relative


def build(
    folder: Path,
    methods: tuple[Spec, ...] = (*METHODS, FAILED),
    *,
    suite: str = "sst2",
    seeds: tuple[int, ...] = (0,),
    model: str = "sst2-minilm",
    n: int = 872,
    with_curve: bool = False,
    truth: bool = False,
) -> list[Record]:
    """Write a run folder and return its records."""
    records = []
    for seed in seeds:
        for spec in methods:
            cell = hashlib.sha256(f"{suite}{model}{spec}{seed}".encode()).hexdigest()[:12]
            made = record(spec, cell, suite=suite, seed=seed, model=model, n=n)
            if not spec.error:
                add_results(made, spec, folder, seed=seed, with_curve=with_curve, truth=truth)
            records.append(made)
    write_records(folder, records)
    return records
