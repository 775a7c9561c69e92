"""Temperature scaling: one number that makes all probabilities more or less sharp.

    q(c) proportional to p(c)^(1/T), with T the minimum of the negative log-likelihood.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017). For a stochastic method p is the mean over
passes (Ashukha et al., "Pitfalls of In-Domain Uncertainty Estimation and Ensembling in Deep Learning", ICLR
2020). The most probable class stays the most probable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq

from calibench.posthoc.base import Calibrator, softmax
from calibench.types import FloatArray, IntArray

#: T stays between 1 / CAP and CAP: where every label is the most probable class the best T is 0, and where
#: probabilities and labels go against each other it is infinite or beyond.
CAP = 20.0


class Temperature(Calibrator):
    """The loss is convex in 1/T: its derivative changes sign once, and a bracket around that is closed."""

    def __init__(self) -> None:
        self.temperature = 1.0

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        given = log_probs[np.arange(len(labels)), labels]

        def slope(log_sharpness: float) -> float:
            probs = softmax(np.exp(log_sharpness) * log_probs)
            return float(np.mean(np.einsum("nc,nc->n", probs, log_probs) - given))

        limit = float(np.log(CAP))
        if slope(-limit) >= 0:
            self.temperature = CAP
        elif slope(limit) <= 0:
            self.temperature = 1 / CAP
        else:
            self.temperature = float(np.exp(-brentq(slope, -limit, limit, xtol=1e-10)))

    def transform(self, log_probs: FloatArray) -> FloatArray:
        return softmax(log_probs / self.temperature)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature}
