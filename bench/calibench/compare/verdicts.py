"""Is a method better than the reference? Paired differences on the same examples, with a verdict in words.

Each metric of the family is written as a mean over examples: of its losses, or of its jackknife pseudo-values
where it is no plain mean (the debiased calibration error). A paired difference is then the mean of N
differences, whatever the metric, and one statistic serves all: Student's, corrected for skewness; accuracy,
where a handful of examples may make the difference, has McNemar's. Where examples are out of scope, how well
they are told from the others is a mean over pairs of examples, with a test of its own, DeLong's. P-values
reach far into the tail, where 10,000 resamples have nothing to count, and are adjusted by Holm's procedure
for the whole family, methods times metrics: with 95% probability no verdict is a false alarm. A sample with
few errors says little about what errors cost: see `calibench.compare.unseen`.

Examples are what is resampled. Masks that are drawn for each example vary with it; what all examples share,
such as an assignment to folds, is that of the seed that was run: see `calibench.stats.montecarlo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from calibench.compare.unseen import Unseen, unseen
from calibench.errors import CalibenchError
from calibench.metrics.calibration import ECE_DEBIASED
from calibench.metrics.detection import OOS_AUROC, Placements, paired_auroc, placements, score_of
from calibench.metrics.scoring import ACCURACY, BRIER, BRIER_CONFIDENCE, NLL
from calibench.stats.intervals import (
    LEVEL,
    Ends,
    accelerated,
    cautious_mean,
    cautious_p_value,
    mcnemar_p_value,
    mean_spread_skew,
    paired_shares,
    two_sided,
)
from calibench.stats.resampling import BLOCK, resampled_sums
from calibench.types import Evaluation, FloatArray, IntArray, Interval, Metric

#: The metrics on which there is a verdict; all others only describe. Plug-in calibration errors are not
#: among them: they grow with the spread of the confidences, so that two calibrated models may differ in them.
FAMILY: tuple[Metric, ...] = (ACCURACY, NLL, BRIER, ECE_DEBIASED)

#: Probabilities this close are one prediction: float32 differs by as much between batch plans and machines.
SAME = 1e-5
#: Fewest examples for a verdict: the tests are of large samples.
FEWEST = 30

#: P-values of samples with few errors are found by halving, from here up.
LEAST_P, HALVINGS = 1e-10, 40

Verdict = Literal["better", "worse", "no difference shown"]
UNDECIDED: Verdict = "no difference shown"


#: The same where there are no classes, and predictions are confidences of answers.
BY_CONFIDENCE: tuple[Metric, ...] = (ACCURACY, BRIER_CONFIDENCE, ECE_DEBIASED)


def means_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """The metrics of the family that are means over the examples in scope."""
    return BY_CONFIDENCE if evaluation.by_confidence else FAMILY


def family_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """`means_of`, and with examples out of scope how well the method's score tells them."""
    means = means_of(evaluation)
    return means if (evaluation.labels >= 0).all() else (*means, OOS_AUROC)


@dataclass(frozen=True, eq=False)
class Pair:
    """What a method and its reference say about the same examples in one order.

    Attributes:
        method: name.
        reference, evaluation: what either predicts, and the labels. Where pairs share one, it is one object,
            and what is made of it is made once.
    """

    method: str
    reference: Evaluation
    evaluation: Evaluation

    @property
    def labels(self) -> IntArray:
        """int64 [N]; -1 for examples out of scope."""
        return self.reference.labels

    @property
    def same(self) -> bool:
        """Whether the probabilities are the same, as far as number formats let them be."""
        close = np.abs(self.evaluation.probs - self.reference.probs).max() <= SAME
        return bool(close) and np.array_equal(self.evaluation.labels, self.reference.labels)

    @property
    def same_ranks(self) -> bool:
        """Whether probabilities and scores are."""
        if self.evaluation.score is None or self.reference.score is None:
            return self.same and self.evaluation.score is self.reference.score
        score, base = (e.scores[str(e.score)] for e in (self.evaluation, self.reference))
        size = max(1.0, float(np.abs(base).max()))
        return self.same and bool(np.abs(score - base).max() <= SAME * size)


def evaluations_of(pairs: Sequence[Pair]) -> list[Evaluation]:
    """References and methods of the pairs, each once."""
    return list(dict.fromkeys(e for pair in pairs for e in (pair.reference, pair.evaluation)))


