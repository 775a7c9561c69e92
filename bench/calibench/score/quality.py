"""Predictions and labels -> the numbers of a record, each with its interval."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from calibench.metrics.detection import by_other_scores
from calibench.metrics.inputs import predicted_class
from calibench.metrics.select import REGISTERED_BY
from calibench.metrics.selective import by_largest_probability, own_score
from calibench.registry import METRICS
from calibench.score.apart import apart
from calibench.score.pass_curve import pass_curve, running_means
from calibench.stats.bootstrap import bootstrap_interval, bootstrap_intervals, noise_floor
from calibench.stats.mapped import is_mapped
from calibench.types import Dataset, Evaluation, FloatArray, Interval, Metric, Predictive, Told, nobody

RESAMPLES = 1000
#: The metrics that are drawn over the number of passes.
CURVE_METRICS = ("accuracy", "ece", "nll", "brier")
#: The metrics of shifted evaluations.
SHIFT_METRICS = ("accuracy", "ece", "nll", "brier")


def evaluation_of(predictive: Predictive, dataset: Dataset, score: str | None = None) -> Evaluation:
    """What metrics see, examples out of scope included.

    Args:
        score: by which the method ranks texts; None for the largest probability.
    """
    return Evaluation(predictive.probs, dataset.labels, dataset.posterior, predictive.scores, score)


def metric_values(
    metrics: Sequence[Metric], evaluation: Evaluation, seed: int, told: Told = nobody
) -> dict[str, dict[str, Any]]:
    """Value, interval over examples and definition of each metric, and the noise floor of ECE.

    Ranking metrics are by the method's own score under their plain names. Detection is by every other score
    that there is too, selective prediction by the largest probability. All but detection is about the
    examples in scope.

    Args:
        seed: of the resampling; the same for every method, so that all see the same resamples.
        told: as of `bootstrap_intervals`.
    """
    values: dict[str, dict[str, Any]] = {}
    scored = evaluation.in_scope()
    every = [one for chosen in metrics for one in _by_scores(chosen, evaluation)]
    # First, while nothing is kept yet for metrics that come after each other.
    floors = {
        metric.name: noise_floor(metric, scored.probs, draws=RESAMPLES, seed=seed)
        for metric in every
        if metric.name == "ece"
    }
    intervals: dict[str, Interval] = {}
    for about, beyond in ((scored, False), (evaluation, True)):
        some = [metric for metric in every if metric.needs_out_of_scope is beyond]
        intervals |= _intervals(some, about, seed, told)
    for metric in every:
        interval = intervals[metric.name]
        values[metric.name] = interval.as_dict() | {"definition": _definition(metric, evaluation)}
        if metric.name in floors:
            floor = floors[metric.name].as_dict()
            values["ece_noise_floor"] = floor | {"definition": dict(metric.definition)}
    return values


def _intervals(metrics: Sequence[Metric], about: Evaluation, seed: int, told: Told) -> dict[str, Interval]:
    """By name, the metrics with their intervals: our own on one set of resamples, a third party's apart."""
    own = [metric for metric in metrics if metric.definition.get(REGISTERED_BY) is None]
    found = bootstrap_intervals(own, about, resamples=RESAMPLES, seed=seed, told=told) if own else []
    intervals = {metric.name: interval for metric, interval in zip(own, found, strict=True)}
    for metric in metrics:
        if metric.name not in intervals:
            intervals[metric.name] = _third_party(metric, about, seed)
    return intervals


def _third_party(metric: Metric, about: Evaluation, seed: int) -> Interval:
    """The metric with its interval; of one that fails, why."""
    name = f"The metric {metric.name!r} from {metric.definition[REGISTERED_BY]}"
    if is_mapped(about.probs):
        return Interval(None, None, None, f"{name} is given copies, and these probabilities are too many")
    given = copy.deepcopy(about)
    try:
        return apart(name, lambda: bootstrap_interval(metric, given, resamples=RESAMPLES, seed=seed))
    except Exception as error:  # it may break in any way
        return Interval(None, None, None, f"{name} failed ({type(error).__name__}: {error})")


