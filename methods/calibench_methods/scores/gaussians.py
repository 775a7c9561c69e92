"""Means and covariances of features by class, and the linear algebra of Mahalanobis distances, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError
from calibench.types import FloatArray, IntArray

#: Examples that are taken into float64 at a time.
BLOCK = 4096


class ByClass:
    """Examples by their class; classes without examples are left out.

    Args:
        features: float32 [N, D].
        labels: int64 [N].

    Attributes:
        classes: int64 [K], those that have examples, ascending.
        counts: int64 [K].
        means: float64 [K, D].
        place: int64 [N], each example's place in `classes`.
    """

    classes: IntArray
    counts: IntArray
    means: FloatArray
    place: IntArray

    def __init__(self, features: NDArray[np.float32], labels: IntArray) -> None:
        self.classes, self.place, self.counts = np.unique(labels, return_inverse=True, return_counts=True)
        groups = (features[self.place == k] for k in range(len(self.classes)))
        self.means = np.stack([group.mean(axis=0, dtype=np.float64) for group in groups])


def covariance(features: NDArray[np.float32], centres: FloatArray, place: IntArray) -> FloatArray:
    """1/N sum of (x - c)(x - c)^T, with c the centre of each example's group.

    Args:
        features: float32 [N, D].
        centres: float64 [K, D].
        place: int64 [N], each example's place in `centres`.

    Returns:
        float64 [D, D].
    """
    total = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), BLOCK):
        block = slice(start, start + BLOCK)
        centred = features[block] - centres[place[block]]
        total += centred.T @ centred
    return total / len(features)


class Whitening:
    """Coordinates in which a covariance is the identity, so that distances are Mahalanobis distances.

    Directions in which training features do not vary beyond rounding are left out, as by a pseudo-inverse:
    the units of a ReLU that never fire have a variance of 0.

    Args:
        centre: float64 [D], what the coordinates are measured from; distances do not depend on it.
        spread: float64 [D, D], the covariance.

    Attributes:
        rank: R, the number of directions that are kept.
        log_determinant: of the covariance in these directions.

    Raises:
        CalibenchError: the features do not vary at all.
    """

    def __init__(self, centre: FloatArray, spread: FloatArray) -> None:
        values, vectors = np.linalg.eigh(spread)
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
        if values[-1] <= 0.0:
            raise CalibenchError(
                "The training features do not vary within a class, so that there is no covariance to measure "
                "distances by; take more training texts per class."
            )
        self._centre = centre
        self._matrix: FloatArray = vectors[:, kept] / np.sqrt(values[kept])
        self.rank = int(kept.sum())
        self.log_determinant = float(np.log(values[kept]).sum())

    def __call__(self, points: FloatArray) -> FloatArray:
        """Whitened coordinates [M, R] of points [M, D]."""
        whitened: FloatArray = (points - self._centre) @ self._matrix
        return whitened


def squared_distances(points: FloatArray, others: FloatArray) -> FloatArray:
    """Squared Euclidean distances [M, K] between points [M, R] and others [K, R], float64."""
    squares = (points**2).sum(axis=1)[:, None] - 2.0 * points @ others.T + (others**2).sum(axis=1)
    positive: FloatArray = np.maximum(squares, 0.0)
    return positive
