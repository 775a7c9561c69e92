"""Dirichlet calibration with off-diagonal and intercept regularisation (ODIR): a full matrix of log-odds.

    q = softmax(W log p + b), minimising NLL + s * (sum of W_ij^2 over i != j + sum of b_i^2).

Kull et al., "Beyond Temperature Scaling: Obtaining Well-Calibrated Multi-Class Probabilities with Dirichlet
Calibration" (NeurIPS 2019), whose lambda and mu, weights of means, are s C (C - 1) and s C here. The
strength s comes from `STRENGTHS`, from the strongest down until the loss rises in a cross-validation inside
the examples of the fit. ODIR leaves the diagonal free; here it has the prior of vector scaling, so that
labels the map can separate have a finite fit too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibench.posthoc.affine import Prior, fit_affine, loss_and_residual, scores_of
from calibench.posthoc.base import Calibrator, softmax
from calibench.posthoc.folds import stratified_folds
from calibench.types import FloatArray, IntArray

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
INNER_FOLDS = 3


class Dirichlet(Calibrator):
    """The minimum of a strictly convex loss, by a strength that is chosen without looking outside the fit.

    Args:
        strengths: candidates for s, strongest first; a single one is taken without cross-validation.
        prior: weight of the prior on the diagonal, in examples.
    """

    def __init__(self, *, strengths: Sequence[float] = STRENGTHS, prior: float = 1.0) -> None:
        self._strengths = tuple(strengths)
        self._prior = prior
        self._strength = self._strengths[0]
        self._theta = np.eye(1, 2)

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        features = np.hstack([log_probs, np.ones((len(labels), 1))])
        self._strength = self._choose(features, labels)
        self._theta = self._fit(features, labels, self._strength)

    def _choose(self, features: FloatArray, labels: IntArray) -> float:
        """The strength before the one at which the held-out loss rises."""
        if len(self._strengths) == 1 or len(labels) < INNER_FOLDS:
            return self._strengths[0]
        fold = stratified_folds(labels, INNER_FOLDS, seed=0)
        fitted: dict[int, FloatArray] = {}
        chosen, least = self._strengths[0], np.inf
        for strength in self._strengths:
            total = 0.0
            for held_out in range(INNER_FOLDS):
                inside, outside = fold != held_out, fold == held_out
                theta = self._fit(features[inside], labels[inside], strength, fitted.get(held_out))
                loss, _ = loss_and_residual(scores_of(features[outside], theta), labels[outside])
                total += loss * int(outside.sum())
                fitted[held_out] = theta
            if total >= least:
                break
            chosen, least = strength, total
        return chosen

    def _fit(
        self, features: FloatArray, labels: IntArray, strength: float, start: FloatArray | None = None
    ) -> FloatArray:
        """W and b side by side, float64 [C, C + 1]."""
        classes = features.shape[1] - 1
        centre = np.eye(classes, classes + 1)
        weight = np.where(centre == 1, self._prior / len(labels), 2 * strength)
        return fit_affine(features, labels, Prior(centre, weight), start)

    def transform(self, log_probs: FloatArray) -> FloatArray:
        return softmax(log_probs @ self._theta[:, :-1].T + self._theta[:, -1])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The strength and the size of the map; W itself has C^2 numbers, too many for a record."""
        weight, bias = self._theta[:, :-1], self._theta[:, -1]
        off_diagonal = weight[~np.eye(len(weight), dtype=bool)]
        return {
            "strength": self._strength,
            "mean_diagonal": float(np.mean(np.diag(weight))),
            "rms_off_diagonal": float(np.sqrt(np.mean(off_diagonal**2))),
            "rms_bias": float(np.sqrt(np.mean(bias**2))),
        }
