"""Simulated classifiers, whose posterior and so whose calibration is known."""

from __future__ import annotations

import numpy as np

from calibench.stats.resampling import draw_labels
from calibench.types import Evaluation, FloatArray


def simulated(seed: int, n: int, classes: int = 2, sharpness: float = 2.0, tilt: float = 1.0) -> Evaluation:
    """Labels from softmax(logits), probabilities softmax(tilt * logits): calibrated where tilt is 1."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n, classes))
    posterior = softmax(logits)
    scores = {"random": rng.random(n)}
    return Evaluation(softmax(tilt * logits), draw_labels(posterior, rng), posterior, scores)


def softmax(logits: FloatArray) -> FloatArray:
    """Rows of exp(logits), normalised."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def jittered(evaluation: Evaluation, seed: int, noise: float = 0.3) -> FloatArray:
    """The same model with fresh noise on its logits: one seed of a stochastic method."""
    logits = np.log(np.maximum(evaluation.probs, 1e-300))
    return softmax(logits + noise * np.random.default_rng(seed).normal(size=logits.shape))
