"""Out-of-scope detection: do texts that belong to none of the classes get the less certain scores?

The positive class is out of scope, label -1, and a score is higher where the model is less certain: a text is
taken for out of scope where its score is at or above a threshold. Texts with equal scores fall on the same
side of every threshold.

A metric under its plain name goes by the score by which the method ranks texts, as those of selective
prediction do: its own, or the largest probability where it names none.

Intervals resample texts in scope and texts out of scope apart (stratified bootstrap). How many there are of
either was decided by who made the data set and is no sample of anything, and precision depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibench.metrics.selective import ENTROPY, MAX_PROBABILITY, midranks, own_score, uncertainty
from calibench.stats.resampling import blocks, resample_counts
from calibench.types import Evaluation, FloatArray, Metric

Mask = NDArray[np.bool_]
#: Share of the texts out of scope that `fpr95` has to find.
TRUE_POSITIVE_RATE = 0.95


def score_of(evaluation: Evaluation, score: str | None = None) -> FloatArray:
    """A score for all examples, in scope or not, float64 [N]; see `selective.uncertainty`."""
    # A score does not depend on the label, and the checks of what does refuse a label of -1.
    return uncertainty(replace(evaluation, labels=np.zeros_like(evaluation.labels)), score)


@dataclass(frozen=True, eq=False)
class Operating:
    """What each of G thresholds finds, from the strictest to the one that takes everything for out of scope.

    Attributes:
        threshold: float64 [G], the distinct scores, falling.
        found: float64 [R, G], texts out of scope at or above the threshold.
        alarms: float64 [R, G], texts in scope at or above it.
    """

    threshold: FloatArray
    found: FloatArray
    alarms: FloatArray


def operating(uncertain: FloatArray, beyond: Mask, counts: FloatArray | None = None) -> Operating:
    """Every threshold that tells two texts apart.

    Args:
        uncertain: float64 [N], higher means less certain.
        beyond: bool [N], which texts are out of scope.
        counts: float64 [R, N], how often each text counts in each of R resamples; None for once, R = 1.
    """
    order = np.argsort(-uncertain, kind="stable")
    ordered = uncertain[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    weights = np.ones((1, len(order))) if counts is None else counts[:, order]
    found = np.cumsum(weights * beyond[order], axis=1)[:, last]
    alarms = np.cumsum(weights * ~beyond[order], axis=1)[:, last]
    return Operating(ordered[last], found, alarms)


def auroc(at: Operating) -> FloatArray:
    """P(a text out of scope scores higher than one in scope) + P(they tie) / 2, float64 [R]."""
    before = np.pad(at.found[:, :-1], ((0, 0), (1, 0)))
    steps = np.diff(at.alarms, axis=1, prepend=0.0)
    area: FloatArray = (steps * (before + at.found)).sum(axis=1) / 2.0
    return area / (at.found[:, -1] * at.alarms[:, -1])


def average_precision(at: Operating) -> FloatArray:
    """Precision at each threshold, weighted by the recall gained there, float64 [R].

    The area under the precision-recall curve as steps; joining its points by lines would be too optimistic
    (Davis and Goadrich 2006).
    """
    gained = np.diff(at.found, axis=1, prepend=0.0)
    taken = at.found + at.alarms
    precision = np.divide(at.found, taken, out=np.zeros_like(taken), where=taken > 0.0)
    area: FloatArray = (gained * precision).sum(axis=1)
    return area / at.found[:, -1]


def fpr95(at: Operating) -> FloatArray:
    """Share of the texts in scope that are taken for out of scope where 95% of those out of scope are found.

    At the strictest threshold that finds at least 95%; texts that tie with it are taken too, and nothing is
    interpolated. float64 [R].
    """
    enough = at.found / at.found[:, -1:] >= TRUE_POSITIVE_RATE
    first = enough.argmax(axis=1)
    rate: FloatArray = at.alarms[np.arange(len(first)), first] / at.alarms[:, -1]
    return rate


@dataclass(frozen=True)
class _Kind:
    name: str
    title: str
    better: Literal["lower", "higher"]
    compute: Callable[[Operating], FloatArray]


KINDS = (
    _Kind("oos_auroc", "out-of-scope AUROC", "higher", auroc),
    _Kind("oos_aupr", "out-of-scope AUPR", "higher", average_precision),
    _Kind("oos_fpr95", "out-of-scope FPR at 95% TPR", "lower", fpr95),
)


def detection_metric(kind: str, score: str | None = None) -> Metric:
    """One of `KINDS` by the score by which the method ranks texts, or by the one named, as `KIND.SCORE`.

    It is NaN without texts of both kinds.
    """
    chosen = next(item for item in KINDS if item.name == kind)

    def evaluate(evaluation: Evaluation) -> float:
        # First of all, as what is no distribution is refused even where there is nothing to detect.
        uncertain, beyond = score_of(evaluation, score), evaluation.labels < 0
        if beyond.all() or not beyond.any():
            return float("nan")
        return float(chosen.compute(operating(uncertain, beyond))[0])

    def bootstrap(evaluation: Evaluation, resamples: int, rng: np.random.Generator) -> FloatArray:
        beyond = evaluation.labels < 0
        if beyond.all() or not beyond.any():
            return np.full(resamples, np.nan)
        uncertain = score_of(evaluation, score)
        values = []
        for count in blocks(resamples, 4 * len(beyond)):
            counts = np.empty((count, len(beyond)))
            for part in (beyond, ~beyond):
                counts[:, part] = resample_counts(rng, count, int(part.sum()))
            values.append(chosen.compute(operating(uncertain, beyond, counts)))
        return np.concatenate(values)

    return Metric(
        name=chosen.name if score is None else f"{chosen.name}.{score}",
        title=chosen.title if score is None else f"{chosen.title} ({score.replace('_', ' ')})",
        better=chosen.better,
        evaluate=evaluate,
        definition={"score": score, "positive": "out of scope", "interval": "bootstrap within either kind"},
        needs_out_of_scope=True,
        bootstrap=bootstrap,
    )


def by_other_scores(metric: Metric, evaluation: Evaluation) -> tuple[Metric, ...]:
    """A metric of `KINDS` by every score that there is but the method's own; none for any other metric."""
    if metric.name not in {kind.name for kind in KINDS}:
        return ()
    scores = dict.fromkeys((MAX_PROBABILITY, ENTROPY, *evaluation.scores))
    own = own_score(evaluation)
    return tuple(detection_metric(metric.name, score) for score in scores if score != own)


