"""The Brier decomposition: its parts add up, and each measures what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.metrics.decomposition import SHARPNESS, brier_decomposition
from calibench.metrics.scoring import BRIER
from calibench.types import Evaluation, FloatArray, IntArray
from simulated import simulated


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), classes=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_the_brier_score_is_the_sum_of_its_parts(seed: int, n: int, classes: int) -> None:
    """Miscalibration - discrimination + uncertainty, none of them negative."""
    evaluation = simulated(seed, n, classes, tilt=1.5)
    parts = brier_decomposition(evaluation.probs, evaluation.labels)
    assert min(parts.miscalibration, parts.discrimination, parts.uncertainty) >= -1e-12
    whole = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert whole == pytest.approx(BRIER.evaluate(evaluation), abs=1e-12)


def test_recalibration_is_what_the_miscalibration_term_measures() -> None:
    """Temperature changes miscalibration, not discrimination, of two classes: the order stays."""
    plain = brier_decomposition(*_pair(simulated(3, 5000)))
    sharp = brier_decomposition(*_pair(simulated(3, 5000, tilt=2.0)))
    assert sharp.discrimination == pytest.approx(plain.discrimination)
    assert sharp.miscalibration > plain.miscalibration + 0.01


def _pair(evaluation: Evaluation) -> tuple[FloatArray, IntArray]:
    return evaluation.probs, evaluation.labels


def test_sharpness_is_the_mean_entropy() -> None:
    """log C for ignorance, 0 for certainty."""
    labels = np.array([0, 1])
    assert SHARPNESS.evaluate(Evaluation(np.full((2, 4), 0.25), labels)) == pytest.approx(np.log(4.0))
    assert SHARPNESS.evaluate(Evaluation(np.eye(4)[:2], labels)) == 0.0
