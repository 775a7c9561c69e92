"""Ranks over tasks: Friedman's test, pairs of average ranks, and Nemenyi's critical difference.

The conventions are those of Demsar (2006, "Statistical comparisons of classifiers over multiple data sets"):
rank 1 is best, ties share the average of their ranks, and two methods are told apart by the distance of their
average ranks. In one thing we are more cautious, see `rank_p_values`.

K is the number of tasks, M of methods. Lower is better throughout.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from calibench.stats.intervals import LEVEL
from calibench.types import FloatArray

#: Fewest tasks over which anything is tested or bounded.
FEWEST_TASKS = 3


def ranks_of(losses: FloatArray) -> FloatArray:
    """Ranks along the last axis, float64 of the same shape: 1 is least, and ties share their average."""
    ranks: FloatArray = stats.rankdata(losses, axis=-1)
    return ranks


def friedman(ranks: FloatArray) -> tuple[float, float]:
    """Friedman's (1937) statistic, corrected for ties, and its p-value by the chi-square distribution.

    Args:
        ranks: float64 [K, M]. Where every task ties all methods the statistic is 0 and the p-value 1. Of two
            methods the p-value is not less than the sign test's, which the distribution undercuts.
    """
    tasks, methods = ranks.shape
    spread = float(((ranks - (methods + 1) / 2.0) ** 2).sum()) / (tasks * (methods - 1))
    if spread == 0.0:
        return 0.0, 1.0
    between = tasks * float(((ranks.mean(axis=0) - (methods + 1) / 2.0) ** 2).sum())
    statistic = between / spread
    p_value = float(special.chdtrc(methods - 1, statistic))
    return statistic, max(p_value, sign_test(ranks[:, 0] - ranks[:, 1])) if methods == 2 else p_value


def sign_test(differences: FloatArray) -> float:
    """Two-sided p-value of as many values above as below zero, exact; those at zero say nothing."""
    above, below = int((differences > 0.0).sum()), int((differences < 0.0).sum())
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def rank_error(tasks: int, methods: int) -> float:
    """Standard error of a difference of two average ranks, were all methods equal."""
    return math.sqrt(methods * (methods + 1) / (6.0 * tasks))


def rank_p_values(ranks: FloatArray) -> FloatArray:
    """Two-sided p-value of each pair of average ranks, float64 [M, M], not adjusted; 1 on the diagonal.

    The larger of two: the normal one with `rank_error`, which is the convention, and Student's, with the
    spread that the pair itself shows over the tasks. The first supposes that all methods are equal. Where
    only the pair is, and others lie between them, one of the two is now far ahead and now far behind, and
    the first alone calls a difference several times too often.

    Args:
        ranks: float64 [K, M], K two or more.
    """
    tasks, methods = ranks.shape
    differences = ranks[:, :, None] - ranks[:, None, :]
    mean = np.abs(differences.mean(axis=0))
    usual = 2.0 * special.ndtr(-mean / rank_error(tasks, methods))
    error = differences.std(axis=0, ddof=1) / math.sqrt(tasks)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = 2.0 * special.stdtr(tasks - 1, -mean / error)
    own[error == 0.0] = np.where(mean[error == 0.0] > 0.0, 0.0, 1.0)
    larger: FloatArray = np.maximum(usual, own)
    return larger


def critical_difference(tasks: int, methods: int, level: float = LEVEL) -> float:
    """Nemenyi's (1963): average ranks further apart differ, by the convention alone.

    The studentised range at infinite degrees of freedom over the square root of two, times `rank_error`.
    """
    quantile = float(stats.studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2.0)
    return quantile * rank_error(tasks, methods)


def student_factor(tasks: int, level: float = LEVEL) -> float:
    """How much wider than the bootstrap's an interval of a mean over few tasks must be.

    The bootstrap takes the spread of K values for known and divides it by K instead of K - 1.
    """
    tail = 0.5 + level / 2.0
    few = float(special.stdtrit(tasks - 1, tail)) / float(special.ndtri(tail))
    return few * math.sqrt(tasks / (tasks - 1))


def mean_log_interval(logs: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """Student's interval of a geometric mean, of logarithms, float64 [K]; None of fewer than three tasks."""
    tasks = len(logs)
    if tasks < FEWEST_TASKS:
        return None
    half = float(special.stdtrit(tasks - 1, 0.5 + level / 2.0)) * float(logs.std(ddof=1)) / math.sqrt(tasks)
    return math.exp(float(logs.mean()) - half), math.exp(float(logs.mean()) + half)
