"""Calibration errors by bins of confidence: each is a function of sums over the examples of a bin.

The residual of an example is correct - confidence; a calibrated model's residuals average to zero in every
bin. The mean residual of a bin is its accuracy minus its mean confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from calibench.metrics.crossfitting import optimism
from calibench.metrics.inputs import checked, given_to, predicted_class, top_label
from calibench.stats.intervals import Direction, inverted_norm, squared_norm
from calibench.stats.mapped import PART, let_go
from calibench.stats.resampling import InParts, coin_sums, many
from calibench.types import Evaluation, FloatArray, IntArray, Metric, Moments

#: Errors of the predicted class from which on a plug-in error has an interval.
FEWEST_ERRORS = 5


@dataclass(frozen=True)
class Binning:
    """A partition of [0, 1] into `count` bins.

    Attributes:
        count: number of bins.
        assign: maps confidences, float64 [N] in [0, 1], to bins, int64 [N] in [0, count).
        definition: what a record says about it.
        of_all: maps all confidences to the `assign` of some of them, where bins hang on all; else None.
    """

    count: int
    assign: Callable[[FloatArray], IntArray]
    definition: Mapping[str, Any] = field(default_factory=dict)
    of_all: Callable[[FloatArray], Callable[[FloatArray], IntArray]] | None = None


def equal_width(count: int) -> Binning:
    """Bins [i/count, (i+1)/count), the last one closed: confidence exactly 1 belongs to it.

    Left-closed as in BaaL, which the study used; Guo et al. (2017) close on the right. Only a confidence
    that is exactly on an edge can tell.
    """

    def assign(confidence: FloatArray) -> IntArray:
        return np.minimum((confidence * count).astype(np.int64), count - 1)

    return Binning(count, assign, {"bins": count, "binning": "equal width, left-closed, last one closed"})


def equal_mass(count: int) -> Binning:
    """Bins between the i/count quantiles of the confidences at hand, closed on the right.

    Equal confidences share a bin, whatever their order, so that many ties leave some bins empty.
    """

    def of_all(confidence: FloatArray) -> Callable[[FloatArray], IntArray]:
        inner = np.arange(1, count) / count
        edges = np.quantile(confidence, inner, method="inverted_cdf")
        return lambda some: np.searchsorted(edges, some, side="left").astype(np.int64, copy=False)

    return Binning(
        count,
        lambda confidence: of_all(confidence)(confidence),
        {"bins": count, "binning": "equal mass, ties share a bin"},
        of_all,
    )


@dataclass(frozen=True)
class BinStatistic:
    """A number computed from J sums per bin.

    Attributes:
        columns: maps residuals, float64 [N, M], to the J columns to sum within bins, each float64 [N, M]; the
            first are the residuals themselves.
        finish: maps sums, float64 [R, J, bins], to values, float64 [R].
        interval: maps sums, float64 [J, bins], the least variances of residuals, float64 [bins], what
            cross-fitting hides, the level and a function that makes resampled sums, float64 [R, J, bins], to
            the ends of an interval.
        definition: what a record says about it.
    """

    columns: Callable[[FloatArray], Sequence[FloatArray]]
    finish: Callable[[FloatArray], FloatArray]
    interval: Callable[[FloatArray, FloatArray, float, float, Callable[[], FloatArray]], tuple[float, float]]
    definition: Mapping[str, Any]


def plug_in(
    norm: Callable[[FloatArray], FloatArray], divisor: Callable[[FloatArray], FloatArray], name: str
) -> BinStatistic:
    """A norm of the bins' residual sums over a divisor: it vanishes when each bin's residuals sum to zero.

    Args:
        norm: maps float64 [R, bins] to values, float64 [R].
        divisor: maps the bins' counts, float64 [R, bins], to divisors that broadcast with them.
        name: of the norm, for the record.
    """

    def interval(
        sums: FloatArray,
        expected: FloatArray,
        hidden: float,
        level: float,
        resampled: Callable[[], FloatArray],
    ) -> tuple[float, float]:
        inside = sums[1] > 0.0
        residual, held = sums[:, inside]
        expected = expected[inside]
        gap = residual / held
        drawn, counts = np.moveaxis(resampled()[:, :, inside], 1, 0)
        # Half the precision is enough for what is noise, and twice as fast.
        noise = (_noise(residual, held, expected, drawn, counts) / divisor(counts)).astype(np.float32)
        directions = []
        # Of all truths of one norm, the plug-in reads most above those that repeat the observed pattern, with
        # its bins near zero, and least above those that leave no bin near zero.
        for pattern in (gap, np.where(gap < 0.0, -1.0, 1.0)):
            unit = float(norm(pattern * held / divisor(held[None]))[0])
            if unit > 0.0:
                pull = (pattern / unit * counts / divisor(counts)).astype(np.float32)
                directions.append(Direction(noise, pull))
        observed = float(norm(residual / divisor(held[None]))[0])
        low, high = inverted_norm(directions, norm, observed + hidden, level)
        return low, min(high, 1.0)

    return BinStatistic(
        columns=lambda residual: (residual, np.ones_like(residual)),
        finish=lambda sums: norm(sums[:, 0] / divisor(sums[:, 1])),
        interval=interval,
        definition={"norm": name, "estimator": "plug-in", "interval": "bootstrap test, inverted"},
    )


def _noise(
    residual: FloatArray, held: FloatArray, expected: FloatArray, drawn: FloatArray, counts: FloatArray
) -> FloatArray:
    # Resampled sums about the bin's own mean vary too little by (held - 1) / held, and in a bin with one
    # example not at all: there the example's own square is an unbiased estimate of its variance.
    noise: FloatArray = np.subtract(drawn, residual / held * counts, order="C")
    noise *= np.sqrt(held / np.maximum(held - 1.0, 1.0))
    lone = held <= 1.0
    noise[:, lone] = (counts[:, lone] - 1.0) * residual[lone]
    # A bin whose few answers are all right varies by next to nothing in the sample: were its confidences
    # true, it would by sum c (1 - c).
    spread = noise.std(axis=0)
    missing = np.sqrt(np.maximum(expected - spread**2, 0.0))
    more = np.random.default_rng(0).standard_normal(noise.shape)
    more *= missing
    noise += more
    return noise


def l1() -> BinStatistic:
    """sum_b (n_b / N) |accuracy_b - confidence_b|, Naeini et al. (2015) and Guo et al. (2017)."""
    return plug_in(lambda gaps: np.abs(gaps).sum(axis=1), lambda held: held.sum(axis=1, keepdims=True), "l1")


def maximum() -> BinStatistic:
    """max_b |accuracy_b - confidence_b| over the bins that hold an example, Naeini et al. (2015)."""
    return plug_in(lambda gaps: np.abs(gaps).max(axis=1), lambda held: np.maximum(held, 1.0), "max")


def debiased_squared_l2() -> BinStatistic:
    """Unbiased estimate of sum_b (n_b / N) (E[correct - confidence | bin b])^2; it may be negative.

    The squared mean residual of a bin overstates its square by the variance of the mean; here that variance
    is estimated and taken off, as in Kumar et al. (2019) and Broecker (2012), but for the residuals instead
    of the labels, which makes each bin's term the U-statistic sum_{i != j} r_i r_j / (n_b (n_b - 1)). It is
    unbiased for every joint distribution of confidence and label (given the counts; a bin with one example
    has no variance and counts as zero). Values stay squared: their expectation, and so a difference between
    two methods, does not depend on how sharp the methods are, which no root of them can keep.
    """

    def finish(sums: FloatArray) -> FloatArray:
        total, squares, held = sums[:, 0], sums[:, 1], sums[:, 2]
        pairs = (total**2 - squares) / np.maximum(held - 1.0, 1.0)
        values: FloatArray = np.where(held > 1.0, pairs, 0.0).sum(axis=1) / held.sum(axis=1)
        return values

    def interval(
        sums: FloatArray, expected: FloatArray, hidden: float, level: float, _: Callable[[], FloatArray]
    ) -> tuple[float, float]:
        estimate = float(finish(sums[None])[0]) + hidden
        return squared_norm(estimate, *_squared_norm_cumulants(sums, expected), level)

    return BinStatistic(
        columns=lambda residual: (residual, residual**2, np.ones_like(residual)),
        finish=finish,
        interval=interval,
        definition={
            "norm": "squared l2",
            "estimator": "unbiased (U-statistic of residuals)",
            "interval": "score, with first- and second-order variance",
        },
    )


def _squared_norm_cumulants(
    sums: FloatArray, expected: FloatArray
) -> tuple[tuple[float, float], tuple[float, float]]:
    # A bin adds a (X - 1), with a = variance / n and X chi-squared with one degree of freedom and
    # noncentrality l = held gap^2 / variance: its cumulants of second and third order are a^2 (2 + 4 l) and
    # a^3 (8 + 24 l), and what it adds to the norm is a l. The spread of the counts adds to the second.
    # A bin of right answers only has no variance in the sample; were its confidences true, it would have one.
    total, squares, held = sums
    n = held.sum()
    gap = total / np.maximum(held, 1.0)
    variance = np.maximum(squares - held * gap**2, 0.0) / np.maximum(held - 1.0, 1.0)
    variance = np.where(held > 1.0, np.maximum(variance, expected / np.maximum(held, 1.0)), 0.0)
    share, a = held / n, variance / n
    norm = float(share @ gap**2)
    second = 4.0 * float(share @ (gap**2 * a)) + (float(share @ gap**4) - norm**2) / n
    third = 24.0 * float(share @ (gap**2 * a**2))
    per_unit = (second / norm, third / norm) if norm > 0.0 else (0.0, 0.0)
    return per_unit, (2.0 * float(a @ a), 8.0 * float(a @ a**2))


def sums_by_bin(columns: Sequence[FloatArray], bins: IntArray, count: int) -> FloatArray:
    """Sums of each column's entries by bin, float64 [J, count]; memory is linear in their number."""
    places = bins.ravel()
    return np.stack([np.bincount(places, weights=column.ravel(), minlength=count) for column in columns])


