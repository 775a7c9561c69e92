"""Pairs of run folders that differ in what a test says, on top of `report_example`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import report_example as example
from calibench.stats.ratios import ratio_interval
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
    method_slower: float = 1.0,
    jitter: float = 0.01,
    blocks: int = 12,
    draw: int = 0,
    change: Callable[[Record], object] | None = None,
) -> Path:
    """A run folder of these methods.

    Args:
        slower: factor on the time of every block and request of every cell: the machine's state.
        method_slower: the same for all but the reference.
        jitter: standard deviation of the log of both.
        draw: seed of the jitter.
        change: what to do to each record.
    """
    example.build(folder, methods or (REFERENCE, METHOD), n=n, seeds=seeds)
    records = load_records(folder)
    rng = np.random.default_rng([draw, blocks, round(1000 * slower), round(1000 * method_slower)])
    for record in records:
        record["environment"]["fingerprint"] = "one machine"
        if record["status"] == "ok":
            factor = slower * (1.0 if record["reference"] else method_slower)
            times = factor * np.exp(rng.normal(0.0, jitter, blocks + 100))
            record["timing"]["blocks"] = [
                {"repetition": 0, "block": at, "sentences": 72, "tokens": 1800, "end_to_end_s": times[at]}
                for at in range(blocks)
            ]
            record["timing"]["latency_ms"]["samples"] = list(times[blocks:])
    _set_cost_ratios(records)
    for record in records:
        if change is not None:
            change(record)
    write_records(folder, records)
    return folder


def _set_cost_ratios(records: list[Record]) -> None:
    """What the blocks say of each cell that was timed beside a reference."""
    for record in records:
        beside = [other for other in records if other["reference"] and other["seed"] == record["seed"]]
        if record["status"] == "ok" and beside and beside[0]["status"] == "ok":
            pair = [[block["end_to_end_s"] for block in r["timing"]["blocks"]] for r in (record, beside[0])]
            record["cost_ratio"] = ratio_interval(*pair).as_dict()


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
