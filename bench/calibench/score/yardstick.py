"""The error of a method: how far its probabilities are from the limit that another method's passes tend to.

Replicates a_1 ... a_R of a method, with seeds of their own, and two independent long references r1 and r2 of
the limit. The mean of (a - r1)(a - r2) is the mean squared error with bias included, and without the noise of
the references, as these are independent of each other and of a. The bias comes from pairs of replicates,
(a_i - r1)(a_j - r2) with i != j, free of the replicates' noise too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from calibench.stats.intervals import LEVEL
from calibench.types import FloatArray, IntArray, Interval

GROUPS = 10


def chosen_probabilities(replicates: FloatArray, references: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The probability that errors are about: of the class that the references predict.

    Args:
        replicates: float64 [R, N, C].
        references: float64 [2, N, C].

    Returns:
        Of replicates and references, float64 [R, N] and [2, N].
    """
    chosen = references.mean(axis=0).argmax(axis=1)[None, :, None]

    def take(probs: FloatArray) -> FloatArray:
        found: FloatArray = np.take_along_axis(probs, chosen, axis=2)[..., 0]
        return found

    return take(replicates), take(references)


def error_fields(replicates: FloatArray, references: FloatArray, passes: IntArray) -> dict[str, Any]:
    """`yardstick` of a record.

    Args:
        replicates: float64 [R, N, C].
        references: float64 [2, N, C].
        passes: int64 [R, N], spent in each replicate.
    """
    a, (first, second) = chosen_probabilities(replicates, references)
    squares = ((a - first) * (a - second)).mean(axis=1)
    return {
        "replicates": len(a),
        "mse": _mean(squares).as_dict() | {"by_replicate": [float(value) for value in squares]},
        "bias_squared": _bias_squared(a, first, second).as_dict(),
        "passes": [float(value) for value in passes.mean(axis=1)],
        "groups": _by_passes(a, first, second, passes),
    }


def _mean(values: FloatArray) -> Interval:
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, None, None, "one replicate has no interval")
    return _student(mean, float(values.std(ddof=1)) / math.sqrt(count), count)


def _student(value: float, standard_error: float, count: int) -> Interval:
    """Student's interval over so many replicates."""
    half = float(stats.t.ppf(0.5 + LEVEL / 2.0, count - 1)) * standard_error
    return Interval(value, value - half, value + half)


def _bias_squared(a: FloatArray, first: FloatArray, second: FloatArray) -> Interval:
    """The mean over examples of the squared bias; an estimate of something small may be negative.

    The interval is the jackknife's over replicates.
    """
    count = len(a)
    if count < 2:
        return Interval(None, None, None, "one replicate cannot tell bias from noise")
    left, right = a - first, a - second
    value = _pairs(left, right)
    if count == 2:
        return Interval(value, None, None, "two replicates have no interval")
    without = np.array(
        [_pairs(np.delete(left, i, axis=0), np.delete(right, i, axis=0)) for i in range(count)]
    )
    spread = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return _student(value, spread, count)


def _pairs(left: FloatArray, right: FloatArray) -> float:
    """The mean over examples, and over pairs i != j, of left_i right_j."""
    count = len(left)
    all_pairs = left.sum(axis=0) * right.sum(axis=0) - (left * right).sum(axis=0)
    return float(all_pairs.mean() / (count * (count - 1)))


def _by_passes(
    a: FloatArray, first: FloatArray, second: FloatArray, passes: IntArray
) -> list[dict[str, float]] | None:
    """Bias and error in tenths of the examples, by the passes they got: where stopping would show.

    None where all examples got the same number of passes.
    """
    mean_passes = passes.mean(axis=0)
    if mean_passes.min() == mean_passes.max():
        return None
    bias = (a - (first + second) / 2).mean(axis=0)
    square = ((a - first) * (a - second)).mean(axis=0)
    # The references' own noise is in the bias of an example, so it is in this standard error too.
    return [
        {
            "examples": len(group),
            "passes": float(mean_passes[group].mean()),
            "bias": float(bias[group].mean()),
            "bias_standard_error": float(bias[group].std(ddof=1) / math.sqrt(len(group))),
            "mse": float(square[group].mean()),
        }
        for group in np.array_split(np.argsort(mean_passes, kind="stable"), GROUPS)
        if len(group) > 1
    ]
