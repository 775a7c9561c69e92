"""Drawing anew: labels from probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from calibench.metrics.calibration import ECE
from calibench.stats import resampling
from simulated import simulated


def test_labels_are_drawn_with_their_probabilities() -> None:
    """Frequencies of 100,000 draws are within 5 standard errors, and probability zero is never drawn."""
    row = np.array([0.5, 0.0, 0.3, 0.2])
    labels = resampling.draw_labels(np.tile(row, (100_000, 1)), np.random.default_rng(1))
    share = np.bincount(labels, minlength=4) / 100_000
    assert share[1] == 0.0
    assert share == pytest.approx(row, abs=5 * np.sqrt(0.25 / 100_000))


def test_of_confidences_is_drawn_whether_the_answer_is_wrong() -> None:
    """One column is the probability of being right, label 0, exactly as two columns would have it."""
    confidence = np.random.default_rng(2).random((500, 1))
    both = np.concatenate([confidence, 1.0 - confidence], axis=1)
    drawn = (resampling.draw_labels(probs, np.random.default_rng(1)) for probs in (confidence, both))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("n", [400, resampling.EXACT_EXAMPLES + 1])
def test_self_drawn_values_of_confidences_are_those_of_classes(n: int) -> None:
    """The noise floor needs no classes: known answer within Monte-Carlo error, one by one and in the "
    "limit."""
    probs = simulated(3, n, 2).probs
    top = probs.max(axis=1)[:, None]
    ours, theirs = (
        resampling.self_drawn_values(ECE, values, 400, np.random.default_rng(1)) for values in (top, probs)
    )
    error = np.sqrt((ours.var() + theirs.var()) / 400)
    assert abs(ours.mean() - theirs.mean()) < 5 * error


def _in_parts(features: Any) -> resampling.InParts:
    n, width = features.shape
    return resampling.InParts((n, width), width, lambda rows: features[rows])


@pytest.mark.parametrize("width", [3, resampling.WIDE + 8])
def test_features_in_parts_are_resampled_like_whole_ones(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Few columns by their covariance, many by groups of examples; alone and beside others."""
    rng = np.random.default_rng(0)
    dense = rng.random((resampling.EXACT_EXAMPLES + 300, width)) * (
        rng.random((resampling.EXACT_EXAMPLES + 300, width)) < 0.1
    )
    few = sparse.csr_array(dense)
    monkeypatch.setattr(resampling, "BLOCK", 1000 * width)
    np.testing.assert_allclose(_in_parts(few).sum(axis=0), dense.sum(axis=0))
    whole = resampling.resampled_sums(few, 50, np.random.default_rng(1))
    parts = resampling.resampled_sums(_in_parts(few), 50, np.random.default_rng(1))
    np.testing.assert_allclose(np.cov(parts.T), np.cov(whole.T), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6)
    both = resampling.resampled_together([_in_parts(few), dense[:, :2]], 50, np.random.default_rng(1))
    also = resampling.resampled_together([few, dense[:, :2]], 50, np.random.default_rng(1))
    for one, other in zip(both, also, strict=True):
        np.testing.assert_allclose(one.mean(axis=0), other.mean(axis=0), rtol=1e-2)
        assert one.shape == other.shape