def ranked(
    probs: FloatArray, labels: IntArray, score: FloatArray | None, optimism: Mapping[str, float]
) -> Evaluation:
    """Predictions of a method that ranks by a score of its own, or by its largest probability."""
    scores = {} if score is None else {"own": score}
    return Evaluation(probs, labels, None, scores, None if score is None else "own", optimism)


@dataclass(frozen=True)
class Difference:
    """A method less the reference, in one metric.

    Attributes:
        method, metric: names.
        difference: with its 95% interval over examples, not adjusted for the family: the outer ends of the
            BCa bootstrap's and of the one that inverts the test, and for accuracy, where a bootstrap of a few
            examples has next to no width, Tango's score interval.
        p_value: two-sided, of no difference, not adjusted.
        adjusted_p: by Holm's procedure over the family.
        adjusted: the interval at the level at which Holm's procedure tested this difference; it leaves out
            zero exactly where the verdict says better or worse.
        detectable: the size of a true difference that a run like this shows four times in five; None where
            the two made the same predictions.
        verdict: in words.
    """

    method: str
    metric: str
    difference: Interval
    p_value: float
    adjusted_p: float
    adjusted: Interval
    detectable: float | None
    verdict: Verdict


def compare(
    reference: FloatArray,
    methods: Mapping[str, FloatArray],
    labels: IntArray,
    *,
    resamples: int = 10_000,
    level: float = LEVEL,
    seed: int,
) -> tuple[Difference, ...]:
    """Compare each method with the reference in each metric of `family_of` it, methods first.

    Args:
        reference: float64 [N, C], the reference's probabilities.
        methods: each method's probabilities, float64 [N, C], for the same examples in the same order.
        labels: int64 [N]; -1 for examples out of scope, which are part of their detection only.
        resamples: bootstrap resamples of the examples, shared by all differences.
        level: of the intervals; one minus it bounds the probability of any false verdict.

    Raises:
        CalibenchError: where a method's probabilities are not of the reference's shape, or no distributions.
    """
    base = Evaluation(reference, labels)
    pairs = [Pair(name, base, Evaluation(probs, labels)) for name, probs in methods.items()]
    return compare_pairs(pairs, resamples=resamples, level=level, seed=seed)


def compare_pairs(
    pairs: Sequence[Pair],
    *,
    resamples: int = 10_000,
    level: float = LEVEL,
    seed: int,
) -> tuple[Difference, ...]:
    """`compare` where methods have references of their own; the family is all pairs times `family_of`.

    A method whose probabilities are within `SAME` of its reference's everywhere does not differ from it.

    Args:
        pairs: about the same examples.

    Raises:
        CalibenchError: where a method's probabilities are not of its reference's shape, or no distributions,
            or their labels differ.
    """
    hypotheses = _hypotheses(pairs)
    columns = [item for item in hypotheses if isinstance(item, _Column)]
    if not columns:
        return ()
    table = np.stack([column.values for column in columns], axis=1)
    means = resampled_sums(table, resamples, np.random.default_rng(seed)) / len(table)
    return _judged(hypotheses, dict(zip(columns, means.T, strict=True)), level)


def _hypotheses(pairs: Sequence[Pair]) -> list[_Column | _Ranking]:
    """Every pair in every metric of the family, pairs first."""
    for pair in pairs:
        _check(pair)
    own: dict[Evaluation, list[FloatArray]] = {}
    ranks: dict[Evaluation, Placements] = {}
    for evaluation in evaluations_of(pairs):
        beyond, inside = evaluation.labels < 0, evaluation.in_scope()
        own[evaluation] = [contributions(metric, inside) for metric in means_of(inside)]
        if beyond.any():
            ranks[evaluation] = placements(score_of(evaluation), beyond)
    found: list[_Column | _Ranking] = []
    for pair in pairs:
        base, same = pair.reference, pair.same
        new = base if same else pair.evaluation
        found += [
            _Column(pair.method, metric, mine - theirs, same, _unseen(metric, base, new))
            for metric, mine, theirs in zip(means_of(base), own[new], own[base], strict=True)
        ]
        if ranks:
            same = pair.same_ranks
            new = base if same else pair.evaluation
            found.append(_Ranking(pair.method, OOS_AUROC, ranks[new], ranks[base], same))
    return found


