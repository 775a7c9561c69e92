"""Paired differences in metrics that have no verdict: what they are worth on the sample at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibench.compare.verdicts import Pair, evaluations_of
from calibench.stats.bootstrap import form_of, resampled_values
from calibench.stats.intervals import LEVEL, quantiles
from calibench.types import Evaluation, FloatArray, Interval, Metric, Moments, Weighted

#: Resamples of a metric that is slow to resample: without moments, or with more than `WIDE` sums.
SLOW_RESAMPLES = 1_000
WIDE = 512


def joint_values(
    metrics: Sequence[Metric],
    methods: Mapping[str, Evaluation],
    *,
    resamples: int = 10_000,
    seed: int,
) -> dict[tuple[str, str], FloatArray]:
    """Every metric of every method on the same resamples of the examples, float64 [resamples] each.

    Args:
        metrics: those with a moments form share one pass; each other one is evaluated on every resample.
        methods: by name, all about the same examples; those out of scope only metrics about them are given.

    Returns:
        values by method and metric name.
    """
    evaluations = {name: evaluation.in_scope() for name, evaluation in methods.items()}
    forms: dict[tuple[str, str], Moments | Weighted] = {}
    for name, evaluation in evaluations.items():
        for metric in metrics:
            form = form_of(metric, evaluation, metric.evaluate(evaluation))
            if form is not None:
                forms[name, metric.name] = form
    n = max((len(evaluation) for evaluation in evaluations.values()), default=0)
    drawn = resampled_values(list(forms.values()), n, resamples, np.random.default_rng(seed))
    values = dict(zip(forms, drawn, strict=True))
    for metric in metrics:
        if metric.bootstrap is not None:
            for name, evaluation in methods.items():
                rng = np.random.default_rng(seed)
                values[name, metric.name] = metric.bootstrap(evaluation, resamples, rng)
        elif metric.moments is None and metric.weighted is None:
            for name, evaluation in evaluations.items():
                rng = np.random.default_rng(seed)
                values[name, metric.name] = np.array(
                    [metric.evaluate(evaluation.take(rng.integers(0, n, size=n))) for _ in range(resamples)]
                )
    return values


def describe(
    metrics: Sequence[Metric],
    pairs: Sequence[Pair],
    *,
    resamples: int = 10_000,
    level: float = LEVEL,
    seed: int,
) -> dict[tuple[str, str], Interval]:
    """Paired differences in metrics that have no verdict, by method and metric name.

    The interval is the basic bootstrap's (Davison and Hinkley 1997, section 5.2): resampled differences,
    turned about the observed one. Resampling a plug-in error adds the bias that sampling has added already;
    turned about, it is taken off instead of counted twice. The observed difference is never left out. It
    describes the sample; for plug-in errors it is no test.

    Args:
        pairs: about the same examples; those out of scope only metrics about them are given.
    """
    everyone = {str(number): evaluation for number, evaluation in enumerate(evaluations_of(pairs))}
    names = {evaluation: name for name, evaluation in everyone.items()}
    resampled = [metric for metric in metrics if metric.no_interval is None]
    slow = [metric for metric in resampled if _is_slow(metric, pairs)]
    quick = [metric for metric in resampled if metric not in slow]
    few = min(resamples, SLOW_RESAMPLES)
    drawn = joint_values(quick, everyone, resamples=resamples, seed=seed)
    for metric in slow:
        drawn |= joint_values([metric], everyone, resamples=few, seed=seed)
    intervals = {}
    for metric in metrics:
        values = {name: metric.evaluate(metric.of(found)) for name, found in everyone.items()}
        for pair in pairs:
            base, own = names[pair.reference], names[pair.evaluation]
            difference = values[own] - values[base]
            spread = drawn[own, metric.name] - drawn[base, metric.name] if metric in resampled else None
            intervals[pair.method, metric.name] = _turned(metric, difference, spread, level)
    return intervals


def _is_slow(metric: Metric, pairs: Sequence[Pair]) -> bool:
    if metric.bootstrap is not None:
        return False
    if metric.weighted is not None and metric.moments is None:
        return len(pairs[0].reference) > WIDE
    if metric.moments is None or not pairs:
        return True
    moments = metric.moments(metric.of(pairs[0].reference))
    return bool(moments.features.shape[1] > WIDE)


def _turned(metric: Metric, difference: float, resampled: FloatArray | None, level: float) -> Interval:
    if not np.isfinite(difference) or not (resampled is None or np.isfinite(resampled).all()):
        reason = f"{metric.name} is undefined on these examples or a resample of them"
        return Interval(None, None, None, reason)
    if resampled is None:
        return Interval(difference, None, None, metric.no_interval)
    low, high = quantiles(resampled, level)
    ends = (2.0 * difference - high, 2.0 * difference - low)
    return Interval(difference, min(ends[0], difference), max(ends[1], difference))
