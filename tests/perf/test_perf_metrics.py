"""How metrics scale with the number of predictions: each is linear, in time and in memory."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from calibench.metrics.calibration import ECE, ECE_15, ECE_CLASSWISE, ECE_DEBIASED, ECE_EQUAL_MASS, MCE
from calibench.metrics.scoring import ACCURACY, BRIER, NLL
from calibench.stats import bootstrap
from calibench.types import Evaluation, Metric

#: The largest size takes about a gigabyte and is left to whoever asks for it.
FULL = os.environ.get("CALIBENCH_PERF_FULL") == "1"
SIZES = [1_000, 100_000, 10_000_000] if FULL else [1_000, 100_000]
METRICS = [ACCURACY, NLL, BRIER, ECE, ECE_15, ECE_EQUAL_MASS, ECE_DEBIASED, MCE, ECE_CLASSWISE]


@lru_cache(maxsize=1)
def predictions(n: int) -> Evaluation:
    """n calibrated binary predictions."""
    rng = np.random.default_rng(n)
    second = rng.beta(0.5, 0.5, size=n)
    return Evaluation(np.stack([1.0 - second, second], axis=1), (rng.random(n) < second).astype(np.int64))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_of_n_predictions(benchmark: BenchmarkFixture, metric: Metric, n: int) -> None:
    """The value alone."""
    value = benchmark(metric.evaluate, predictions(n))
    assert np.isfinite(value)


@pytest.mark.parametrize("n", SIZES)
def test_a_bootstrap_interval_of_n_predictions(benchmark: BenchmarkFixture, n: int) -> None:
    """ECE with an interval from 1,000 resamples."""
    interval = benchmark.pedantic(
        bootstrap.bootstrap_interval,
        args=(ECE, predictions(n)),
        kwargs={"resamples": 1000, "seed": 1},
        rounds=3,
    )
    assert interval.reason is None


@pytest.mark.parametrize("n", SIZES)
def test_a_noise_floor_of_n_predictions(benchmark: BenchmarkFixture, n: int) -> None:
    """ECE's noise floor from 1,000 sets of labels."""
    interval = benchmark.pedantic(
        bootstrap.noise_floor, args=(ECE, predictions(n).probs), kwargs={"draws": 1000, "seed": 1}, rounds=1
    )
    assert interval.reason is None