@dataclass(frozen=True, eq=False)
class Placements:
    """An AUROC as a mean over texts of either kind (DeLong et al. 1988).

    Attributes:
        beyond: float64 [m], for each text out of scope the share of those in scope that score lower.
        within: float64 [n], for each text in scope the share of those out of scope that score higher.
    """

    beyond: FloatArray
    within: FloatArray

    @property
    def auroc(self) -> float:
        """The mean of either."""
        return float(self.beyond.mean())


def placements(uncertain: FloatArray, beyond: Mask) -> Placements:
    """Ties count half; by mid-ranks (Sun and Xu 2014), in O(N log N).

    Args:
        uncertain: float64 [N], higher means less certain.
        beyond: bool [N], which texts are out of scope; some are, and some are not.
    """
    above, below = uncertain[beyond], uncertain[~beyond]
    ranks = midranks(uncertain)
    lower = ranks[beyond] - midranks(above)
    not_lower = ranks[~beyond] - midranks(below)
    return Placements(lower / len(below), 1.0 - not_lower / len(above))


def paired_auroc(new: Placements, base: Placements) -> tuple[float, float]:
    """Difference of two AUROCs of the same texts, and its standard error (DeLong et al. 1988)."""
    parts = new.beyond - base.beyond, new.within - base.within
    variance = sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else float("nan") for part in parts)
    return float(parts[0].mean()), float(np.sqrt(variance))


OOS_AUROC = detection_metric("oos_auroc")
OOS_AUPR = detection_metric("oos_aupr")
OOS_FPR95 = detection_metric("oos_fpr95")
