"""Sums over resampled examples and over redrawn labels: what every bootstrap here is made of.

Up to `EXACT_EXAMPLES` examples are resampled one by one. Beyond, sums are drawn from their normal limit with
the exact mean and covariance, in one pass over the data: with so many examples the two differ by less than
the noise of 1,000 resamples, except for what hangs on a bin with only a handful of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from calibench.types import Evaluation, FloatArray, IntArray, Metric

#: Above this many examples sums are drawn from their normal limit.
EXACT_EXAMPLES = 20_000
#: Numbers held at once while resampling, 8 bytes each.
BLOCK = 4_000_000


def blocks(total: int, size_of_one: int) -> Iterator[int]:
    """Split `total` resamples into counts whose arrays stay below `BLOCK` numbers, one at the least."""
    most = max(1, BLOCK // max(1, size_of_one))
    for start in range(0, total, most):
        yield min(most, total - start)


def resample_counts(rng: np.random.Generator, resamples: int, n: int) -> FloatArray:
    """How often each of n examples was drawn in n draws with replacement, float64 [resamples, n]."""
    draws = rng.integers(0, n, size=(resamples, n))
    draws += n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def resampled_sums(features: Any, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Column sums over bootstrap resamples of the rows, float64 [resamples, K].

    Args:
        features: float64 [N, K], dense or sparse.
        resamples: number of resamples of N rows each.
        rng: the order in which it is used depends on N only, so that equal seeds give equal resamples to
            every metric of the same examples.
    """
    n = features.shape[0]
    if n > EXACT_EXAMPLES:
        total = np.asarray(features.sum(axis=0)).ravel()
        return normal_sums(total, gram(features) - np.outer(total, total) / n, resamples, rng)
    # A dense product is about forty times faster per number than a sparse one.
    if not isinstance(features, np.ndarray) and features.shape[1] < 40 * features.nnz / n:
        features = features.toarray() if n * features.shape[1] <= 4 * BLOCK else features
    return np.concatenate([resample_counts(rng, count, n) @ features for count in blocks(resamples, n)])


def resampled_together(features: Sequence[Any], resamples: int, rng: np.random.Generator) -> list[FloatArray]:
    """`resampled_sums` of several features of the same examples, [N, K_j] each, over the same resamples."""
    if not features:
        return []
    whole = features[0] if len(features) == 1 else sparse.hstack(features, format="csr")
    sums = resampled_sums(whole, resamples, rng)
    return np.split(sums, np.cumsum([part.shape[1] for part in features])[:-1], axis=1)


def gram(features: Any) -> FloatArray:
    """features' features, float64 [K, K]."""
    product = features.T @ features
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


def normal_sums(mean: FloatArray, covariance: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """Draws of a normal vector, float64 [draws, K]; the covariance [K, K] may be singular."""
    scale, directions = np.linalg.eigh(covariance)
    root = directions * np.sqrt(np.maximum(scale, 0.0))
    drawn: FloatArray = mean + rng.standard_normal((draws, len(mean))) @ root.T
    return drawn


def draw_labels(probs: FloatArray, rng: np.random.Generator) -> IntArray:
    """One label from each row of probs [N, C], int64 [N]; of confidences, C = 1, whether the answer is "
    "wrong."""
    probs = _with_wrong(probs)
    upper = np.cumsum(probs, axis=1)
    # Rows sum to 1 only up to rounding: scaling the draw keeps it below the last upper end.
    drawn = rng.random((len(probs), 1)) * upper[:, -1:]
    labels: IntArray = (drawn >= upper[:, :-1]).sum(axis=1)
    return labels


def _with_wrong(probs: FloatArray) -> FloatArray:
    """Probabilities of all labels there can be, float64 [N, max(2, C)]."""
    return np.concatenate([probs, 1.0 - probs], axis=1) if probs.shape[1] == 1 else probs


def self_drawn_values(metric: Metric, probs: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """The metric with labels drawn from the probabilities themselves, float64 [draws]."""
    n, classes = probs.shape
    if metric.moments is None:
        return np.array([metric.evaluate(Evaluation(probs, draw_labels(probs, rng))) for _ in range(draws)])
    if n > EXACT_EXAMPLES:
        return _self_drawn_limit(metric, probs, draws, rng)
    values = []
    for count in blocks(draws, n * classes):
        tiled = np.tile(probs, (count, 1))
        moments = metric.moments(Evaluation(tiled, draw_labels(tiled, rng)))
        rows = np.arange(count * n)
        member = _membership(rows // n, count)
        values.append(moments.finish(_dense(member @ moments.features), n))
    return np.concatenate(values)


def _membership(group: IntArray, groups: int) -> Any:
    n = len(group)
    return sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(groups, n))


def _dense(product: Any) -> FloatArray:
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


def _self_drawn_limit(metric: Metric, probs: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    # Given the texts, sums are independent over examples: mean and covariance add up over them.
    assert metric.moments is not None
    n = len(probs)
    expected: Any = 0.0
    second: Any = 0.0
    likelihood = _with_wrong(probs)
    for label in range(likelihood.shape[1]):
        moments = metric.moments(Evaluation(probs, np.full(n, label)))
        weighted = _scale_rows(moments.features, likelihood[:, label])
        expected = expected + weighted
        second = second + _dense(weighted.T @ moments.features)
    total = np.asarray(expected.sum(axis=0)).ravel()
    return moments.finish(normal_sums(total, second - gram(expected), draws, rng), n)


def _scale_rows(features: Any, weights: FloatArray) -> Any:
    if isinstance(features, np.ndarray):
        return features * weights[:, None]
    return sparse.csr_array(sparse.diags_array(weights) @ features)
