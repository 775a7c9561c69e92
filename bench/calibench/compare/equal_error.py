"""Time at one error: what each method takes to be as near to the limit as so many independent passes are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibench.stats.intervals import LEVEL, quantiles
from calibench.types import FloatArray, Interval

RESAMPLES = 2000
#: How far beyond a method's own settings its line of time against error may be drawn.
BEYOND = 1.1


@dataclass(frozen=True, eq=False)
class Measured:
    """One setting of a method.

    Attributes:
        seconds: float64 [R], of each replicate.
        squares: float64 [R], the mean squared error of each.
    """

    seconds: FloatArray
    squares: FloatArray


def measured(record: Mapping[str, Any]) -> Measured:
    """What a record with a yardstick says, replicate by replicate."""
    squares = np.array(record["yardstick"]["mse"]["by_replicate"])
    seconds = np.zeros(len(squares))
    for block in record["timing"]["blocks"]:
        if block["repetition"] < len(squares):
            seconds[block["repetition"]] += block["end_to_end_s"]
    return Measured(seconds, squares)


def seconds_at(settings: Sequence[tuple[float, float]], target: float) -> float | None:
    """Seconds at a mean squared error, along straight lines between settings in logarithms.

    Args:
        settings: (seconds, mean squared error) of one method; two or more.

    Returns:
        None where the error lies beyond the settings, by more than a tenth of it.
    """
    kept = sorted((square, seconds) for seconds, square in settings if square > 0)
    if len(kept) < 2 or target <= 0:
        return None
    squares, seconds = np.log(np.array(kept)).T
    at = math.log(target)
    if not squares[0] - math.log(BEYOND) <= at <= squares[-1] + math.log(BEYOND):
        return None
    right = int(np.clip(np.searchsorted(squares, at), 1, len(squares) - 1))
    left = right - 1
    if squares[right] == squares[left]:
        return float(np.exp(min(seconds[left], seconds[right])))
    share = (at - squares[left]) / (squares[right] - squares[left])
    return float(np.exp(seconds[left] + share * (seconds[right] - seconds[left])))


def speedup(
    family: Sequence[Measured], target: Measured, other: Measured, *, seed: int = 0
) -> Interval | None:
    """How many times longer `other` takes than a method at the target's error.

    The interval is the bootstrap's over replicates: those of all settings that were run in the same
    repetition are drawn together, so that drift of the machine is in both sides of a ratio. It is about these
    examples. Times are medians over replicates, which one stall of the machine does not move.

    Args:
        family: settings of the method, two or more, or the target alone.
        target: the setting whose error is to be matched.
        other: what the time is compared with.

    Returns:
        None where no setting of the method comes near to that error.
    """

    def ratio(drawn: Callable[[FloatArray], FloatArray]) -> float | None:
        def seconds(item: Measured) -> float:
            return float(np.median(drawn(item.seconds)))

        def square(item: Measured) -> float:
            return float(drawn(item.squares).mean())

        if len(family) == 1:
            at: float | None = seconds(family[0])
        else:
            at = seconds_at([(seconds(item), square(item)) for item in family], square(target))
        return None if at is None else seconds(other) / at

    value = ratio(lambda values: values)
    if value is None:
        return None
    if min(len(item.seconds) for item in (*family, target)) < 2:
        return Interval(value, None, None, "one replicate has no interval")
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        one = ratio(_Draw(rng))
        if one is not None:
            draws.append(one)
    if len(draws) < 0.9 * RESAMPLES:
        return Interval(value, None, None, "too many resamples come nowhere near to that error")
    return Interval(value, *quantiles(np.array(draws), LEVEL))


class _Draw:
    """Resampled replicates; arrays of one length share the draw."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._index: dict[int, Any] = {}

    def __call__(self, values: FloatArray) -> FloatArray:
        count = len(values)
        if count not in self._index:
            self._index[count] = self._rng.integers(0, count, size=count)
        found: FloatArray = values[self._index[count]]
        return found
