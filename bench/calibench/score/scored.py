"""Predictions that came in files or arrays -> records: what a run writes, without a model and times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import calibench
from calibench.errors import UsageError, WriteError
from calibench.hashing import text_sha256
from calibench.measure import environment
from calibench.measure.progress import Progress
from calibench.metrics.select import select_metrics
from calibench.posthoc.conformal import Recipe
from calibench.readers.arrays import ARRAYS
from calibench.readers.scored import Scored
from calibench.registry import POSTHOC, distribution
from calibench.score.groups import group_fields
from calibench.score.quality import below_guessing, metric_values
from calibench.score.scored_fits import set_identity, sets_of, with_step
from calibench.score.steps import read_later
from calibench.stats.mapped import IN_MEMORY, is_mapped
from calibench.store import records
from calibench.store.predictions import Examples, write_examples
from calibench.store.records import Record
from calibench.types import Evaluation, Interval, Metric, Predictive

#: What is most likely wrong where fewer answers are right than by guessing.
_SWAPPED = "labels may be swapped, or columns be in another order than --classes says"
#: What records of files have in place of a suite's name, unless told otherwise.
SUITE = "scored"


@dataclass(frozen=True)
class Wanted:
    """What is to be said of every file.

    Attributes:
        suite: what the table is called.
        reference: the method that others are compared with; None for the folder's, or else the first.
        posthoc: post-hoc steps; every file has a row without and one with each of them.
        recipes: prediction sets of every row.
        metrics: names of those to compute; all by default.
        seed: of folds, sets and resampling.
        prices: by method, what an answer of it costs; the reference among them where it is no table's.
    """

    suite: str = SUITE
    reference: str | None = None
    posthoc: tuple[str, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    metrics: tuple[str, ...] = ()
    seed: int = 0
    prices: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table: a file, with a post-hoc step or without, and the key of its cell."""

    table: Scored
    step: str | None
    key: str


def rows_of(tables: Sequence[Scored], wanted: Wanted) -> list[Row]:
    """Every row there is to be, each file before its rows with post-hoc steps."""
    data = tables[0].data_sha256()
    return [
        Row(table, step, _key(table, step, data, wanted))
        for table in tables
        for step in (None, *wanted.posthoc)
    ]


