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

from calibench.metrics.inputs import checked, top_label
from calibench.types import Evaluation, FloatArray, IntArray, Metric, Moments


@dataclass(frozen=True)
class Binning:
    """A partition of [0, 1] into `count` bins.

    Attributes:
        count: number of bins.
        assign: maps confidences, float64 [N] in [0, 1], to bins, int64 [N] in [0, count).
        definition: what a record says about it.
    """

    count: int
    assign: Callable[[FloatArray], IntArray]
    definition: Mapping[str, Any] = field(default_factory=dict)


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

    def assign(confidence: FloatArray) -> IntArray:
        inner = np.arange(1, count) / count
        edges = np.quantile(confidence, inner, method="inverted_cdf")
        return np.searchsorted(edges, confidence, side="left").astype(np.int64, copy=False)

    return Binning(count, assign, {"bins": count, "binning": "equal mass, ties share a bin"})


@dataclass(frozen=True)
class BinStatistic:
    """A number computed from J sums per bin.

    Attributes:
        columns: maps residuals, float64 [N], to the J columns to sum within bins, each float64 [N].
        finish: maps sums, float64 [R, J, bins], and the number of examples to values, float64 [R].
        definition: what a record says about it.
    """

    columns: Callable[[FloatArray], Sequence[FloatArray]]
    finish: Callable[[FloatArray, int], FloatArray]
    definition: Mapping[str, Any]


def l1() -> BinStatistic:
    """sum_b (n_b / N) |accuracy_b - confidence_b|, Naeini et al. (2015) and Guo et al. (2017)."""
    return BinStatistic(
        columns=lambda residual: (residual,),
        finish=lambda sums, n: np.abs(sums[:, 0]).sum(axis=1) / n,
        definition={"norm": "l1", "estimator": "plug-in"},
    )


def maximum() -> BinStatistic:
    """max_b |accuracy_b - confidence_b| over the bins that hold an example, Naeini et al. (2015)."""

    def finish(sums: FloatArray, n: int) -> FloatArray:  # noqa: ARG001 - the signature of a `finish`
        residual, held = sums[:, 0], sums[:, 1]
        largest: FloatArray = (np.abs(residual) / np.maximum(held, 1.0)).max(axis=1)
        return largest

    return BinStatistic(
        columns=lambda residual: (residual, np.ones_like(residual)),
        finish=finish,
        definition={"norm": "max", "estimator": "plug-in"},
    )


def debiased_squared_l2() -> BinStatistic:
    """Unbiased estimate of sum_b (n_b / N) (E[correct - confidence | bin b])^2; it may be negative.

    The squared mean residual of a bin overstates its square by the variance of the mean; here that variance
    is estimated and taken off, as in Kumar et al. (2019) and Broecker (2012), but for the residuals instead
    of the labels, which makes each bin's term the U-statistic sum_{i != j} r_i r_j / (n_b (n_b - 1)). It is
    unbiased for every joint distribution of confidence and label (given the counts; a bin with one example
    has no variance and counts as zero). Values stay squared: their expectation, and so a difference between
    two methods, does not depend on how sharp the methods are, which no root of them can keep.
    """

    def finish(sums: FloatArray, n: int) -> FloatArray:
        total, squares, held = sums[:, 0], sums[:, 1], sums[:, 2]
        pairs = (total**2 - squares) / np.maximum(held - 1.0, 1.0)
        values: FloatArray = np.where(held > 1.0, pairs, 0.0).sum(axis=1) / n
        return values

    return BinStatistic(
        columns=lambda residual: (residual, residual**2, np.ones_like(residual)),
        finish=finish,
        definition={"norm": "squared l2", "estimator": "unbiased (U-statistic of residuals)"},
    )


def sums_by_bin(columns: Sequence[FloatArray], bins: IntArray, count: int) -> FloatArray:
    """Sums over the examples of each bin, float64 [J, count]; memory is linear in N and in `count`."""
    return np.stack([np.bincount(bins, weights=column, minlength=count) for column in columns])


def sparse_rows(data: FloatArray, columns: IntArray, width: int) -> Any:
    """The sparse [N, width] whose row i holds `data[i]` in columns `columns[i]`, both [N, J]."""
    n, entries = data.shape
    starts = np.arange(0, n * entries + 1, entries)
    return sparse.csr_array((data.ravel(), columns.ravel(), starts), shape=(n, width))


def binned_metric(
    name: str,
    title: str,
    binning: Binning,
    statistic: BinStatistic,
    *,
    outcome: Callable[[Evaluation], tuple[FloatArray, FloatArray]] = top_label,
    definition: Mapping[str, Any] | None = None,
    needs_posterior: bool = False,
) -> Metric:
    """The metric that is `statistic` of the residuals of the predicted class, binned by its confidence.

    `outcome` gives confidence and correctness, each float64 [N]. In the moments form the bins are those
    of the evaluation it was made from, also where they depend on its confidences.
    """

    def prepared(evaluation: Evaluation) -> tuple[Sequence[FloatArray], IntArray]:
        confidence, correct = outcome(checked(evaluation))
        return statistic.columns(correct - confidence), binning.assign(confidence)

    def evaluate(evaluation: Evaluation) -> float:
        columns, bins = prepared(evaluation)
        sums = sums_by_bin(columns, bins, binning.count)
        return float(statistic.finish(sums[None], len(evaluation))[0])

    def moments(evaluation: Evaluation) -> Moments:
        columns, bins = prepared(evaluation)
        kinds, count = len(columns), binning.count
        places = bins[:, None] + count * np.arange(kinds)
        return Moments(
            sparse_rows(np.stack(columns, axis=1), places, kinds * count),
            lambda sums, n: statistic.finish(sums.reshape(-1, kinds, count), n),
        )

    return Metric(
        name=name,
        title=title,
        better="lower",
        evaluate=evaluate,
        moments=moments,
        definition={**binning.definition, **statistic.definition, **(definition or {})},
        needs_posterior=needs_posterior,
    )
