"""Drawing anew: labels from probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.stats import resampling


def test_labels_are_drawn_with_their_probabilities() -> None:
    """Frequencies of 100,000 draws are within 5 standard errors, and probability zero is never drawn."""
    row = np.array([0.5, 0.0, 0.3, 0.2])
    labels = resampling.draw_labels(np.tile(row, (100_000, 1)), np.random.default_rng(1))
    share = np.bincount(labels, minlength=4) / 100_000
    assert share[1] == 0.0
    assert share == pytest.approx(row, abs=5 * np.sqrt(0.25 / 100_000))