def _unseen(metric: Metric, base: Evaluation, new: Evaluation) -> Unseen | None:
    if metric is ACCURACY or base is new or len(base.in_scope()) < FEWEST:
        return None
    return unseen(metric, base.in_scope(), new.in_scope())


def _inverted(within: Callable[[float], Ends]) -> float:
    """The two-sided p-value of zero: one minus the level at which the interval just reaches it."""

    def holds(p: float) -> bool:
        low, high = within(1.0 - p)
        return low <= 0.0 <= high

    least, most = LEAST_P, 1.0
    if not holds(least):
        return least
    for _ in range(HALVINGS):
        middle = math.sqrt(least * most)
        least, most = (middle, most) if holds(middle) else (least, middle)
    return most


def _check(pair: Pair) -> None:
    theirs, mine = pair.reference, pair.evaluation
    if mine.probs.shape != theirs.probs.shape:
        raise CalibenchError(
            f"{pair.method} has probabilities of shape {mine.probs.shape} and the reference "
            f"{theirs.probs.shape}; a paired comparison needs the same examples and classes from both."
        )
    # Where there are no classes each method gave answers of its own, and the labels say which were right.
    if not theirs.by_confidence and not np.array_equal(mine.labels, theirs.labels):
        raise CalibenchError(
            f"{pair.method} has other labels than the reference; a paired comparison needs the same examples "
            "in the same order from both."
        )


def _judged(
    hypotheses: Sequence[_Column | _Ranking], drawn: Mapping[_Column, FloatArray], level: float
) -> tuple[Difference, ...]:
    """A verdict on each hypothesis of one family; drawn are the resampled means of each column."""
    p_values = np.array([1.0 if item.few else item.p_value for item in hypotheses])
    adjusted, levels = holm(p_values, level)
    differences = []
    for k, item in enumerate(hypotheses):
        shown = bool(adjusted[k] <= 1.0 - level)
        differences.append(
            Difference(
                method=item.method,
                metric=item.metric.name,
                difference=Interval(item.mean, *item.alone(drawn, level)),
                p_value=float(p_values[k]),
                adjusted_p=float(adjusted[k]),
                adjusted=_adjusted(item, float(levels[k])),
                detectable=_detectable(item, 1.0 - (1.0 - level) / len(hypotheses)),
                verdict=verdict_of(item.metric, item.mean) if shown else UNDECIDED,
            )
        )
    return tuple(differences)


@dataclass(frozen=True, eq=False)
class _Column:
    """A hypothesis about a mean over examples.

    Attributes:
        values: float64 [N], differences by example.
        same: whether the predictions are, and so the differences none at all.
        unseen: what errors more would do; None where there are enough, or the test is exact.
    """

    method: str
    metric: Metric
    values: FloatArray
    same: bool
    unseen: Unseen | None = None

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def few(self) -> str | None:
        """Why there can be no verdict."""
        return _too_few(len(self.values))

    @property
    def power_sums(self) -> FloatArray:
        return np.array([(self.values**power).sum() for power in (1, 2, 3)])

    @property
    def changed(self) -> tuple[int, int]:
        """How many examples were gained and lost, where the metric is accuracy."""
        return int(np.count_nonzero(self.values > 0.5)), int(np.count_nonzero(self.values < -0.5))

    @property
    def p_value(self) -> float:
        if self.metric is ACCURACY:
            return mcnemar_p_value(*self.changed)
        if self.unseen is None:
            return cautious_p_value(self.power_sums, len(self.values))
        return _inverted(self.within)

    def within(self, level: float) -> Ends:
        """The interval that inverts the test; without width where the predictions are the same."""
        n = len(self.values)
        if self.metric is ACCURACY and not self.same:
            return paired_shares(*self.changed, n, level)
        ends = cautious_mean(self.power_sums, n, level)
        return ends if self.unseen is None else self.unseen.widened(ends, level)

    def alone(self, drawn: Mapping[_Column, FloatArray], level: float) -> Ends:
        """The interval for this difference only; drawn are resampled means, float64 [R], of each column."""
        if self.metric is ACCURACY:
            return self.within(level)
        # Of 200 examples the bootstrap alone holds 90 to 93% where a few of them make up the difference.
        mean, _, skew = mean_spread_skew(self.power_sums, len(self.values))
        both = [*accelerated(drawn[self], mean, skew, level), *self.within(level)]
        return min(both), max(both)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """A hypothesis about an AUROC of examples out of scope against those in scope (DeLong et al. 1988)."""

    method: str
    metric: Metric
    new: Placements
    base: Placements
    same: bool

    @property
    def mean(self) -> float:
        return paired_auroc(self.new, self.base)[0]

    @property
    def few(self) -> str | None:
        """Why there can be no verdict."""
        return _too_few(min(len(self.new.beyond), len(self.new.within)), " of one kind")

    @property
    def p_value(self) -> float:
        difference, spread = paired_auroc(self.new, self.base)
        if spread == 0.0:
            # Only the same ranks, or perfect ones, leave no spread: nothing there to test.
            return 1.0
        return float(2.0 * special.ndtr(-abs(difference) / spread))

    def within(self, level: float) -> Ends:
        """The interval that inverts the test."""
        difference, spread = paired_auroc(self.new, self.base)
        half = two_sided(level) * (0.0 if np.isnan(spread) else spread)
        return difference - half, difference + half

    def alone(self, drawn: Mapping[_Column, FloatArray], level: float) -> Ends:  # noqa: ARG002 - the test has an interval
        """The interval for this difference only."""
        return self.within(level)


