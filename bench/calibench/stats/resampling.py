"""Sums over resampled examples and over redrawn labels: what every bootstrap here is made of.

Up to `EXACT_EXAMPLES` examples are resampled one by one. Beyond, sums are drawn from their normal limit with
the exact mean and covariance, in one pass over the data: with so many examples the two differ by less than
the noise of 1,000 resamples, except for what hangs on a bin with only a handful of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from calibench.stats.threads import in_order
from calibench.types import Evaluation, FloatArray, IntArray, Metric

#: Above this many examples sums are drawn from their normal limit.
EXACT_EXAMPLES = 10_000
#: Columns from which on the limit is drawn by groups of examples, and how many groups.
WIDE, GROUPS = 512, 4096
#: Share of the examples in a column of features from which on it is summed as a dense one.
DENSE = 0.05
#: Resamples made together at the most: so many of a few thousand examples stay in a processor's cache.
TOGETHER = 64
#: Numbers held at once while resampling, 8 bytes each.
BLOCK = 4_000_000


def many(n: int) -> bool:
    """Whether so many examples are resampled by their normal limit."""
    return n > EXACT_EXAMPLES


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


def counted(n: int, resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each of n examples is drawn, float64 [n, r], for a number r of resamples at a time.

    Examples come first, so that what is added up over them is added row by row. The order in which the
    generator is used depends on n only: equal seeds give every metric of the same examples equal resamples.
    """
    for count in blocks(resamples, max(n, BLOCK // TOGETHER)):
        yield np.ascontiguousarray(resample_counts(rng, count, n).T)


class InParts:
    """Features of many examples, float64 [N, K], made of some rows at a time and never held together.

    Args:
        shape: N and K.
        entries: numbers that a row holds, zeros left out.
        made: the features of some rows, an array or a sparse one in CSR form.
    """

    def __init__(self, shape: tuple[int, int], entries: int, made: Callable[[slice], Any]) -> None:
        self.shape, self.entries, self._made = shape, entries, made

    def __getitem__(self, rows: slice) -> Any:
        return self._made(rows)

    def __iter__(self) -> Iterator[Any]:
        step = max(1, BLOCK // self.entries)
        for start in range(0, self.shape[0], step):
            yield self._made(slice(start, min(start + step, self.shape[0])))

    def sum(self, axis: int) -> FloatArray:
        """Column sums, float64 [K], which are those over axis 0."""
        assert axis == 0
        total: FloatArray = np.sum([_column_sums(part) for part in self], axis=0)
        return total


def _column_sums(features: Any) -> FloatArray:
    return np.asarray(features.sum(axis=0)).ravel()


class Summed:
    """Column sums of features, [N, K], over resamples that are given by how often each example was drawn.

    Columns that few examples are in are summed as what they are, sparse; all others by one dense product,
    which is many times faster per number.
    """

    def __init__(self, features: Any) -> None:
        self._width = features.shape[1]
        if isinstance(features, np.ndarray):
            self._dense, self._rows = np.arange(self._width), features.T
            return
        columns = sparse.csc_array(features)
        filled = np.diff(columns.indptr)
        full = filled >= DENSE * features.shape[0]
        self._dense, self._sparse = np.flatnonzero(full), np.flatnonzero(~full & (filled > 0))
        self._rows = np.ascontiguousarray(columns[:, self._dense].toarray().T)
        self._few = sparse.csr_array(columns[:, self._sparse].T)

    def over(self, counts: FloatArray) -> FloatArray:
        """float64 [R, K] of counts, float64 [N, R]."""
        if len(self._dense) == self._width:
            whole: FloatArray = (self._rows @ counts).T
            return whole
        sums = np.zeros((counts.shape[1], self._width))
        sums[:, self._dense] = (self._rows @ counts).T
        sums[:, self._sparse] = (self._few @ counts).T
        return sums


def resampled_sums(features: Any, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Column sums over bootstrap resamples of the rows, float64 [resamples, K].

    Args:
        features: float64 [N, K], dense or sparse.
        resamples: number of resamples of N rows each.
        rng: used as in `counted`.
    """
    n = features.shape[0]
    if many(n):
        return limit_sums(features, resamples, rng)
    summed = Summed(features)
    return np.concatenate(list(in_order(summed.over, counted(n, resamples, rng))))


def resampled_together(features: Sequence[Any], resamples: int, rng: np.random.Generator) -> list[FloatArray]:
    """`resampled_sums` of several features of the same examples, [N, K_j] each, over the same resamples."""
    if len(features) < 2:
        return [resampled_sums(part, resamples, rng) for part in features]
    widths = [part.shape[1] for part in features]
    if any(isinstance(part, InParts) for part in features):
        n, entries = features[0].shape[0], sum(getattr(part, "entries", part.shape[1]) for part in features)
        whole: Any = InParts(
            (n, sum(widths)), entries, lambda rows: _side_by_side([p[rows] for p in features])
        )
    else:
        whole = _side_by_side(features)
    return np.split(resampled_sums(whole, resamples, rng), np.cumsum(widths)[:-1], axis=1)


def _side_by_side(features: Sequence[Any]) -> Any:
    if all(isinstance(part, np.ndarray) for part in features):
        return np.hstack(features)
    return sparse.hstack([sparse.csr_array(part) for part in features], format="csr")


def gram(features: Any) -> FloatArray:
    """features' features, float64 [K, K]."""
    product = features.T @ features
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


def limit_sums(features: Any, draws: int, rng: np.random.Generator) -> FloatArray:
    """Sums over resamples of many examples from their normal limit, float64 [draws, K].

    Of many columns no covariance is made: sums over `GROUPS` groups of examples get a normal weight each (Wu
    1986), which tells standard deviations to about one percent.
    """
    n, width = features.shape
    parts = features if isinstance(features, InParts) else [features]
    if width <= WIDE:
        both = [(_column_sums(part), gram(part)) for part in parts]
        total, products = (np.sum(kind, axis=0) for kind in zip(*both, strict=True))
        return normal_sums(total, products - np.outer(total, total) / n, draws, rng)
    apart, start = np.zeros((GROUPS, width)), 0
    for part in parts:
        rows = part.shape[0]
        group = (start + np.arange(rows)) % GROUPS
        grouped = sparse.csr_array((np.ones(rows), (group, np.arange(rows))), shape=(GROUPS, rows)) @ part
        if isinstance(grouped, np.ndarray):
            apart += grouped
        else:  # most places stay as they are
            filled = grouped.tocoo()
            apart[filled.row, filled.col] += filled.data
        start += rows
    total = apart.sum(axis=0)
    apart -= total / GROUPS
    drawn: FloatArray = rng.standard_normal((draws, GROUPS)) @ apart
    drawn += total
    return drawn


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
    if metric.self_drawn is not None:
        return metric.self_drawn(probs, draws, rng)
    return np.array([metric.evaluate(Evaluation(probs, draw_labels(probs, rng))) for _ in range(draws)])


def coin_sums(
    chance: FloatArray,
    tails: FloatArray,
    heads: FloatArray,
    bins: IntArray,
    count: int,
    draws: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Sums by bin of what independent coins show, float64 [draws, J, count].

    Args:
        chance: float64 [N], of heads.
        tails, heads: float64 [J, N], what is added where the coin shows the one or the other.
        bins: int64 [N], below `count`.
    """
    gained = heads - tails

    def by_bin(values: FloatArray) -> FloatArray:
        return np.bincount(bins, weights=values, minlength=count).astype(np.float64, copy=False)

    sums: FloatArray = np.zeros((draws, len(tails), count))
    sums += np.stack([by_bin(row) for row in tails])
    varying = [row for row, gain in enumerate(gained) if gain.any()]
    if many(len(chance)):
        expected = np.stack([by_bin(gained[row] * chance) for row in varying])
        spread = chance * (1.0 - chance)
        products = [[by_bin(gained[one] * gained[two] * spread) for two in varying] for one in varying]
        for place, covariance in enumerate(np.moveaxis(np.array(products), 2, 0)):
            sums[:, varying, place] += normal_sums(expected[:, place], covariance, draws, rng)
        return sums
    order = np.argsort(bins, kind="stable")
    held, starts = np.unique(bins[order], return_index=True)
    likely, gained = chance[order], gained[:, order]
    done = 0
    for size in blocks(draws, len(likely)):
        heads_up = rng.random((size, len(likely)), dtype=np.float32) < likely
        for row in varying:
            gain = gained[row]
            equal = gain.min() == gain.max()
            shown = heads_up.astype(np.float32) if equal else heads_up * gain
            added = np.add.reduceat(shown, starts, axis=1) * (gain[0] if equal else 1.0)
            sums[done : done + size, row][:, held] += added
        done += size
    return sums
