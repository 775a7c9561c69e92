"""Intervals of metrics: over examples, and over labels redrawn from the probabilities.

Every function returns an `Interval`, whose missing numbers come with the reason; none returns NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from calibench.stats.intervals import LEVEL, quantiles
from calibench.stats.resampling import Summed, counted, many, resampled_together, self_drawn_values
from calibench.stats.threads import in_order
from calibench.types import Evaluation, FloatArray, Interval, Metric, Moments, Told, Weighted, nobody

#: Of nearly perfect answers.
UNBOUNDED = "too few errors to bound it from above"


def bootstrap_interval(
    metric: Metric, evaluation: Evaluation, *, resamples: int = 1000, level: float = LEVEL, seed: int
) -> Interval:
    """`bootstrap_intervals` of one metric."""
    (interval,) = bootstrap_intervals([metric], evaluation, resamples=resamples, level=level, seed=seed)
    return interval


def bootstrap_intervals(
    metrics: Sequence[Metric],
    evaluation: Evaluation,
    *,
    resamples: int = 1000,
    level: float = LEVEL,
    seed: int,
    told: Told = nobody,
) -> list[Interval]:
    """The metrics, each with an interval for its value over the distribution that the examples come from.

    The percentile bootstrap over examples (Efron 1979), or what the metric's moments name in its place where
    that does not cover; see `calibench.stats.intervals`. A metric may bring a bootstrap of its own. Where no
    interval holds, the metric says why. One seed
    gives the same resamples to every metric of as many examples. A metric without moments is evaluated on
    each resample, which takes time in proportion to N * resamples.

    Args:
        told: is called with the title of a metric of many examples when it is done.
    """
    n = len(evaluation)
    if many(n) and len(metrics) > 1:  # features of a metric or two fit into memory, not all

        def of_one(metric: Metric) -> Interval:
            return bootstrap_interval(metric, evaluation, resamples=resamples, level=level, seed=seed)

        found = []
        for metric, interval in zip(metrics, in_order(of_one, metrics), strict=True):
            found.append(interval)
            told(metric.title)
        return found
    values = [metric.evaluate(evaluation) for metric in metrics]
    forms = [
        form_of(metric, evaluation, value) if np.isfinite(value) and metric.no_interval is None else None
        for metric, value in zip(metrics, values, strict=True)
    ]
    drawn = _Drawn([form for form in forms if form is not None], n, resamples, seed)
    intervals = []
    for metric, value, form in zip(metrics, values, forms, strict=True):
        if not np.isfinite(value):
            reason = f"{metric.name} is undefined on these examples"
            intervals.append(Interval(None, None, None, reason))
        elif metric.no_interval is not None:
            intervals.append(Interval(value, None, None, metric.no_interval))
        elif metric.bootstrap is not None:
            samples = metric.bootstrap(evaluation, resamples, np.random.default_rng(seed))
            intervals.append(_with_spread(_by_quantiles(metric, value, samples, level)))
        elif form is None:
            samples = _one_by_one(metric, evaluation, resamples, seed)
            intervals.append(_by_quantiles(metric, value, samples, level))
        elif isinstance(form, Weighted):
            intervals.append(_by_quantiles(metric, value, drawn.of(form), level))
        elif form.interval is None:
            intervals.append(_by_quantiles(metric, value, form.finish(drawn.of(form), n), level))
        else:
            total = np.asarray(form.features.sum(axis=0)).ravel()
            low, high = form.interval(total, n, level, partial(drawn.of, form))
            bounded = Interval(value, low, high)
            intervals.append(bounded if np.isfinite(high) else Interval(value, None, None, UNBOUNDED))
    return intervals


def form_of(metric: Metric, evaluation: Evaluation, value: float) -> Moments | Weighted | None:
    """The metric in the form in which it is resampled quickest; None where there is none.

    Of many examples a metric that is no function of sums is taken for the sum of what each of them adds.

    Args:
        value: of the metric.
    """
    if metric.moments is not None:
        return metric.moments(evaluation)
    if metric.weighted is None:
        return None
    form = metric.weighted(evaluation)
    if not many(len(evaluation)):
        return form
    return Moments(form.influence()[:, None], lambda sums, n: value + sums[:, 0] / n)


class _Drawn:
    """What resamples are needed for, drawn once for all forms and only if one asks for it."""

    def __init__(self, forms: Sequence[Moments | Weighted], n: int, resamples: int, seed: int) -> None:
        self._forms, self._n, self._resamples, self._seed = forms, n, resamples, seed
        self._found: dict[int, FloatArray] = {}

    def of(self, form: Moments | Weighted) -> FloatArray:
        """Sums over resamples, float64 [R, K], or the values of a metric that is none, float64 [R]."""
        if not self._found:
            found = resampled_forms(self._forms, self._n, self._resamples, np.random.default_rng(self._seed))
            self._found = {id(one): values for one, values in zip(self._forms, found, strict=True)}
        return self._found.pop(id(form))  # each form asks once, and some of them are large


def resampled_forms(
    forms: Sequence[Moments | Weighted], n: int, resamples: int, rng: np.random.Generator
) -> list[FloatArray]:
    """Every form on the same resamples of n examples: sums, float64 [R, K], or values, float64 [R].

    Args:
        forms: as `form_of` makes them: of many examples all are sums.
    """
    if many(n):
        return resampled_together(
            [form.features for form in forms if isinstance(form, Moments)], resamples, rng
        )
    if not forms:
        return []
    over = [Summed(form.features).over if isinstance(form, Moments) else form.resampled for form in forms]

    def of_some(counts: FloatArray) -> list[FloatArray]:
        return [each(counts) for each in over]

    found: list[FloatArray] = []
    start = 0
    for part in in_order(of_some, counted(n, resamples, rng)):
        found = found or [np.empty((resamples, *values.shape[1:])) for values in part]
        for whole, values in zip(found, part, strict=True):
            whole[start : start + len(values)] = values
        start += len(part[0])
    return found


def resampled_values(
    forms: Sequence[Moments | Weighted], n: int, resamples: int, rng: np.random.Generator
) -> list[FloatArray]:
    """The metrics that have these forms on the same resamples of n examples, float64 [R] each."""
    found = resampled_forms(forms, n, resamples, rng)
    return [
        form.finish(drawn, n) if isinstance(form, Moments) else drawn
        for form, drawn in zip(forms, found, strict=True)
    ]


def _one_by_one(metric: Metric, evaluation: Evaluation, resamples: int, seed: int) -> FloatArray:
    rng, n = np.random.default_rng(seed), len(evaluation)
    return np.array([metric.evaluate(evaluation.take(rng.integers(0, n, size=n))) for _ in range(resamples)])


def _by_quantiles(metric: Metric, value: float, samples: FloatArray, level: float) -> Interval:
    undefined = int(np.count_nonzero(~np.isfinite(samples)))
    if undefined > (1.0 - level) / 10.0 * len(samples):
        reason = f"{metric.name} is undefined in {undefined} of {len(samples)} resamples"
        return Interval(value, None, None, reason)
    return Interval(value, *quantiles(samples[np.isfinite(samples)], level))


def _with_spread(interval: Interval) -> Interval:
    """Without ends where they fall together: resamples of perfect examples are perfect too."""
    if interval.low is None or interval.low != interval.high:
        return interval
    return Interval(interval.value, None, None, "all resamples agree: no interval from them")


def noise_floor(metric: Metric, probs: FloatArray, *, draws: int = 1000, seed: int) -> Interval:
    """What the metric reads on a perfectly calibrated model with these probabilities.

    Mean, and 2.5% and 97.5% quantiles, over `draws` sets of labels drawn from probs, float64 [N, C]: the
    consistency resampling of Broecker and Smith (2007).
    """
    values = self_drawn_values(metric, probs, draws, np.random.default_rng(seed))
    if not np.isfinite(values).all():
        return Interval(None, None, None, f"{metric.name} is undefined for some of the drawn labels")
    return Interval(float(values.mean()), *quantiles(values, LEVEL))
