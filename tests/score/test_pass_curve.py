"""Quality over the number of passes: running means, and the band over their order."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.metrics.calibration import ECE
from calibench.metrics.scoring import BRIER
from calibench.score import pass_curve
from calibench.types import Evaluation, Interval
from coverage_checks import ends


def test_running_means_are_means_of_the_first_passes() -> None:
    """In the order asked for, accumulated in float64."""
    samples = np.random.default_rng(13).random((7, 4, 3)).astype(np.float32)
    means = pass_curve.running_means(samples, [7, 1, 3])
    assert means.dtype == np.float64
    for k, mean in zip([7, 1, 3], means, strict=True):
        assert mean == pytest.approx(samples[:k].mean(axis=0, dtype=np.float64), abs=1e-12)


@pytest.mark.parametrize("k", [0, 8])
def test_passes_that_were_not_run_are_refused(k: int) -> None:
    """A curve has no point beyond its run."""
    with pytest.raises(UsageError, match="the run has 7"):
        pass_curve.running_means(np.full((7, 1, 2), 0.5, dtype=np.float32), [k])


def test_the_band_over_passes_is_that_of_fresh_passes() -> None:
    """A band made of 40 passes is as wide as 400 fresh runs of 10 passes spread, within a third."""

    def run(passes: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(scale=0.15, size=(passes, 200))
        second = np.clip(0.6 + noise, 0.0, 1.0)
        return np.stack([1.0 - second, second], axis=-1).astype(np.float32)

    labels = np.random.default_rng(14).integers(0, 2, size=200)
    widths = []
    for seed in range(20):
        (point,) = pass_curve.pass_curve(BRIER, run(40, seed), labels, [10], resamples=10, seed=seed)
        low, high = ends(point.band)
        widths.append(high - low)
    fresh = [
        BRIER.evaluate(Evaluation(run(10, seed).mean(axis=0, dtype=np.float64), labels))
        for seed in range(100, 500)
    ]
    low, high = np.quantile(fresh, [0.025, 0.975])
    assert np.mean(widths) == pytest.approx(high - low, rel=1 / 3)


def test_a_curve_has_values_at_every_point_and_a_band_below_the_last() -> None:
    """At all passes there is no order left to vary, and the curve says so."""
    rng = np.random.default_rng(15)
    second = rng.uniform(0.4, 1.0, size=(8, 60)).astype(np.float32)
    samples = np.stack([1.0 - second, second], axis=-1)
    labels = rng.integers(0, 2, size=60)
    points = pass_curve.pass_curve(ECE, samples, labels, [1, 4, 8], resamples=50, seed=1)
    assert [point.passes for point in points] == [1, 4, 8]
    for point, k in zip(points, [1, 4, 8], strict=True):
        expected = ECE.evaluate(Evaluation(samples[:k].mean(axis=0, dtype=np.float64), labels))
        assert point.value.value == pytest.approx(expected, abs=1e-9)
        assert point.value.low is not None
    assert points[0].band.low is not None
    assert points[2].band == Interval(None, None, None, "all 8 passes used: no order left to vary")
