"""A run folder -> tables for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from calibench.report.parts.against import against
from calibench.report.sections import Entry, Section, sections
from calibench.report.stored import records_of
from calibench.store.records import Record, dig, records_file

#: What tells a cell from the others, by column name.
IDENTITY: dict[str, tuple[str, ...]] = {
    "suite": ("suite",),
    "cell": ("cell",),
    "status": ("status",),
    "method": ("method", "name"),
    "params": ("method", "params"),
    "posthoc": ("method", "posthoc"),
    "score": ("method", "score"),
    "score_only": ("method", "score_only"),
    "passes": ("passes",),
    "reference": ("reference",),
    "seed": ("seed",),
    "dataset": ("data", "name"),
    "config": ("data", "config"),
    "split": ("data", "split"),
    "dataset_revision": ("data", "revision"),
    "examples": ("data", "n"),
    "model": ("model", "name"),
    "model_revision": ("model", "revision"),
    "dtype": ("model", "dtype"),
    "device": ("model", "device"),
}
_ESTIMATE = ("value", "low", "high", "reason")
#: The paired difference from the reference, with its own interval and with that of the verdict.
_DIFFERENCE = (
    "difference",
    "difference_low",
    "difference_high",
    "adjusted_low",
    "adjusted_high",
    "p_holm",
    "verdict",
)
#: Estimates that are no metrics, by the name of their row.
_COSTS: dict[str, tuple[str, ...]] = {
    "cost_ratio": ("cost_ratio",),
    "latency_ratio": ("latency_ratio",),
    "sentences_per_s": ("timing", "throughput", "sentences_per_s"),
    "latency_p50_ms": ("timing", "latency_ms", "p50"),
    "latency_p95_ms": ("timing", "latency_ms", "p95"),
}
#: What a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(folder: Path) -> str:
    """`report.csv`: one row per cell and metric, costs among them; a failed cell has one row.

    Columns: the cell's label and what identifies it, metric, value, low, high, reason, the difference from
    the reference with its verdict where predictions are stored, error. Numbers are written so that they read
    back exactly; what could not be had is empty. Words that begin like a formula have an apostrophe before.
    """
    columns = ["label", *IDENTITY, "metric", *_ESTIMATE, *_DIFFERENCE, "error"]
    target = records_file(folder).parent
    differences = {
        key: found
        for section in sections(records_of(folder))
        for key, found in _differences(section.distinct(), target)
    }
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for entry in _entries(folder):
        common = {
            "label": entry.label,
            **{name: plain(dig(entry.record, *path)) for name, path in IDENTITY.items()},
        }
        if entry.failure is not None:
            writer.writerow(as_text(common | {"error": entry.failure}))
            continue
        for name, estimate in estimates_of(entry.record):
            own = {"metric": name} | {key: estimate.get(key) for key in _ESTIMATE}
            writer.writerow(as_text(common | own | differences.get((entry.record["cell"], name), {})))
    return buffer.getvalue()


def _differences(section: Section, folder: Path) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """What `_DIFFERENCE` holds, by cell and metric."""
    found = against(section, folder)
    if found is None:
        return
    for entry, contrast in zip(found.entries, found.contrasts, strict=True):
        difference, tested = contrast.difference, contrast.tested
        values: list[Any] = [difference.value, difference.low, difference.high, None, None, None, None]
        if tested is not None:
            values[3:] = [tested.adjusted.low, tested.adjusted.high, tested.adjusted_p, tested.verdict]
        yield (entry.record["cell"], contrast.metric.name), dict(zip(_DIFFERENCE, values, strict=True))


def estimates_of(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every estimate of a finished record by name: metrics, prediction sets and costs."""
    yield from (record.get("metrics") or {}).items()
    for sets in record.get("conformal") or []:
        if sets["reason"] is None:
            yield f"{sets['column']}_coverage", sets["coverage"]
            yield f"{sets['column']}_mean_size", sets["mean_size"]
    for name, path in _COSTS.items():
        estimate = dig(record, *path)
        if estimate is not None:
            yield name, estimate


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose words a spreadsheet takes for words, by the apostrophe it knows for that; numbers stay."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in row.items()
    }


def plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def json_text(folder: Path) -> str:
    """`report.json`: a list with one flat object per cell, to be read as a table.

    Keys are the paths of the record's fields joined by dots, such as `metrics.ece.value`. Lists of numbers
    and objects, such as timing blocks, stay in the records.
    """
    cells = [{"label": entry.label, **dict(_flat(entry.record))} for entry in _entries(folder)]
    return json.dumps(cells, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _flat(value: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{path}{key}.")
        elif not isinstance(item, list) or all(isinstance(part, str) for part in item):
            yield f"{path}{key}", item


def _entries(folder: Path) -> Sequence[Entry]:
    return [entry for section in sections(records_of(folder)) for entry in section.entries]
