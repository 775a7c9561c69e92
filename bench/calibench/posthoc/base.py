"""What a calibrator is, and the logarithm that all of them start from.

N is the number of examples and C of classes. Calibrators see log-probabilities, not logits: a mean over
passes has no logits, and for one pass the two differ by a constant per example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from calibench.types import FloatArray, IntArray

#: Smallest probability whose logarithm is taken: the smallest normal float64, as in the metric NLL, so that
#: nothing a softmax returns but zero itself is changed.
LOG_FLOOR = float(np.finfo(np.float64).tiny)


class Calibrator(ABC):
    """A map from predictive distributions to predictive distributions, learnt from labelled examples.

    Subclass, and register the class as an entry point in the group `calibench.posthoc`; the harness calls its
    constructor without arguments.

    Attributes:
        smooth: whether the map moves smoothly with its examples, as one with a few parameters does, and one
            of steps does not. The debiased calibration error of a cross-fit is corrected where it does.
    """

    smooth: bool = True

    @abstractmethod
    def fit(self, log_probs: FloatArray, labels: IntArray) -> None:
        """Learn the map; nothing may be drawn at random.

        Args:
            log_probs: float64 [N, C], from `log_of`; N >= 1.
            labels: int64 [N], classes from 0 to C - 1, not all of which need be there.

        Raises:
            RefusedError: the calibrator does not apply to C classes.
            CalibenchError: the fit failed.
        """

    @abstractmethod
    def transform(self, log_probs: FloatArray) -> FloatArray:
        """The calibrated probabilities, float64 [N, C], of `log_probs`, float64 [N, C]; rows sum to 1."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """What was learnt, by name: numbers, or lists of numbers, that a record can hold."""


def log_of(probs: FloatArray) -> FloatArray:
    """log p, float64 [N, C], with p raised to `LOG_FLOOR` where it is below."""
    logs: FloatArray = np.log(np.maximum(probs, LOG_FLOOR))
    return logs


def softmax(scores: FloatArray) -> FloatArray:
    """exp(s) / sum exp(s) over the classes, float64 [N, C]."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return probs
