"""Run folders of many tasks, whose methods are as good as a test says: what the leaderboard's tests read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import report_example as example
from calibench.hashing import text_sha256
from calibench.stats.resampling import draw_labels
from calibench.store.records import Record, load_records, write_records
from report_example import Spec
from simulated import softmax

#: Names of methods, with what their logits are multiplied by: 1 is calibrated.
Methods = Mapping[str, float]
COSTS = {"frequentist": 1.0, "temperature": 1.05, "mc-dropout": 20.0, "laplace-last": 1.4}


def write(
    folder: Path,
    data: str,
    methods: Methods,
    *,
    n: int = 200,
    classes: int = 3,
    model: str = "a",
    seed: int = 0,
    noise: float = 0.3,
    failed: tuple[str, ...] = (),
    stored: bool = True,
    timed: bool = True,
    texts: str | None = None,
) -> Path:
    """One run folder: a checkpoint and a seed on a data set, which the name of the data decides."""
    rng = np.random.default_rng(_number(data))
    logits = 2.0 * rng.normal(size=(n, classes))
    labels = draw_labels(softmax(logits), rng)
    hashes = [text_sha256(f"{texts or data} {row}") for row in range(n)]
    records = []
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for name, tilt in methods.items():
        cost = COSTS.get(name, 2.0)
        spec = Spec(name, 1.0, cost, passes=1, error="it broke" if name in failed else None)
        cell = hashlib.sha256(f"{data}{model}{seed}{name}".encode()).hexdigest()[:12]
        made = example.record(spec, cell, suite="made", seed=seed, model=model, n=n)
        names = [f"class {c}" for c in range(classes)]
        made["data"] |= {"name": data, "sha256": _hash(f"{data} {n} {classes}"), "labels": names}
        made["model"]["sha256"] = _hash(model)
        made["environment"]["fingerprint"] = "one machine"
        if name not in failed:
            own = np.random.default_rng(_number(f"{data}{model}{seed}{name}"))
            said = softmax(tilt * logits + noise * own.normal(size=logits.shape))
            _results(made, spec, said, labels)
            made["cost_ratio"] = example.estimate(cost, 0.01) if timed else None
            if stored:
                made["predictions"] = f"predictions/{cell}.parquet"
                columns: dict[str, Any] = {"index": np.arange(n), "text_sha256": hashes, "label": labels}
                columns |= {f"p_{c}": said[:, c] for c in range(classes)} | {"passes": np.ones(n, int)}
                pq.write_table(pa.table(columns), folder / made["predictions"])
        records.append(made)
    write_records(folder, records)
    return folder


def write_tasks(folder: Path, count: int, methods: Methods, **settings: Any) -> Path:
    """A folder of so many tasks, each a run folder of its own."""
    for number in range(count):
        write(folder / f"task-{number}", f"data-{number}", methods, **settings)
    return folder


def change(folder: Path, edit: Any) -> None:
    """Do something to every record of a run folder."""
    records: list[Record] = load_records(folder)
    for record in records:
        edit(record)
    write_records(folder, records)


def _results(made: Record, spec: Spec, said: Any, labels: Any) -> None:
    accuracy = float(np.mean(said.argmax(1) == labels))
    made["metrics"] = {"accuracy": example.estimate(accuracy, 0.02)}
    made["passes_used"] = {"mean": 1.0, "min": 1, "max": 1}
    made["timing"] = example.timing(spec)


def _number(text: str) -> int:
    return int(_hash(text)[:8], 16)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