def features_by_bin(columns: Sequence[FloatArray], bins: IntArray, count: int) -> Any:
    """The sparse [N, J * count] whose column sums are `sums_by_bin`, flattened; bins are int64 [N, M]."""
    n, width = len(bins), len(columns) * count
    data = np.concatenate(columns, axis=1)
    places = np.concatenate([bins + kind * count for kind in range(len(columns))], axis=1)
    starts = np.arange(0, data.size + 1, data.shape[1])
    return sparse.csr_array((data.ravel(), places.ravel(), starts), shape=(n, width))


@dataclass(frozen=True)
class Outcome:
    """M confidences of each example, and what came of them.

    Attributes:
        confidence: maps what is evaluated and probabilities, float64 [N, C], to the confidences that these
            give, float64 [N, M]; with the probabilities of another model, in what the evaluated one says.
        came: what came of each, float64 [N, M].
        least_spread: maps the number of a bin's examples, of those that came, and their sum of c (1 - c),
            float64 [bins] each, to the variance that its sum of residuals has at the least, float64 [bins].
        of_classes: whether M is C and not 1, so that of many examples only some are looked at together.
    """

    confidence: Callable[[Evaluation, FloatArray], FloatArray]
    came: Callable[[Evaluation], FloatArray]
    least_spread: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    of_classes: bool = False

    def whole(self, evaluation: Evaluation) -> Callable[[slice], tuple[FloatArray, FloatArray]]:
        """Confidences of some rows and what came of them, float64 [n, M] each."""
        if self.of_classes:

            def some(rows: slice) -> tuple[FloatArray, FloatArray]:
                part = evaluation.take(rows)
                found = self.confidence(part, part.probs), self.came(part)
                let_go(evaluation.probs)
                return found

            return some
        confidence, came = self.confidence(evaluation, evaluation.probs), self.came(evaluation)
        return lambda rows: (confidence[rows], came[rows])


