"""SmoothECE: its authors' values, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.metrics.inputs import top_label
from calibench.metrics.smooth import SMOOTH_ECE, kernel_reliability
from calibench.stats import bootstrap
from calibench.types import Evaluation
from simulated import simulated


@pytest.mark.filterwarnings("ignore::DeprecationWarning:relplot")
@pytest.mark.parametrize(("sharpness", "tilt"), [(0.5, 1.0), (0.7, 2.0), (1.0, 1.5)])
def test_smooth_ece_is_that_of_its_authors(sharpness: float, tilt: float) -> None:
    """Within relplot's search step of .001, where no confidence is near 1: it counts those half."""
    peer = pytest.importorskip("relplot.metrics")
    whole = simulated(4, 3000, sharpness=sharpness, tilt=tilt)
    evaluation = whole.take(np.flatnonzero(whole.probs.max(axis=1) < 0.95))
    confidence, correct = top_label(evaluation)
    assert SMOOTH_ECE.evaluate(evaluation) == pytest.approx(peer.smECE(confidence, correct), abs=0.0015)


def test_smooth_ece_counts_certain_predictions_in_full() -> None:
    """All at confidence 1 and a fifth wrong: the error is .2, also at the boundary."""
    probs = np.tile([0.0, 1.0], (100, 1))
    labels = (np.arange(100) >= 20).astype(np.int64)
    assert SMOOTH_ECE.evaluate(Evaluation(probs, labels)) == pytest.approx(0.2)


def test_smooth_ece_intervals_cover_a_calibrated_model() -> None:
    """A true error of zero is inside in at least 94% of 300 intervals (right ones fail 1 in 1,000)."""
    intervals = [
        bootstrap.bootstrap_interval(SMOOTH_ECE, simulated(seed, 300), resamples=200, seed=seed)
        for seed in range(300)
    ]
    assert np.mean([interval.low == 0.0 for interval in intervals]) >= 0.935


def test_the_kernel_diagram_shows_the_accuracy_there_is() -> None:
    """With 200,000 examples the curve is the true accuracy within .02, wherever examples are not rare."""
    evaluation = simulated(5, 200_000, tilt=2.0)
    curve = kernel_reliability(evaluation.probs, evaluation.labels, bandwidth=0.01, resamples=100, seed=1)
    inner = (curve.confidence > 0.55) & (curve.confidence < 0.9)
    # The log-odds of the truth are half the model's.
    truth = 1.0 / (1.0 + np.sqrt(1.0 / curve.confidence[inner] - 1.0))
    assert curve.accuracy[inner] == pytest.approx(truth, abs=0.02)
    assert (curve.low[inner] <= curve.high[inner]).all()
    assert curve.density.mean() == pytest.approx(1.0, abs=0.05)
    assert np.isnan(curve.accuracy[curve.confidence < 0.3]).all()