def _by_scores(metric: Metric, evaluation: Evaluation) -> tuple[Metric, ...]:
    others = (*by_other_scores(metric, evaluation), *by_largest_probability(metric, evaluation))
    return (metric, *others)


def _definition(metric: Metric, evaluation: Evaluation) -> dict[str, Any]:
    """What fixes the estimator; a score of None is the method's own, which the record names."""
    definition = dict(metric.definition)
    if "score" in definition:
        definition["score"] = definition["score"] or own_score(evaluation)
    return definition


#: Of the sign test behind `below_guessing`, one-sided: one false alarm in a thousand rows at the most.
GUESSING_ALPHA = 0.001
_GUESSED = "Accuracy {:.3f} is below the {:.3f} of {}: {}."
#: What is most likely wrong where a model was run.
OF_A_MODEL = "labels may be swapped (see --label-map), or the tokenizer be another model's"


def below_guessing(evaluation: Evaluation, names: Sequence[str], why: str = OF_A_MODEL) -> str | None:
    """A warning where fewer answers are right than always guessing the commonest class would get.

    By the exact one-sided sign test on the examples of which only one of the two is right. Where all examples
    are of one class no answer could do better than that, and guessing is one of the C classes at random.

    Args:
        evaluation: the examples in scope.
        names: the C classes.
        why: what is most likely wrong.
    """
    labels = evaluation.labels
    commonest = int(np.bincount(labels, minlength=len(names)).argmax())
    right, guessed = predicted_class(evaluation) == labels, labels == commonest
    ours, theirs = int((right & ~guessed).sum()), int((guessed & ~right).sum())
    if guessed.all():
        few = special.bdtr(int(right.sum()), len(right), 1 / len(names)) <= GUESSING_ALPHA
        return _GUESSED.format(right.mean(), 1 / len(names), "guessing at random", why) if few else None
    if special.bdtr(ours, ours + theirs, 0.5) > GUESSING_ALPHA:
        return None
    return _GUESSED.format(right.mean(), guessed.mean(), f"always answering {names[commonest]!r}", why)


def shift_values(evaluation: Evaluation, seed: int) -> dict[str, dict[str, Any]]:
    """Value and interval of `SHIFT_METRICS`, and the noise floor of ECE, of data that drifted."""
    values = metric_values([METRICS.load(name) for name in SHIFT_METRICS], evaluation, seed)
    return {
        name: {key: value for key, value in found.items() if key != "definition"}
        for name, found in values.items()
    }


def curve_values(
    metrics: Sequence[Metric],
    predictive: Predictive,
    dataset: Dataset,
    passes: Sequence[int],
    seed: int,
) -> dict[str, Any] | None:
    """Metrics of the running mean after k passes for each k, or None for a method without stored passes."""
    samples = predictive.samples
    if samples is None or not passes:
        return None
    within = [k for k in passes if k <= len(samples)]
    keep = dataset.labels >= 0
    return {
        "passes": within,
        "metrics": {
            metric.name: [
                point.value.as_dict() | {"order_low": point.band.low, "order_high": point.band.high}
                for point in pass_curve(
                    metric, samples[:, keep], dataset.labels[keep], within, resamples=RESAMPLES, seed=seed
                )
            ]
            for metric in metrics
            if metric.name in CURVE_METRICS
        },
    }


def probs_at(predictive: Predictive, passes: Sequence[int]) -> dict[int, FloatArray]:
    """The running mean of the first k passes, float64 [N, C], for each k that was run."""
    if predictive.samples is None:
        return {}
    within = [k for k in passes if k <= len(predictive.samples)]
    return dict(zip(within, running_means(predictive.samples, within), strict=True))
