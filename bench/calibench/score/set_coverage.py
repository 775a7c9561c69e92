"""Prediction sets and labels -> coverage and size, with what chance alone would make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.posthoc.conformal import FittedSets, Thresholds, order_statistic
from calibench.score.shares import NOTHING_SCORED, share
from calibench.stats.intervals import LEVEL, quantiles, skew_corrected
from calibench.types import BoolArray, FloatArray, IntArray, Interval

DRAWS = 2000


def set_values(
    sets: BoolArray, labels: IntArray, names: Sequence[str], fitted: FittedSets, seed: int
) -> dict[str, Any]:
    """What a record says of the sets of one row.

    Intervals of shares are Wilson's; that of the mean size is Student's, corrected for skewness (Hall 1992).
    They are about new examples and these thresholds.

    Args:
        sets: bool [N, C].
        labels: int64 [N]; -1 for examples out of scope.
        names: the C classes.
        fitted: what made the sets.
        seed: of what chance would make of them.
    """
    inside = labels >= 0
    known, scored = sets[inside], labels[inside]
    covered = known[np.arange(len(scored)), scored]
    rng = np.random.default_rng(seed)
    return {
        "coverage": share(covered).as_dict(),
        "expected": _expected(fitted, scored, inside),
        "chance": _chance(fitted, scored, rng),
        **_sizes(known),
        "worst_class": _worst_class(covered, scored, names, fitted.recipe.level, rng),
        "out_of_scope": None if inside.all() else {"n": int((~inside).sum()), **_sizes(sets[~inside])},
    }


def _sizes(sets: BoolArray) -> dict[str, Any]:
    size = sets.sum(axis=1).astype(np.float64)
    mean = Interval(None, None, None, NOTHING_SCORED)
    if len(size) == 1:
        mean = Interval(float(size[0]), None, None, "one example has no spread")
    elif len(size):
        sums = np.array([size.sum(), (size**2).sum(), (size**3).sum()])
        low, high = skew_corrected(sums, len(size), LEVEL)
        mean = Interval(float(size.mean()), max(0.0, low), min(float(sets.shape[1]), high))
    return {
        "mean_size": mean.as_dict(),
        "singletons": share(size == 1).as_dict(),
        "empty": share(size == 0).as_dict(),
    }


def _expected(fitted: FittedSets, scored: IntArray, inside: BoolArray) -> float | None:
    """Mean coverage over all draws, were examples exchangeable: the level, rounded up."""
    if not len(scored):
        return None
    which = np.zeros(len(scored), dtype=np.int64) if fitted.fold is None else fitted.fold[inside]
    shares = np.stack([_reached(item, fitted.recipe.level) for item in fitted.thresholds])
    return float(shares[which, scored].mean())


def _reached(item: Thresholds, level: float) -> FloatArray:
    """k / (n + 1) for each class, float64 [C]; 1 where the threshold is infinite."""
    return np.array([min(1.0, order_statistic(int(n), level) / (n + 1)) for n in item.counts])


def _chance(fitted: FittedSets, scored: IntArray, rng: np.random.Generator) -> dict[str, Any]:
    """The range that holds the coverage in 95% of runs, were all examples exchangeable and no scores tied.

    The thresholds' luck is in it: given n of them the coverage is Beta(k, n + 1 - k).
    """
    if fitted.fold is not None:
        reason = (
            "cross-fitted: what one fold lacks the others make up for, so that coverage is near the level"
        )
        return {"low": None, "high": None, "reason": reason}
    if not len(scored):
        return {"low": None, "high": None, "reason": NOTHING_SCORED}
    (item,) = fitted.thresholds
    level, found = fitted.recipe.level, np.bincount(scored, minlength=len(item.values))
    covered = rng.binomial(
        int(found[~item.own].sum()), _luck(int(item.counts[~item.own].max(initial=0)), level, rng)
    )
    for label in np.flatnonzero(item.own & (found > 0)):
        covered = covered + rng.binomial(found[label], _luck(int(item.counts[label]), level, rng))
    low, high = quantiles(covered / len(scored), LEVEL)
    return {"low": low, "high": high, "reason": None}


def _luck(n: int, level: float, rng: np.random.Generator) -> FloatArray:
    """Draws of the coverage by a threshold of n examples, float64 [`DRAWS`]."""
    k = order_statistic(n, level)
    return np.ones(DRAWS) if k > n else rng.beta(k, n + 1 - k, DRAWS)


def _worst_class(
    covered: BoolArray, scored: IntArray, names: Sequence[str], level: float, rng: np.random.Generator
) -> dict[str, Any] | None:
    """The lowest coverage of a class, beside the lowest there would be were each covered at the level.

    None where fewer than two classes were scored.
    """
    classes, index, counts = np.unique(scored, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return None
    shares = np.bincount(index, weights=covered) / counts
    worst = int(shares.argmin())
    lowest = (rng.binomial(counts, level, (DRAWS, len(counts))) / counts).min(axis=1)
    low, high = quantiles(lowest, LEVEL)
    return {
        "value": float(shares[worst]),
        "label": str(names[classes[worst]]),
        "examples": int(counts[worst]),
        "chance": {"value": float(lowest.mean()), "low": low, "high": high},
    }