def of_predicted(evaluation: Evaluation, probs: FloatArray) -> FloatArray:
    """The probability of the evaluated model's predicted class, float64 [N, 1]."""
    if probs is evaluation.probs:
        return top_label(evaluation)[0][:, None]
    return given_to(predicted_class(evaluation), probs)[:, None]


def _is_label(evaluation: Evaluation) -> FloatArray:
    labels = evaluation.labels
    is_label = np.zeros(evaluation.probs.shape)
    is_label[np.arange(len(labels)), labels] = 1.0
    return is_label


def _of_calibrated(held: FloatArray, came: FloatArray, expected: FloatArray) -> FloatArray:  # noqa: ARG001
    """Of labels that are drawn from the confidences: the sum of c (1 - c)."""
    return expected


def _of_few_errors(held: FloatArray, came: FloatArray, expected: FloatArray) -> FloatArray:
    """The larger of what calibrated labels have, and of the bin's share of errors with half of one added.

    A bin that has seen no error says little of how rare they are, and a model that is too sure says less than
    is true (Jeffreys' prior; Brown, Cai and DasGupta 2001). Of bins with a handful of examples each, whose
    halves would be most of the errors, it is too much: see `SMALL_BINS`.
    """
    share = (held - came + 0.5) / (held + 1.0)
    larger: FloatArray = np.maximum(expected, held * share * (1.0 - share))
    return larger