def _too_few(n: int, what: str = "") -> str | None:
    return f"n too small: {n} examples{what}, a verdict needs {FEWEST}" if n < FEWEST else None


def _adjusted(item: _Column | _Ranking, level: float) -> Interval:
    if item.few:
        return Interval(item.mean, None, None, item.few)
    return Interval(item.mean, *item.within(level))


def _detectable(item: _Column | _Ranking, level: float) -> float | None:
    """Half the interval of the strictest step, and room for four in five true differences to pass it."""
    if item.few or item.same:
        return None
    low, high = item.within(level)
    return (high - low) / 2.0 * float(1.0 + special.ndtri(0.8) / two_sided(level))


def verdict_of(metric: Metric, difference: float) -> Verdict:
    """The word for a difference that is shown."""
    return "better" if (difference > 0.0) == (metric.better == "higher") else "worse"


def contributions(metric: Metric, evaluation: Evaluation) -> FloatArray:
    """Jackknife pseudo-values, float64 [N], shifted so that their mean is the metric (Tukey 1958).

    N theta - (N - 1) theta_(-i), with theta_(-i) the metric without example i: for a mean over examples, the
    example's own value. Their variance over N estimates the metric's, and too much rather than too little
    (Efron and Stein 1981): for a calibration error that is near zero, about twice too much.

    Raises:
        CalibenchError: where the metric has no moments form.
    """
    if metric.moments is None:
        raise CalibenchError(
            f"The metric {metric.name} is no function of sums over examples; a paired comparison needs one."
        )
    moments = metric.moments(evaluation)
    n, width = moments.features.shape
    total = np.asarray(moments.features.sum(axis=0)).reshape(1, -1)
    value = moments.finish(total, n)
    if n == 1:  # without its only example a metric is of nothing
        return value
    left_out = np.empty(n)
    step = max(1, BLOCK // width)
    for start in range(0, n, step):
        rows = moments.features[start : start + step]
        dense = np.asarray(rows if isinstance(rows, np.ndarray) else rows.toarray())
        left_out[start : start + step] = moments.finish(total - dense, n - 1)
    pseudo = n * value - (n - 1) * left_out
    shifted: FloatArray = pseudo - pseudo.mean() + value
    return shifted


def holm(p_values: FloatArray, level: float = LEVEL) -> tuple[FloatArray, FloatArray]:
    """Holm's (1979) step-down procedure.

    Args:
        p_values: float64 [m].
        level: one minus the family-wise error rate.

    Returns:
        adjusted p-values, float64 [m], and the confidence level at which each hypothesis was tested, float64
        [m]: 1 - alpha / (m - i + 1) for the i-th smallest p-value up to the first that is not rejected, whose
        level holds for all larger ones.
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    factors = m - np.arange(m)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    rejected = int(np.count_nonzero(adjusted <= 1.0 - level))
    levels = np.empty(m)
    levels[order] = 1.0 - (1.0 - level) / np.maximum(factors, m - rejected)
    return adjusted, levels
