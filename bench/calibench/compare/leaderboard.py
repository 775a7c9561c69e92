"""Methods over tasks: ranks, verdicts, costs, the front, and where the winner changes.

Tasks are what is sampled here, and few of them show little: everything across tasks needs `FEWEST_TASKS`, and
what is not shown is said to be not shown. K is the number of tasks, M of methods, the reference first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibench.compare.front import on_front
from calibench.compare.ranks import Apart, Redrawn, apart, mean_rank_intervals, redrawn
from calibench.compare.task_costs import geometric_mean, geometric_means, log_costs
from calibench.compare.task_scores import Scored, scored
from calibench.compare.tasks import Field, Task, read_field
from calibench.compare.verdicts import Verdict
from calibench.errors import UsageError
from calibench.metrics.scoring import ACCURACY, NLL
from calibench.metrics.select import select_metrics
from calibench.stats.friedman import FEWEST_TASKS, ranks_of
from calibench.store.records import dig
from calibench.types import FloatArray, Interval, Metric

#: Ranked by unless told otherwise, the first one foremost.
RANKED = ("nll", "ece_debiased", "brier", "accuracy")
#: The same where there are no classes.
RANKED_CONFIDENCES = ("brier_confidence", "ece_debiased", "accuracy")
#: Resamples of tasks and examples: the end of a 95% interval is known to a twentieth of its half width.
RESAMPLES = 1000
#: Metrics that records hold of shifted data, of which no predictions are stored.
SHIFTED = ("nll", "brier", "ece", "accuracy")


@dataclass(frozen=True, eq=False)
class Standing:
    """The methods in one metric.

    Attributes:
        values: float64 [K, M], means over the replicates of a task.
        ranks: float64 [K, M], 1 is best.
        mean_ranks: of each method, with its interval.
        apart: what the ranks tell apart, or why nothing.
        verdicts: for each task by method, against the reference; None for a metric without verdicts.
        order: the methods by mean rank, best first.
    """

    metric: Metric
    values: FloatArray
    ranks: FloatArray
    mean_ranks: tuple[Interval, ...]
    apart: Apart | str
    verdicts: tuple[Mapping[int, Verdict], ...] | None
    redrawn: Redrawn | None

    @property
    def order(self) -> list[int]:
        found: list[int] = np.argsort(self.ranks.mean(axis=0), kind="stable").tolist()
        return found

    def count(self, method: int, verdict: str) -> int | None:
        """In how many tasks a method has this verdict; None for a metric without verdicts."""
        if self.verdicts is None:
            return None
        return sum(found.get(method) == verdict for found in self.verdicts)


@dataclass(frozen=True, eq=False)
class Matched:
    """What a method takes where it is shown no worse than the best in NLL.

    Attributes:
        tasks: in how many it is.
        cost: over that of the best, the geometric mean over these tasks.
    """

    tasks: int
    cost: Interval


@dataclass(frozen=True, eq=False)
class Winner:
    """Which method comes out best on a task.

    Attributes:
        n: examples in scope.
        accuracy: of the reference.
        best: the methods with the best value, more than one where they tie.
        alike: the methods that it is not shown better than; None for a metric without verdicts.
    """

    task: Task
    n: int
    accuracy: float
    best: tuple[int, ...]
    alike: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Shifted:
    """Which method comes out best on a shifted task, by the records alone."""

    task: str
    kind: str
    strength: float | None
    best: tuple[int, ...]
    changed: bool


@dataclass(frozen=True, eq=False)
class Board:
    """A leaderboard.

    Attributes:
        standings: by metric, the first one foremost.
        costs: of each method over the reference's, over tasks.
        target: the method with the best mean rank in NLL, which costs are matched to; None without NLL.
        matched: of each method; empty without a target.
        front: probability of being on the front of mean rank, in the first metric, against cost; NaN where
            the cost is not known; None where nothing is, or of too few tasks.
        winners, shifts: in the first metric.
        shift_metric: what the shifts go by.
        left_out: what is not ranked, a sentence each.
    """

    field: Field
    standings: tuple[Standing, ...]
    costs: tuple[Interval, ...]
    target: int | None
    matched: tuple[Matched, ...]
    front: FloatArray | None
    winners: tuple[Winner, ...]
    shifts: tuple[Shifted, ...]
    shift_metric: str
    left_out: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """What the methods are called, the reference first."""
        return [self.field.labels[row] for row in self.field.rows]

    @property
    def costed(self) -> bool:
        """Whether any cost is known."""
        return any(cost.value is not None for cost in self.costs)


def leaderboard(
    paths: Iterable[Path],
    metrics: Sequence[str] = (),
    *,
    reference: str | None = None,
    min_tasks: int | None = None,
    seed: int = 0,
) -> Board:
    """Rank the methods of the run folders under `paths` over their tasks.

    Args:
        metrics: names; none for `RANKED`, of which those that are not in every task are left out.
        reference, min_tasks: as of `read_field`.

    Raises:
        UsageError: nothing there that can be ranked, references that differ, or a metric that is not in every
            task.
    """
    field = read_field(paths, reference=reference, min_tasks=min_tasks)
    tasks = scored(field)
    chosen = _metrics(tasks, metrics)
    values = {metric.name: np.array([task.values(metric) for task in tasks]) for metric in chosen}
    undefined = [metric for metric in chosen if not np.isfinite(values[metric.name]).all()]
    notes = [*field.left_out, *(_undefined(metric, tasks, values[metric.name]) for metric in undefined)]
    chosen = [metric for metric in chosen if metric not in undefined]
    if not chosen:
        raise UsageError(" ".join(notes[len(field.left_out) :]))
    standings = tuple(_standings(tasks, chosen, values, seed))
    logs = log_costs(field)
    by_nll = next((one for one in standings if one.metric is NLL), None)
    target = None if by_nll is None else by_nll.order[0]
    kind, shifts = _shifts(field, chosen[0])
    return Board(
        field=field,
        standings=standings,
        costs=tuple(geometric_means(logs, range(len(field.rows)))),
        target=target,
        matched=() if target is None else tuple(_matched(tasks, target, logs)),
        front=_front(standings[0], logs),
        winners=tuple(_winner(task, standings[0], at) for at, task in enumerate(tasks)),
        shifts=shifts,
        shift_metric=kind,
        left_out=tuple(notes),
    )


def _metrics(tasks: Sequence[Scored], names: Sequence[str]) -> list[Metric]:
    """The metrics that are in every task."""
    confidences = [task.task.classes == 1 for task in tasks]
    if names:
        lacking = [task.task.name for task in tasks if not task.out_of_scope]
        asked = select_metrics(names, posterior_known=False, out_of_scope=True)
        for metric in asked:
            if metric.needs_out_of_scope and lacking:
                raise UsageError(
                    f"The metric {metric.name!r} needs examples out of scope, which {', '.join(lacking)} "
                    "does not have; leave it out, or those folders."
                )
            if metric.needs_classes and any(confidences):
                raise UsageError(
                    f"The metric {metric.name!r} needs the probability of every class, which "
                    f"{tasks[confidences.index(True)].task.name} has not; leave it out, or those folders."
                )
        return asked
    usual = RANKED_CONFIDENCES if any(confidences) else RANKED
    return select_metrics(usual, posterior_known=False)


def _undefined(metric: Metric, tasks: Sequence[Scored], values: FloatArray) -> str:
    names = [task.task.name for task, row in zip(tasks, values, strict=True) if not np.isfinite(row).all()]
    return f"The metric {metric.name} is undefined for some method on {', '.join(names)}, and is left out."


def losses(metric: Metric, values: FloatArray) -> FloatArray:
    """Values of a metric turned so that lower is better."""
    return -values if metric.better == "higher" else np.abs(values) if metric.better == "zero" else values


def _standings(
    tasks: Sequence[Scored], metrics: Sequence[Metric], values: Mapping[str, FloatArray], seed: int
) -> Iterable[Standing]:
    resampled = [metric for metric in metrics if metric.no_interval is None]
    # Tasks are independent: each resamples its own examples.
    drawn = [task.redrawn(resampled, RESAMPLES, seed + at) for at, task in enumerate(tasks)]
    verdicts = [task.verdicts(0) for task in tasks]
    for metric in metrics:
        ranks = ranks_of(losses(metric, values[metric.name]))
        found = None
        if metric in resampled:
            turned = [[losses(metric, one) for one in each[metric.name]] for each in drawn]
            found = redrawn(turned, np.random.default_rng(seed))
        intervals = (
            [Interval(float(rank), None, None, metric.no_interval) for rank in ranks.mean(axis=0)]
            if found is None
            else mean_rank_intervals(ranks, found)
        )
        own = [{at: word for (at, name), word in each.items() if name == metric.name} for each in verdicts]
        yield Standing(
            metric,
            values[metric.name],
            ranks,
            tuple(intervals),
            apart(ranks),
            tuple(own) if all(own) else None,
            found,
        )


def _matched(tasks: Sequence[Scored], target: int, logs: FloatArray | str) -> Iterable[Matched]:
    fine = np.array([task.no_worse(target) for task in tasks])
    for method in range(fine.shape[1]):
        at = np.flatnonzero(fine[:, method])
        if isinstance(logs, str):
            cost = Interval(None, None, None, logs)
        elif not len(at):
            cost = Interval(None, None, None, "shown no worse in no task")
        else:
            cost = geometric_mean(logs[at, method] - logs[at, target])
        yield Matched(len(at), cost)


def _front(standing: Standing, logs: FloatArray | str) -> FloatArray | None:
    """P(on the front) of each method, float64 [M], over tasks and examples drawn again."""
    if isinstance(logs, str) or standing.redrawn is None or len(logs) < FEWEST_TASKS:
        return None
    known = np.flatnonzero(np.isfinite(logs).all(axis=0))
    if len(known) < 2:
        return None
    found = standing.redrawn
    centred = found.mean_ranks - found.mean_ranks.mean(axis=0) + standing.ranks.mean(axis=0)
    cost = np.exp(logs[found.tasks].mean(axis=1))
    shares = np.full(logs.shape[1], np.nan)
    shares[known] = on_front(centred.T[known], cost.T[known])
    return shares


def _winner(task: Scored, standing: Standing, at: int) -> Winner:
    loss = losses(standing.metric, standing.values[at])
    best = np.flatnonzero(loss == loss.min()).tolist()
    told = task.below(best[0], standing.metric)
    alike = tuple(method for method, shown in told.items() if not shown and method not in best)
    inside = task.replicates[0][0].in_scope()
    accuracy = float(task.values(ACCURACY)[0])
    return Winner(task.task, len(inside), accuracy, tuple(best), alike if told else None)


def _shifts(field: Field, metric: Metric) -> tuple[str, tuple[Shifted, ...]]:
    """By the first metric where records have it of shifted data, else by the first that they have."""
    name = metric.name if metric.name in SHIFTED else SHIFTED[0]
    sign = -1.0 if name == "accuracy" else 1.0
    found = []
    for task in field.tasks:
        cells = [[one.cells[row].record for one in task.replicates] for row in field.rows]
        plain = _best([[sign * _value(record.get("metrics"), name) for record in own] for own in cells])
        for shift in cells[0][0].get("shifts") or []:
            here = [
                [sign * _value(_same_shift(record, shift).get("metrics"), name) for record in own]
                for own in cells
            ]
            best = _best(here)
            if best:
                found.append(
                    Shifted(task.name, str(shift["kind"]), shift.get("strength"), best, best != plain)
                )
    return name, tuple(found)


def _same_shift(record: Mapping[str, object], shift: Mapping[str, object]) -> Mapping[str, object]:
    keys = ("kind", "strength", "name", "sha256")
    shifts = record.get("shifts")
    every = shifts if isinstance(shifts, list) else []
    return next((one for one in every if all(one.get(key) == shift.get(key) for key in keys)), {})


def _value(metrics: object, name: str) -> float:
    found = dig({"metrics": metrics}, "metrics", name, "value")
    return float("nan") if found is None else float(found)


def _best(values: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """The methods with the lowest mean over replicates; none where a value is missing."""
    means = np.array([np.mean(own) for own in values])
    if not np.isfinite(means).all():
        return ()
    return tuple(np.flatnonzero(means == means.min()).tolist())
