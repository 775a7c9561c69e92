"""The Pareto front of quality against cost, and how sure one can be of it.

A point is one method with one number of passes. It is on the front if no other point is at least as good and
at least as cheap, and better in one of the two. Times within `SAME_COST` of each other count as equal, so
that what rescales the reference's output is not beaten in cost by the reference.

Where the points lie is uncertain in two ways that have nothing to do with each other: other examples would
have given other qualities, other timing blocks other costs. Both are resampled jointly over the points, since
all saw the same examples and ran in the same blocks; the share of the draws in which a point is on the front
is its probability of being there.

P is the number of points, R of draws. Lower is better and cheaper throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibench.stats.bootstrap import form_of, resampled_values
from calibench.stats.intervals import LEVEL, quantiles, two_sided
from calibench.stats.ratios import trimmed_count, trimmed_mean
from calibench.types import Evaluation, FloatArray, Metric

#: Draws of every joint distribution: a probability of one half is known to .016.
DRAWS = 1000
#: Two times that differ by this share or less are the same; few runs can tell them apart.
SAME_COST = 0.02


@dataclass(frozen=True, eq=False)
class Box:
    """A region of the plane of cost and quality, from one pair of corners to the other."""

    cost: tuple[float, float]
    quality: tuple[float, float]


def nondominated(quality: FloatArray, cost: FloatArray) -> np.ndarray:
    """Which points no other point dominates, bool [P, ...].

    Args:
        quality, cost: float64 [P, ...], costs above zero; trailing axes are separate problems. Points that
            are equal, costs within `SAME_COST`, do not dominate each other.
    """
    beaten = np.zeros(quality.shape, dtype=np.bool_)
    for other in range(len(quality)):
        as_good, as_cheap = quality[other] <= quality, cost[other] <= cost * (1.0 + SAME_COST)
        cheaper = cost[other] * (1.0 + SAME_COST) < cost
        beaten |= as_good & as_cheap & ((quality[other] < quality) | cheaper)
    return ~beaten


def on_front(quality: FloatArray, cost: FloatArray) -> FloatArray:
    """P(on the front) of each point, float64 [P], from joint draws, float64 [P, R] each."""
    share: FloatArray = nondominated(quality, cost).mean(axis=1)
    return share


def region(quality: FloatArray, cost: FloatArray, level: float = LEVEL) -> Box:
    """The box that holds one point with probability `level`, from its draws, float64 [R] each.

    Examples and timing blocks are independent, so that a box holds the point with the product of what its
    sides do.
    """
    side = float(np.sqrt(level))
    return Box(quantiles(cost, side), quantiles(quality, side))


def quality_draws(
    metrics: Sequence[Metric], evaluations: Sequence[Evaluation], *, draws: int = DRAWS, seed: int = 0
) -> list[FloatArray]:
    """Each metric of every point over resamples of the examples they share, float64 [P, R] each.

    Each point's draws are moved so that their mean is the point's value: a plug-in metric such as ECE reads
    more on a resample than on the sample, by an amount of its own for each point.

    Args:
        metrics: those that have a form in which they are resampled; lower is better.
        evaluations: P evaluations of the same N examples.
    """
    values = [[metric.evaluate(evaluation) for evaluation in evaluations] for metric in metrics]
    forms = [
        form_of(metric, evaluation, value)
        for metric, own in zip(metrics, values, strict=True)
        for evaluation, value in zip(evaluations, own, strict=True)
    ]
    made = [form for form in forms if form is not None]
    drawn = np.stack(resampled_values(made, len(evaluations[0]), draws, np.random.default_rng(seed)))
    centred = drawn + (np.concatenate(values) - drawn.mean(axis=1))[:, None]
    return list(centred.reshape(len(metrics), len(evaluations), draws))


def block_cost_draws(
    seconds: FloatArray, reference: FloatArray, *, draws: int = DRAWS, seed: int = 0
) -> FloatArray:
    """Cost ratios over resampled timing blocks, float64 [P, R].

    The multiplier bootstrap (Wu 1986) of the trimmed mean of log ratios: each block's part of its error
    gets a normal multiplier that all points share, and all get one Student scale, so that the 95% interval
    of a point's draws is that of `stats.ratio_interval`. A point with fewer than three blocks has no spread
    that can be estimated, and none here.

    Args:
        seconds: float64 [P, m], seconds of each point in m blocks; NaN where it was not timed.
        reference: float64 [m], seconds of the reference in the same blocks; NaN likewise.
    """
    rng = np.random.default_rng(seed)
    m = seconds.shape[1]
    multipliers = rng.standard_normal((draws, m))
    freedom = m - 2 * trimmed_count(m) - 1
    scale = np.sqrt(freedom / rng.chisquare(freedom, draws)) if m > 1 else np.zeros(draws)
    drawn = np.empty((len(seconds), draws))
    for point, own in enumerate(seconds):
        both = np.isfinite(own) & np.isfinite(reference)
        mean = trimmed_mean(np.log(own[both] / reference[both]))
        parts = mean.parts if both.sum() >= 3 else np.zeros_like(mean.parts)
        drawn[point] = np.exp(mean.value + scale * (multipliers[:, both] @ parts))
    return drawn


def interval_cost_draws(estimate: Mapping[str, Any], *, draws: int = DRAWS, seed: int = 0) -> FloatArray:
    """Draws of a cost ratio of which only value and 95% interval are known: log-normal, float64 [R].

    Without an interval the ratio is taken as exact.
    """
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    assert value is not None
    if low is None or high is None:
        return np.full(draws, float(value))
    sigma = (high - low) / 2.0 / two_sided(LEVEL) / value
    drawn: FloatArray = value * np.exp(sigma * np.random.default_rng(seed).standard_normal(draws))
    return drawn
