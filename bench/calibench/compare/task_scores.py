"""What every ranked method says about the examples of a task: values, resampled values, and verdicts.

Values of a task are means over its replicates. A verdict of a task is that of more than half of its
replicates, with none to the contrary; all replicates of a task are one family of tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibench.compare.description import joint_values
from calibench.compare.noninferiority import MARGIN, nll_difference
from calibench.compare.runs import keys_of
from calibench.compare.tasks import Cell, Field, Task
from calibench.compare.verdicts import UNDECIDED, Pair, Verdict, compare_pairs, ranked, verdict_of
from calibench.errors import UsageError
from calibench.stats.intervals import LEVEL
from calibench.store.predictions import load_predictions
from calibench.store.records import optimism_of
from calibench.types import Evaluation, FloatArray, Metric

#: Verdicts do not depend on the resamples, which are for intervals that are not looked at here.
_FEW_RESAMPLES = 20


@dataclass(frozen=True, eq=False)
class Scored:
    """A task with what its methods predict.

    Attributes:
        replicates: for each the methods' evaluations, in the order of the field's rows, about the same
            examples; methods whose predictions are the same share one.
    """

    task: Task
    replicates: tuple[tuple[Evaluation, ...], ...]

    @property
    def out_of_scope(self) -> bool:
        """Whether some examples are."""
        return bool((self.replicates[0][0].labels < 0).any())

    def values(self, metric: Metric) -> FloatArray:
        """The metric of every method, float64 [M]; NaN where it is undefined for a replicate."""
        rows = [[metric.evaluate(metric.of(one)) for one in methods] for methods in self.replicates]
        means: FloatArray = np.mean(rows, axis=0)
        return means

    def redrawn(self, metrics: Sequence[Metric], resamples: int, seed: int) -> dict[str, list[FloatArray]]:
        """By metric, for each replicate every method on the same resamples, float64 [R, M]."""
        found: dict[str, list[FloatArray]] = {metric.name: [] for metric in metrics}
        for methods in self.replicates:
            once = {str(at): one for at, one in enumerate(dict.fromkeys(methods))}
            names = {one: name for name, one in once.items()}
            drawn = joint_values(metrics, once, resamples=resamples, seed=seed)
            for metric in metrics:
                columns = [drawn[names[one], metric.name] for one in methods]
                found[metric.name].append(np.stack(columns, axis=1))
        return found

    def verdicts(self, base: int) -> dict[tuple[int, str], Verdict]:
        """Every method against one of them, by method and name of a metric that has verdicts."""
        pairs = [
            Pair(f"{at}/{method}", methods[base], one)
            for at, methods in enumerate(self.replicates)
            for method, one in enumerate(methods)
            if method != base
        ]
        given: dict[tuple[int, str], list[Verdict]] = {}
        for item in compare_pairs(pairs, resamples=_FEW_RESAMPLES, seed=0):
            given.setdefault((int(item.method.partition("/")[2]), item.metric), []).append(item.verdict)
        return {key: overall(verdicts) for key, verdicts in given.items()}

    def below(self, best: int, metric: Metric) -> dict[int, bool]:
        """Whether the best by its estimate is shown better in a metric than each other method.

        Which one comes out best is a matter of chance too, so that p-values are multiplied by the number of
        all pairs of methods and replicates. Empty for a metric without verdicts.
        """
        count = len(self.replicates[0])
        pairs = [
            Pair(f"{at}/{method}", one, methods[best])
            for at, methods in enumerate(self.replicates)
            for method, one in enumerate(methods)
            if method != best
        ]
        times = len(self.replicates) * count * (count - 1) / 2.0
        given: dict[int, list[Verdict]] = {}
        for item in compare_pairs(pairs, resamples=_FEW_RESAMPLES, seed=0):
            if item.metric == metric.name:
                shown = times * item.p_value <= 1.0 - LEVEL and item.difference.value
                verdict = verdict_of(metric, item.difference.value or 0.0) if shown else UNDECIDED
                given.setdefault(int(item.method.partition("/")[2]), []).append(verdict)
        return {method: overall(verdicts) == "better" for method, verdicts in given.items()}

    def no_worse(self, target: int) -> list[bool]:
        """Whether each method is shown no worse than one of them, by `MARGIN` of NLL, in every replicate."""
        return [
            method == target
            or all(
                one is methods[target]
                or nll_difference(one.in_scope(), methods[target].in_scope()).verdict(MARGIN) == "no worse"
                for methods in self.replicates
                for one in (methods[method],)
            )
            for method in range(len(self.replicates[0]))
        ]


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of replicates: what more than half of them show, where none shows the contrary."""
    shown = set(verdicts) - {UNDECIDED}
    if len(shown) == 1 and sum(verdict != UNDECIDED for verdict in verdicts) > len(verdicts) / 2.0:
        return next(iter(shown))
    return UNDECIDED


def scored(field: Field) -> list[Scored]:
    """The predictions of every ranked method on every task.

    Raises:
        UsageError: two cells of a replicate are about different examples.
    """
    return [
        Scored(task, tuple(_evaluations(task, one.cells, field.rows) for one in task.replicates))
        for task in field.tasks
    ]


def _evaluations(task: Task, cells: Mapping[str, Cell], rows: Sequence[str]) -> tuple[Evaluation, ...]:
    found: list[Evaluation] = []
    first = None
    for row in rows:
        cell = cells[row]
        stored = load_predictions(cell.folder, cell.record)
        order = np.argsort(stored.index, kind="stable")
        keys = keys_of(stored, order)
        if first is not None and keys != first:
            raise UsageError(
                f"The predictions of {cell.record['method']['name']} on {task.name} are about other examples "
                "than those of the first method, though their records name the same data; run it again."
            )
        first = keys
        own = ranked(stored.probs, stored.label, stored.own_score(cell.record), optimism_of(cell.record))
        found.append(_shared(own.take(order), found))
    return tuple(found)


def _shared(own: Evaluation, others: Sequence[Evaluation]) -> Evaluation:
    """The first of the others that says the same, so that rounding does not rank them; else itself."""
    same = (one for one in others if one.optimism == own.optimism and Pair("", one, own).same_ranks)
    return next(same, own)