def _key(table: Scored, step: str | None, data: str, wanted: Wanted) -> str:
    """Twelve hex digits that change when the record would."""
    content = {
        "method": table.name,
        "predictions": table.sha256(),
        "data": data,
        "suite": wanted.suite,
        "seed": wanted.seed,
        "posthoc": step,
        "reference": wanted.reference,
        "price": [price_of(table, wanted), wanted.prices.get(str(wanted.reference))],
        "said": dict(table.said),
        "notes": table.notes,
        "calibench": calibench.__version__,
        "step": None if step is None else distribution(POSTHOC.entry_point(step)),
        **({"metrics": wanted.metrics} if wanted.metrics else {}),
        **({"calibration": table.calibration.sha256()} if table.calibration else {}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def refuse_mapped(tables: Sequence[Scored], wanted: Wanted) -> None:
    """Refuse what takes all probabilities into memory where they are too many for that.

    Raises:
        UsageError: naming the option, the file, and the rows up to which it can be.
    """
    option = "--posthoc" if wanted.posthoc else "--conformal" if wanted.recipes else None
    parts = [
        (table.file, part) for table in tables for part in (table, table.calibration) if part is not None
    ]
    file, large = next(((file, part) for file, part in parts if is_mapped(part.probs)), (None, None))
    if large is not None and option is not None:
        rows, width = large.probs.shape
        raise UsageError(
            f"{option} holds all probabilities in memory, up to {IN_MEMORY // width:,} rows of {width} "
            f"classes, and {file!r} has {rows:,}: score a random sample of its rows, or leave {option} out."
        )


def metrics_of(table: Scored, wanted: Wanted) -> list[Metric]:
    """The metrics that are computed.

    Raises:
        UsageError: one that there is not, or that needs classes where there are none.
    """
    return select_metrics(wanted.metrics, posterior_known=False, classes_known=not table.by_confidence)


def lacks_sets(record: Record, table: Scored, wanted: Wanted) -> bool:
    """Whether a record was made without sets that are asked for."""
    identities = [set_identity(recipe, table) for recipe in wanted.recipes]
    found = record.get("conformal") or []
    return not all(any(item.items() <= entry.items() for entry in found) for item in identities)


def score_rows(
    rows: Sequence[Row], tables: Sequence[Scored], wanted: Wanted, folder: Path, progress: Progress
) -> list[Record]:
    """The records of rows, failed ones included; stores their predictions in the run folder.

    Args:
        tables: all that are asked for.
    """
    captured = environment.capture_reading()
    base = {table.name: price_of(table, wanted) for table in tables} | dict(wanted.prices)
    data = tables[0].data_sha256()
    found = []
    for row in rows:
        fields, failure = {}, None
        label = row.table.name if row.step is None else f"{row.table.name} + {row.step}"
        progress.stage(f"Scoring {label}", len(metrics_of(row.table, wanted)) + 1)
        try:
            fields = _fields(row, wanted, folder, progress)
        except WriteError:
            raise
        except Exception as error:  # a post-hoc step may come from a plugin and break in any way
            failure = {"type": type(error).__name__, "message": str(error) or type(error).__name__}
        shared = _shared_fields(row, wanted, data, captured)
        shared["status"] = "ok" if failure is None else "error"
        shared["error"] = failure
        shared["cost_ratio"] = _price_ratio(
            price_of(row.table, wanted), base.get(str(wanted.reference)), reason_of(row.table)
        ).as_dict()
        found.append(shared | fields)
        progress.step("stored")
    return found


def _shared_fields(row: Row, wanted: Wanted, data: str, captured: dict[str, Any]) -> Record:
    table = row.table
    return {
        "schema": records.SCHEMA,
        "status": None,
        "error": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "calibench": calibench.__version__,
        "cell": row.key,
        "suite": wanted.suite,
        "reference": table.name == wanted.reference and row.step is None,
        "method": {
            "name": table.name,
            "params": {},
            "folders": [],
            "members": [],
            "posthoc": row.step,
            "score": None,
            "score_only": False,
            "distribution": f"calibench {calibench.__version__}",
        },
        "data": {
            "name": "rows",
            "config": None,
            "split": None,
            "revision": None,
            "source": "file",
            "sha256": data,
            "n": len(table),
            "out_of_scope": 0,
            "labels": list(table.classes.names),
            "limit": None,
            "unlabelled": table.left_out,
            "reading": {},
            "label_map": {},
        },
        "model": None,
        "plan": None,
        "seed": wanted.seed,
        "environment": captured,
        "notes": list(table.notes),
        "scored": {
            "reason": reason_of(table),
            "file": table.file,
            "sha256": table.sha256(),
            "options": dict(table.said),
            "metrics": list(wanted.metrics) or None,
            "price_per_row": price_of(table, wanted),
        },
    }


def reason_of(table: Scored) -> str:
    """Why there are no times."""
    return f"scored from {'arrays' if table.said.get('from') == ARRAYS else 'a file'}"


def _fields(row: Row, wanted: Wanted, folder: Path, progress: Progress) -> Record:
    table = row.table
    probs, fitted = table.probs, None
    notes = list(table.notes)
    if row.step is not None:
        probs, fitted, note = with_step(row.step, table, wanted.seed)
        notes.append(note)
    evaluation = Evaluation(probs, table.labels)
    known = not table.by_confidence
    metrics = metrics_of(table, wanted)
    if fitted is not None:
        evaluation = replace(
            evaluation, optimism=fitted.optimism(table.probs, evaluation, read_later(metrics))
        )
    values = metric_values(metrics, evaluation, wanted.seed, progress.step)
    if not (known or wanted.metrics):
        values |= _absent(metrics)
    warning = below_guessing(evaluation, table.classes.names, _SWAPPED) if known else None
    sets = [sets_of(recipe, table, probs, row.step, wanted.seed) for recipe in wanted.recipes]
    passes = np.ones(len(table), dtype=np.int64)
    stored = write_examples(
        folder,
        row.key,
        Examples(table.rows, _hashes(table), table.labels),
        Predictive(probs, passes),
        sets={item.column: item.sets for item in sets if item.sets is not None},
    )
    return {
        "passes": None,
        "passes_used": None,
        "coverage": None,
        "metrics": values,
        "curve": None,
        "timing": None,
        "latency_ratio": Interval(None, None, None, reason_of(table)).as_dict(),
        "self_check": None,
        "memory": {"peak_bytes": None, "kind": None, "reason": reason_of(table), "fit_bytes": None},
        "fit": None if fitted is None else fitted.fields | {"optimism": dict(evaluation.optimism)},
        "notes": notes,
        "warnings": [] if warning is None else [warning],
        "conformal": [item.fields for item in sets],
        "joint": None,
        "shifts": [],
        "asides": [],
        "groups": _groups(table, evaluation, wanted),
        **stored,
    }


def _groups(table: Scored, evaluation: Evaluation, wanted: Wanted) -> dict[str, Any] | None:
    """The subgroups, or None where there are none."""
    if table.group is None:
        return None
    codes, names = table.groups()
    return group_fields(evaluation, codes, names, str(table.said.get("group")), wanted.seed)


def _absent(there: Sequence[Metric]) -> dict[str, dict[str, Any]]:
    """What cannot be computed without classes, and why."""
    names = {metric.name for metric in there}
    lacking = [metric for metric in select_metrics((), posterior_known=False) if metric.name not in names]
    missing = Interval(None, None, None, "needs the probability of every class").as_dict()
    return {metric.name: missing | {"definition": dict(metric.definition)} for metric in lacking}


def _hashes(table: Scored) -> Sequence[str] | None:
    if table.ids is None:
        return None
    return [text_sha256(text) for text in table.ids.to_pylist()]


def price_of(table: Scored, wanted: Wanted) -> float | None:
    """What an answer costs on average, or None where nobody says."""
    if table.price is not None:
        return float(table.price.mean())
    return wanted.prices.get(table.name)


def _price_ratio(own: float | None, base: float | None, unpriced: str) -> Interval:
    """Prices are known and not measured, so that their ratio has no interval."""
    if own is None or base is None:
        return Interval(None, None, None, unpriced)
    if base == 0.0:
        return Interval(None, None, None, "the reference costs nothing")
    return Interval(own / base, None, None, "a ratio of prices per row, which are not measured")
