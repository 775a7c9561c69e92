"""Isotonic regression: any rising step function of the second class's probability, for two classes.

    q(1) = f(p(1)), with f the non-decreasing function of least squared error.

Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (KDD
2002), by scikit-learn's pool-adjacent-violators, linear between the steps. Levels are kept within 1/(N+2) and
(N+1)/(N+2), Laplace's estimate for a step that holds all N examples: a level of 0 or 1 would make a single
mistake cost an infinite log-loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from calibench.errors import RefusedError
from calibench.posthoc.base import Calibrator
from calibench.types import FloatArray, IntArray


class Isotonic(Calibrator):
    """Scikit-learn's `IsotonicRegression` on p(1)."""

    smooth = False

    def __init__(self) -> None:
        self._regression: Any = None

    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        examples, classes = log_probs.shape
        if classes != 2:
            raise RefusedError(
                f"Isotonic regression is for two classes and the model has {classes}; "
                "use temperature, vector or dirichlet."
            )
        edge = 1 / (examples + 2)
        self._regression = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
        self._regression.fit(np.exp(log_probs[:, 1]), labels.astype(np.float64))

    def transform(self, log_probs: FloatArray) -> FloatArray:
        second: FloatArray = self._regression.predict(np.exp(log_probs[:, 1]))
        return np.stack([1 - second, second], axis=1)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"steps": len(np.unique(self._regression.y_thresholds_))}
