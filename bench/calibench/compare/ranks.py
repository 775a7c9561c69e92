"""Mean ranks over tasks, how sure one can be of them, and which methods they tell apart.

The population is that of tasks like these, each with as many examples: on a task of a given size noise is
part of a method's rank. Tasks are resampled, within a task its replicates, and within these the examples, the
same ones for all methods.

K is the number of tasks, M of methods, R of resamples. Ranks and losses are lower where better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibench.compare.verdicts import holm
from calibench.stats.friedman import (
    FEWEST_TASKS,
    critical_difference,
    friedman,
    rank_p_values,
    ranks_of,
    student_factor,
)
from calibench.stats.intervals import LEVEL, quantiles
from calibench.types import FloatArray, IntArray, Interval

#: Draws of the weights of tasks: the end of a 95% interval is known to a fiftieth of its half width.
UNSEEN_DRAWS = 4000


@dataclass(frozen=True, eq=False)
class Apart:
    """Which methods the ranks over tasks tell apart.

    Attributes:
        statistic, p_value: Friedman's test of all methods.
        adjusted: float64 [M, M], the p-value of each pair, by Holm's procedure over all pairs, and never less
            than Friedman's: pairs are looked at only once that has shown a difference at all.
        critical: Nemenyi's critical difference, for comparison.
    """

    statistic: float
    p_value: float
    adjusted: FloatArray
    critical: float

    def shown(self, level: float = LEVEL) -> np.ndarray:
        """Which pairs differ, bool [M, M]."""
        return self.adjusted <= 1.0 - level


@dataclass(frozen=True, eq=False)
class Redrawn:
    """What other tasks and other examples would have given.

    Attributes:
        mean_ranks: float64 [R, M].
        tasks: int64 [R, K], which tasks were drawn.
    """

    mean_ranks: FloatArray
    tasks: IntArray


def apart(ranks: FloatArray) -> Apart | str:
    """Friedman's test and all pairs, from ranks [K, M]; or why there is none."""
    tasks, methods = ranks.shape
    if tasks < FEWEST_TASKS:
        return few(tasks, "a test across tasks")
    statistic, p_value = friedman(ranks)
    upper = np.triu_indices(methods, k=1)
    adjusted = np.ones((methods, methods))
    adjusted[upper] = np.maximum(holm(rank_p_values(ranks)[upper])[0], p_value)
    adjusted.T[upper] = adjusted[upper]
    return Apart(statistic, p_value, adjusted, critical_difference(tasks, methods))


def few(tasks: int, what: str) -> str:
    """Why so few tasks say nothing."""
    return f"n too small: {tasks} {'task' if tasks == 1 else 'tasks'}, {what} needs {FEWEST_TASKS}"


def redrawn(drawn: Sequence[Sequence[FloatArray]], rng: np.random.Generator) -> Redrawn:
    """Mean ranks where tasks, replicates and examples are drawn again.

    Args:
        drawn: for each task and replicate the losses of all methods on resamples of the examples, float64
            [R, M]; replicates of one task resample the same ones.
    """
    tasks, resamples = len(drawn), len(drawn[0][0])
    ranks = []
    for replicates in drawn:
        stacked = np.stack(replicates)
        picked = rng.integers(0, len(stacked), size=(resamples, len(stacked)))
        ranks.append(ranks_of(stacked[picked, np.arange(resamples)[:, None]].mean(axis=1)))
    which = rng.integers(0, tasks, size=(resamples, tasks))
    # A task that is drawn twice has other examples each time.
    examples = rng.integers(0, resamples, size=(resamples, tasks))
    return Redrawn(np.stack(ranks)[which, examples].mean(axis=1), which)


def mean_rank_intervals(ranks: FloatArray, found: Redrawn, level: float = LEVEL) -> list[Interval]:
    """The mean rank of each method with its interval, from ranks [K, M].

    Quantiles of the draws, which are moved so that their mean is what was seen, for resampling examples draws
    all ranks towards the middle, and widened by `student_factor`. The examples' noise is in the spread over
    tasks already and counts twice, so that the interval holds more often than it says. A method that is first
    on all of few tasks leaves nothing to resample: the ends are never within those of `_with_unseen`.
    """
    tasks, methods = ranks.shape
    intervals = []
    for own, draws in zip(ranks.T, found.mean_ranks.T, strict=True):
        value = float(own.mean())
        if tasks < FEWEST_TASKS:
            intervals.append(Interval(value, None, None, few(tasks, "an interval")))
            continue
        if not np.isfinite(draws).all():
            intervals.append(Interval(value, None, None, "undefined on a resample of the examples"))
            continue
        low, high = (student_factor(tasks, level) * end for end in quantiles(draws - draws.mean(), level))
        ends = (value + low, value + high, *_with_unseen(own, methods, level))
        intervals.append(Interval(value, max(1.0, min(ends)), min(float(methods), max(ends))))
    return intervals


def _with_unseen(own: FloatArray, methods: int, level: float) -> tuple[float, float]:
    """The interval of a mean rank with room for tasks of a kind that is not among these, from ranks [K].

    The Bayesian bootstrap (Rubin 1981) with a task more at either end, where the method is first and last.
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_exponential((UNSEEN_DRAWS, len(own) + 2))
    means = weights @ np.concatenate([own, [1.0, methods]]) / weights.sum(axis=1)
    return quantiles(means, level)


def cliques(mean_ranks: FloatArray, shown: np.ndarray) -> list[list[int]]:
    """Sets of methods, by rank, no two of which are told apart: runs of neighbours that none holds whole.

    Args:
        mean_ranks: float64 [M].
        shown: bool [M, M], which pairs are told apart.
    """
    order = np.argsort(mean_ranks, kind="stable").tolist()
    runs: list[list[int]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not shown[np.ix_(order[start : end + 1], order[start : end + 1])].any():
            end += 1
        if end - start > 1 and not (runs and runs[-1][-1] == order[end - 1]):
            runs.append(order[start:end])
    return runs
