"""Pairs of run folders that differ in what a test says, on top of `report_example`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import report_example as example
from calibench.store.records import Record, load_records, write_records
from report_example import Spec

REFERENCE = Spec("frequentist", 1.5, 1.0, passes=1)
METHOD = Spec("mc-dropout", 1.1, 19.9)


def run(
    folder: Path,
    *methods: Spec,
    n: int = 872,
    seeds: tuple[int, ...] = (0,),
    slower: float = 1.0,
    jitter: float = 0.01,
    blocks: int = 12,
    change: Callable[[Record], object] | None = None,
) -> Path:
    """A run folder of these methods.

    Args:
        slower: factor on the time of every block and request.
        jitter: relative standard deviation of both.
        change: what to do to each record.
    """
    example.build(folder, methods or (REFERENCE, METHOD), n=n, seeds=seeds)
    records = load_records(folder)
    rng = np.random.default_rng(blocks + round(1000 * slower))
    for record in records:
        record["environment"]["fingerprint"] = "one machine"
        if record["status"] == "ok":
            times = slower * rng.normal(1.0, jitter, 200)
            record["timing"]["blocks"] = [
                {"repetition": 0, "block": at, "sentences": 72, "tokens": 1800, "end_to_end_s": times[at]}
                for at in range(blocks)
            ]
            record["timing"]["latency_ms"]["samples"] = list(times[:100])
        if change is not None:
            change(record)
    write_records(folder, records)
    return folder


Change = Callable[[Record], object]


def put(path: str, value: Any) -> Change:
    """A change that sets one field."""
    *parents, name = path.split(".")

    def change(record: Record) -> None:
        block: Any = record
        for parent in parents:
            block = block[parent]
        block[name] = value

    return change