def no_spread(held: FloatArray, came: FloatArray, expected: FloatArray) -> FloatArray:  # noqa: ARG001
    """Of what comes without the noise of labels: none."""
    return np.zeros_like(expected)


def _is_right(evaluation: Evaluation) -> FloatArray:
    return top_label(evaluation)[1][:, None]


SMALL_BINS = Outcome(of_predicted, _is_right, _of_calibrated)
PREDICTED_CLASS = Outcome(of_predicted, _is_right, _of_few_errors)
EVERY_CLASS = Outcome(lambda _, probs: np.minimum(probs, 1.0), _is_label, _of_calibrated, of_classes=True)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Some examples in their bins.

    Attributes:
        columns: J of float64 [n, M], to be summed within bins.
        bins: int64 [n, M].
        confidence: float64 [n, M].
    """

    columns: Sequence[FloatArray]
    bins: IntArray
    confidence: FloatArray


@dataclass(frozen=True, eq=False)
class Rows:
    """All examples in their bins, some at a time.

    Attributes:
        of: maps rows to what is `Prepared` of them.
        n: how many there are.
        kinds: M, confidences of each.
        count: bins in all.
    """

    of: Callable[[slice], Prepared]
    n: int
    kinds: int
    count: int

    def sums(self, columns: Callable[[Prepared], Sequence[FloatArray]] | None = None) -> FloatArray:
        """`sums_by_bin` of the columns, or of others, float64 [J, count]."""
        step = max(1, PART // self.kinds)
        found = []
        for start in range(0, self.n, step):
            part = self.of(slice(start, start + step))
            found.append(
                sums_by_bin(part.columns if columns is None else columns(part), part.bins, self.count)
            )
        return found[0] if len(found) == 1 else np.sum(found, axis=0)

    def features(self) -> Any:
        """`features_by_bin`, in parts where there are many examples."""

        def made(rows: slice) -> Any:
            part = self.of(rows)
            return features_by_bin(part.columns, part.bins, self.count)

        if not many(self.n):
            return made(slice(None))
        kinds = len(self.of(slice(0, 1)).columns)
        return InParts((self.n, kinds * self.count), kinds * self.kinds, made)


def _of_coins(found: Prepared) -> Sequence[FloatArray]:
    """One for each confidence, what came of it, and c (1 - c)."""
    confidence = found.confidence
    return np.ones_like(confidence), found.columns[0] + confidence, confidence * (1.0 - confidence)


def binned_metric(
    name: str,
    title: str,
    binning: Binning,
    statistic: BinStatistic,
    *,
    outcome: Outcome = PREDICTED_CLASS,
    fewest_errors: int = 0,
    definition: Mapping[str, Any] | None = None,
    needs_posterior: bool = False,
    needs_classes: bool = False,
) -> Metric:
    """The metric that is `statistic` of residuals, binned by confidence.

    Each of the outcome's M confidences has bins of its own. In the moments form the bins are those of the
    evaluation it was made from, also where they depend on its confidences.

    Args:
        fewest_errors: of the predicted class, for an interval: fewer do not tell how far off
            a model that is too sure may be.
    """

    def prepared(evaluation: Evaluation) -> Rows:
        whole = outcome.whole(checked(evaluation))
        kinds = evaluation.probs.shape[1] if outcome.of_classes else 1
        assign = binning.assign
        if binning.of_all is not None:
            assign = binning.of_all(outcome.confidence(evaluation, evaluation.probs))

        def of_rows(rows: slice) -> Prepared:
            confidence, came = whole(rows)
            bins = assign(confidence) + binning.count * np.arange(kinds)
            return Prepared(statistic.columns(came - confidence), bins, confidence)

        return Rows(of_rows, len(evaluation), kinds, binning.count * kinds)

    def evaluate(evaluation: Evaluation) -> float:
        hidden = evaluation.optimism.get(name, 0.0)
        return float(statistic.finish(prepared(evaluation).sums()[None])[0]) + hidden

    def moments(evaluation: Evaluation) -> Moments:
        rows = prepared(evaluation)
        features, hidden = rows.features(), evaluation.optimism.get(name, 0.0)
        shape = (-1, features.shape[1] // rows.count, rows.count)
        errors = np.count_nonzero(top_label(evaluation)[1] == 0.0) if fewest_errors else 0
        expected = outcome.least_spread(*rows.sums(_of_coins))
        return Moments(
            features,
            lambda sums, _: statistic.finish(sums.reshape(shape)) + hidden,
            lambda sums, _, level, resampled: (
                statistic.interval(
                    sums.reshape(shape)[0], expected, hidden, level, lambda: resampled().reshape(shape)
                )
                if errors >= fewest_errors
                else (-np.inf, np.inf)
            ),
        )

    def of_refits(evaluation: Evaluation, refits: Sequence[FloatArray]) -> float:
        rows = prepared(evaluation)
        sums, bins, count = rows.sums(), rows.of(slice(None)).bins, rows.count
        given = [sums_by_bin([outcome.confidence(evaluation, probs)], bins, count)[0] for probs in refits]

        def value_of(residual: FloatArray) -> FloatArray:
            others = np.broadcast_to(sums[1:], (len(residual), *sums[1:].shape))
            return statistic.finish(np.concatenate([residual[:, None], others], axis=1))

        return optimism(sums[0], np.stack(given), value_of)

    def self_drawn(probs: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
        # Whether the predicted class is right is a coin: which other class the label is tells nothing.
        nothing = Evaluation(probs, np.zeros(len(probs), dtype=np.int64))
        confidence = outcome.confidence(checked(nothing), probs)
        wrong, right = (np.stack(statistic.columns(came - confidence))[:, :, 0] for came in (0.0, 1.0))
        bins = binning.assign(confidence)[:, 0]
        return statistic.finish(coin_sums(confidence[:, 0], wrong, right, bins, binning.count, draws, rng))

    return Metric(
        name=name,
        title=title,
        better="lower",
        evaluate=evaluate,
        moments=moments,
        self_drawn=self_drawn if outcome in (PREDICTED_CLASS, SMALL_BINS) else None,
        definition={**binning.definition, **statistic.definition, **(definition or {})},
        needs_posterior=needs_posterior,
        optimism=None if needs_posterior else of_refits,
        needs_classes=needs_classes,
    )
