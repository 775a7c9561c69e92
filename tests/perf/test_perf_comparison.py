"""Comparisons of eight methods with a reference, 10,000 resamples each."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from calibench.compare.contrasts import contrasts
from calibench.compare.verdicts import FAMILY, Pair
from calibench.metrics.calibration import ECE, ECE_15, ECE_CLASSWISE, MCE
from calibench.types import Evaluation, FloatArray, Metric

METHODS = 8
FIXED_BINS = (*FAMILY, ECE, ECE_15, MCE, ECE_CLASSWISE)


def binary(logits: FloatArray) -> FloatArray:
    """Probabilities [N, 2] from the second class's logits, float64 [N]."""
    second = 1.0 / (1.0 + np.exp(-logits))
    return np.stack([1.0 - second, second], axis=1)


@pytest.mark.parametrize(
    ("metrics", "n"),
    [(FAMILY, 872), (FIXED_BINS, 872), (FAMILY, 100_000)],
    ids=["verdicts", "sums and fixed bins", "verdicts on 100,000"],
)
def test_eight_methods_against_a_reference(
    benchmark: BenchmarkFixture, metrics: tuple[Metric, ...], n: int
) -> None:
    """Differences, intervals, p-values and verdicts."""
    rng = np.random.default_rng(n)
    logits = 4.0 * rng.normal(size=n)
    labels = (rng.random(n) < binary(logits)[:, 1]).astype(np.int64)
    reference = Evaluation(binary(1.9 * logits), labels)
    pairs = [
        Pair(str(k), reference, Evaluation(binary((1.8 - 0.1 * k) * logits + rng.normal(size=n)), labels))
        for k in range(METHODS)
    ]
    rows = benchmark.pedantic(contrasts, args=(pairs, metrics), rounds=2)
    assert len(rows) == METHODS * len(metrics)
