"""Vector scaling: a sharpness and a bias for each class.

    q = softmax(w * log p + b), with w and b of C numbers each.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), on log-probabilities in the place of
logits. Fitted by maximum a posteriori with w - 1 and b standard normal, which weighs as much as one example:
without it a class that the fit has no example of, or labels that the map can separate, would have no finite
fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calibench.posthoc.affine import Prior, fit_affine
from calibench.posthoc.base import Calibrator, softmax
from calibench.types import FloatArray, IntArray


class VectorScaling(Calibrator):
    """The minimum of a strictly convex loss.

    Args:
        prior: weight of the prior in examples; 0 for maximum likelihood, which may have no minimum.
    """

    def __init__(self, *, prior: float = 1.0) -> None:
        self._prior = prior
        self._scale = np.ones(1)
        self._bias = np.zeros(1)

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        examples, classes = log_probs.shape
        features = np.stack([log_probs.T, np.ones_like(log_probs.T)], axis=2)
        centre = np.tile([1.0, 0.0], (classes, 1))
        prior = Prior(centre, np.full_like(centre, self._prior / examples))
        self._scale, self._bias = fit_affine(features, labels, prior).T

    def transform(self, log_probs: FloatArray) -> FloatArray:
        return softmax(log_probs * self._scale + self._bias)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"scale": self._scale.tolist(), "bias": self._bias.tolist()}
