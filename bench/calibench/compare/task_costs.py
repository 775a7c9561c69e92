"""What the ranked methods cost over tasks: geometric means of ratios that were timed side by side.

Seconds of two machines are not compared, nor of two runs: a cost is a ratio to the reference that ran in the
same blocks, on one machine by its fingerprint, and only such ratios are averaged over tasks.

K is the number of tasks, M of methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibench.compare.ranks import few
from calibench.compare.tasks import Cell, Field, row_of
from calibench.stats.friedman import mean_log_interval
from calibench.store.records import dig, is_scored
from calibench.types import FloatArray, Interval

UNTIMED = "nothing was timed"
MIXED = "times in some tasks and prices in others"
ELSEWHERE = "not timed beside the reference"


def log_costs(field: Field) -> FloatArray | str:
    """Logarithms of cost over the reference's, float64 [K, M], NaN where there is none; or why."""
    kinds = {kind for task in field.tasks for one in task.replicates for kind in _kinds(field, one.cells)}
    if not kinds:
        return UNTIMED
    if len(kinds) > 1:
        return MIXED
    rows = [
        np.mean(
            [[_log_cost(one.cells, field.rows[0], row) for row in field.rows] for one in task.replicates], 0
        )
        for task in field.tasks
    ]
    return np.array(rows)


def _kinds(field: Field, cells: Mapping[str, Cell]) -> set[bool]:
    """Whether the costs are prices, of the cells that have some."""
    records = [cells[row].record for row in field.rows]
    return {is_scored(record) for record in records if dig(record, "cost_ratio", "value")}


def _log_cost(cells: Mapping[str, Cell], reference: str, row: str) -> float:
    if row == reference:
        return 0.0
    cell, base = cells[row], cells[reference]
    if cell.reference is None or _machine(cell) != dig(cell.reference, "environment", "fingerprint"):
        return np.nan
    own = dig(cell.record, "cost_ratio", "value")
    if not own:
        return np.nan
    if row_of(cell.reference) == reference:
        return float(np.log(own))
    theirs = dig(base.record, "cost_ratio", "value")
    if base.reference is not cell.reference or _machine(base) != _machine(cell) or not theirs:
        return np.nan
    return float(np.log(own / theirs))


def _machine(cell: Cell) -> object:
    return dig(cell.record, "environment", "fingerprint")


def geometric_means(logs: FloatArray | str, rows: Sequence[int]) -> list[Interval]:
    """Geometric mean over the tasks of the cost of each of these methods; absent, with the reason, where a
    task lacks it."""
    if isinstance(logs, str):
        return [Interval(None, None, None, logs) for _ in rows]
    return [geometric_mean(logs[:, row]) for row in rows]


def geometric_mean(logs: FloatArray) -> Interval:
    """Of logarithms, float64 [K], with Student's interval over the tasks."""
    missing = int(np.isnan(logs).sum())
    if missing or not len(logs):
        return Interval(
            None, None, None, f"{ELSEWHERE} in {missing} of {len(logs)} tasks" if missing else "-"
        )
    value = float(np.exp(logs.mean()))
    ends = mean_log_interval(logs)
    if ends is None:
        return Interval(value, None, None, few(len(logs), "an interval"))
    return Interval(value, *ends)
