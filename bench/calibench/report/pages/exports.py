"""A run folder -> tables for other programs, and evaluation metadata for a model card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from calibench.errors import UsageError
from calibench.registry import require
from calibench.report.parts.against import against
from calibench.report.sections import Entry, Section, is_copy, sections
from calibench.report.stored import records_of
from calibench.store.files import write_whole
from calibench.store.records import Record, dig, records_file

CSV = "report.csv"
JSON = "report.json"
MODEL_CARD = "model-card.md"
#: What tells a cell from the others, by column name.
_IDENTITY: dict[str, tuple[str, ...]] = {
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
#: Metric types as the Hugging Face hub knows them; others go by their own names.
_TYPES = {"brier": "brier_score"}
#: What a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(folder: Path) -> Path:
    """Write `report.csv`: one row per cell and metric, costs among them; a failed cell has one row.

    Columns: the cell's label and what identifies it, metric, value, low, high, reason, the difference from
    the reference with its verdict where predictions are stored, error. Numbers are written so that they read
    back exactly; what could not be had is empty. Words that begin like a formula have an apostrophe before.
    """
    columns = ["label", *_IDENTITY, "metric", *_ESTIMATE, *_DIFFERENCE, "error"]
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
            **{name: _plain(dig(entry.record, *path)) for name, path in _IDENTITY.items()},
        }
        if entry.failure is not None:
            writer.writerow(as_text(common | {"error": entry.failure}))
            continue
        for name, estimate in estimates_of(entry.record):
            own = {"metric": name} | {key: estimate.get(key) for key in _ESTIMATE}
            writer.writerow(as_text(common | own | differences.get((entry.record["cell"], name), {})))
    return _write(folder, CSV, buffer.getvalue())


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


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def write_json(folder: Path) -> Path:
    """Write `report.json`: a list with one flat object per cell, to be read as a table.

    Keys are the paths of the record's fields joined by dots, such as `metrics.ece.value`. Lists of numbers
    and objects, such as timing blocks, stay in the records.
    """
    cells = [{"label": entry.label, **dict(_flat(entry.record))} for entry in _entries(folder)]
    return _write(folder, JSON, json.dumps(cells, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _flat(value: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{path}{key}.")
        elif not isinstance(item, list) or all(isinstance(part, str) for part in item):
            yield f"{path}{key}", item


def write_model_card(folder: Path) -> Path:
    """Write `model-card.md`: the Hugging Face model index with every method's metrics, as a metadata block.

    Methods that add a score to the plain softmax have the metrics of that score alone.

    Paste it into the model's README.md. Valid by `huggingface_hub.ModelCard` and its
    `model_index_to_eval_results`. The method, its passes and the interval are in each metric's arguments.

    Raises:
        UsageError: the records are of several models, or no cell was measured.
    """
    require("run", "A model card")
    from huggingface_hub import EvalResult, ModelCardData

    found = [section for section in sections(records_of(folder)) if section.measured]
    if any(section.from_files for section in found):
        raise UsageError(
            "A model card is about one model, and these predictions were scored from a file that names none; "
            "write csv or json."
        )
    names = list(dict.fromkeys(str(section.common("model").get("name")) for section in found))
    if len(names) != 1:
        raise UsageError(
            f"A model card is about one model, and these records hold results of {len(names)}"
            f"{': ' + ', '.join(names) if names else ''}; export a run folder with one."
        )
    results = [
        EvalResult(**_dataset(section), **metric)
        for section in found
        for entry in section.measured
        for metric in _card_metrics(entry)
    ]
    card = ModelCardData(model_name=names[0], eval_results=results)
    return _write(folder, MODEL_CARD, f"---\n{card.to_yaml()}\n---\n")


def _dataset(section: Section) -> dict[str, Any]:
    data = section.common("data")
    args = {key: data[key] for key in ("n", "sha256", "limit") if data.get(key) is not None}
    return {
        "task_type": "text-classification",
        "task_name": "Text Classification",
        "dataset_type": str(data.get("name")),
        "dataset_name": str(data.get("name")),
        "dataset_config": data.get("config"),
        "dataset_split": data.get("split"),
        "dataset_revision": data.get("revision"),
        "dataset_args": args,
    }


def _card_metrics(entry: Entry) -> Iterator[dict[str, Any]]:
    record = entry.record
    common = {"method": entry.label, "passes": record.get("passes"), "seed": record.get("seed")}
    for name, estimate in (record.get("metrics") or {}).items():
        # Of a method that adds a score alone only rankings are its own, and those name their score.
        copied = is_copy(record) and (estimate.get("definition") or {}).get("score") != entry.score
        if estimate.get("value") is None or copied:
            continue
        args: dict[str, Any] = common | {"definition": estimate.get("definition") or None}
        if estimate.get("low") is not None and estimate.get("high") is not None:
            args["interval_95"] = [estimate["low"], estimate["high"]]
        yield {
            "metric_type": _TYPES.get(name, name),
            "metric_value": estimate["value"],
            "metric_name": f"{name} ({entry.label})",
            "metric_args": args,
        }


def _entries(folder: Path) -> Sequence[Entry]:
    return [entry for section in sections(records_of(folder)) for entry in section.entries]


def _write(folder: Path, name: str, text: str) -> Path:
    path = records_file(folder).parent / name
    write_whole(path, text.encode())
    return path
