"""Predictions that came in files -> records: what a run writes, without a model and without times."""

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
from calibench.errors import CalibenchError, UsageError, WriteError
from calibench.hashing import text_sha256
from calibench.measure import environment
from calibench.measure.progress import Progress
from calibench.metrics.select import select_metrics
from calibench.posthoc import FOLDS
from calibench.posthoc.conformal import Recipe
from calibench.readers.scored import Scored
from calibench.registry import POSTHOC, distribution
from calibench.score.groups import group_fields
from calibench.score.made_sets import Labelled, Sets, fitted_across, guarantee, identity_of, made
from calibench.score.quality import below_guessing, metric_values
from calibench.score.steps import FittedStep, across, cross_fitted, note_of, read_later
from calibench.stats.mapped import IN_MEMORY, is_mapped
from calibench.store import records
from calibench.store.predictions import Examples, write_examples
from calibench.store.records import Record
from calibench.types import Evaluation, Interval, Metric, Predictive

#: Why there are no times.
REASON = "scored from a file"
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
        seed: of folds, sets and resampling.
        prices: by method, what an answer of it costs; the reference among them where it is no table's.
    """

    suite: str = SUITE
    reference: str | None = None
    posthoc: tuple[str, ...] = ()
    recipes: tuple[Recipe, ...] = ()
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
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def refuse_mapped(tables: Sequence[Scored], wanted: Wanted) -> None:
    """Refuse what takes all probabilities into memory where they are too many for that.

    Raises:
        UsageError: naming the option and the file.
    """
    large = next((table for table in tables if is_mapped(table.probs)), None)
    asked = {"--posthoc": wanted.posthoc, "--conformal": wanted.recipes, "--group": large and large.group}
    option = next((name for name, value in asked.items() if value), None)
    if large is not None and option is not None:
        raise UsageError(
            f"{option} holds all probabilities in memory, and {large.file!r} has {large.probs.size:,}; "
            f"expected {IN_MEMORY:,} at most: score a random sample of its rows, or leave {option} out."
        )


def lacks_sets(record: Record, wanted: Wanted) -> bool:
    """Whether a record was made without sets that are asked for."""
    identities = [identity_of(recipe, folds=FOLDS, sha256=None) for recipe in wanted.recipes]
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
    progress.stage("Scoring", len(rows))
    for row in rows:
        fields, failure = {}, None
        try:
            fields = _fields(row, wanted, folder)
        except WriteError:
            raise
        except Exception as error:  # a post-hoc step may come from a plugin and break in any way
            failure = {"type": type(error).__name__, "message": str(error) or type(error).__name__}
        shared = _shared_fields(row, wanted, data, captured)
        shared["status"] = "ok" if failure is None else "error"
        shared["error"] = failure
        shared["cost_ratio"] = _price_ratio(
            price_of(row.table, wanted), base.get(str(wanted.reference))
        ).as_dict()
        found.append(shared | fields)
        progress.step(row.table.name)
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
            "reason": REASON,
            "file": table.file,
            "sha256": table.sha256(),
            "options": dict(table.said),
            "price_per_row": price_of(table, wanted),
        },
    }


def _fields(row: Row, wanted: Wanted, folder: Path) -> Record:
    table = row.table
    probs, fitted = table.probs, None
    notes = list(table.notes)
    if row.step is not None:
        probs, fitted = cross_fitted(
            row.step, table.probs, table.labels, split=None, folds=FOLDS, seed=wanted.seed
        )
        notes.append(note_of(row.step, across(fitted.fields, "these rows"), fitted.fields["parameters"]))
    evaluation = Evaluation(probs, table.labels)
    known = not table.by_confidence
    metrics = select_metrics((), posterior_known=False, classes_known=known)
    if fitted is not None:
        evaluation = replace(
            evaluation, optimism=fitted.optimism(table.probs, evaluation, read_later(metrics))
        )
    values = metric_values(metrics, evaluation, wanted.seed) | ({} if known else _absent(metrics))
    warning = below_guessing(evaluation, table.classes.names, _SWAPPED) if known else None
    sets = _sets(replace(table, probs=probs), fitted, wanted)
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
        "latency_ratio": Interval(None, None, None, REASON).as_dict(),
        "self_check": None,
        "memory": {"peak_bytes": None, "kind": None, "reason": REASON, "fit_bytes": None},
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


def _sets(table: Scored, fitted: FittedStep | None, wanted: Wanted) -> list[Sets]:
    examples = Labelled(table.probs, table.labels, table.rows, table.classes.names, None)
    return [_made(recipe, examples, fitted is not None, wanted.seed) for recipe in wanted.recipes]


def _made(recipe: Recipe, examples: Labelled, stepped: bool, seed: int) -> Sets:
    column = f"set_{recipe.kind}"
    identity = identity_of(recipe, folds=FOLDS, sha256=None) | {"column": column}
    try:
        fitted, fit_s = fitted_across(recipe, examples, folds=FOLDS, seed=seed)
    except CalibenchError as error:
        return Sets(recipe, column, None, None, identity | {"reason": str(error)})
    sets, values = made(fitted, examples, seed=seed, draws=seed)
    fields = identity | {
        "reason": None,
        "guarantee": guarantee(fitted, stepped=stepped),
        "examples": fitted.examples,
        "split": None,
        "unseen": None,
        **values,
        "fit_s": fit_s,
    }
    return Sets(recipe, column, sets, fitted, fields)


def price_of(table: Scored, wanted: Wanted) -> float | None:
    """What an answer costs on average, or None where nobody says."""
    if table.price is not None:
        return float(table.price.mean())
    return wanted.prices.get(table.name)


def _price_ratio(own: float | None, base: float | None) -> Interval:
    """Prices are known and not measured, so that their ratio has no interval."""
    if own is None or base is None:
        return Interval(None, None, None, REASON)
    if base == 0.0:
        return Interval(None, None, None, "the reference costs nothing")
    return Interval(own / base, None, None, "a ratio of prices per row, which are not measured")
