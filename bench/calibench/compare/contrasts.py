"""One table of differences: verdicts where there are any, descriptions for the other metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibench.compare.description import describe
from calibench.compare.verdicts import Difference, Pair, compare_pairs, evaluations_of, family_of
from calibench.types import Evaluation, Interval, Metric


@dataclass(frozen=True)
class Contrast:
    """A method against what it is compared with, in one metric.

    Attributes:
        base, value: the metric of either, None where it is undefined.
        difference: value - base, with a 95% interval for this difference alone.
        tested: p-values, adjusted interval and verdict; None for a metric without verdicts.
    """

    method: str
    metric: Metric
    base: float | None
    value: float | None
    difference: Interval
    tested: Difference | None


def contrasts(pairs: Sequence[Pair], metrics: Sequence[Metric], *, seed: int = 0) -> list[Contrast]:
    """Every pair in every metric, pairs first.

    The verdicts are adjusted for all of `family_of` these labels, whichever of its metrics are asked for.

    Args:
        pairs: about the same examples.
        metrics: none that needs the true posterior.

    Raises:
        CalibenchError: where two of a pair have not the same shape or labels.
    """
    if not pairs:
        return []
    numbered = [replace(pair, method=str(number)) for number, pair in enumerate(pairs)]
    family = {metric.name for metric in family_of(pairs[0].reference)}
    chosen = {metric.name for metric in metrics}
    tested: dict[tuple[str, str], Difference] = {}
    if chosen & family:
        found = compare_pairs(numbered, seed=seed)
        tested = {(item.method, item.metric): item for item in found if item.metric in chosen}
    others = [metric for metric in metrics if metric.name not in family]
    described = describe(others, numbered, seed=seed) if others else {}
    values = {(e, metric.name): _value(metric, e) for e in evaluations_of(pairs) for metric in metrics}
    rows = []
    for pair, named in zip(pairs, numbered, strict=True):
        for metric in metrics:
            test = tested.get((named.method, metric.name))
            difference = described[named.method, metric.name] if test is None else test.difference
            base, own = values[pair.reference, metric.name], values[pair.evaluation, metric.name]
            rows.append(Contrast(pair.method, metric, base, own, difference, test))
    return rows


def _value(metric: Metric, evaluation: Evaluation) -> float | None:
    found = metric.evaluate(metric.of(evaluation))
    return float(found) if np.isfinite(found) else None
