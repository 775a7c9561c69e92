"""How much of a metric is luck of the draw: its spread over fresh passes or seeds on the same examples.

An interval over examples says what other examples would have given; this says what another run would have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibench.types import Evaluation, FloatArray, Metric

#: Fewest seeds whose standard deviation says something: of three it is known to a factor of two or so.
FEWEST_SEEDS = 3


def sd_over_seeds(values: Sequence[float]) -> float | None:
    """Standard deviation of a metric over seeds; None for fewer than `FEWEST_SEEDS`."""
    return float(np.std(values, ddof=1)) if len(values) >= FEWEST_SEEDS else None


def sds_over_passes(
    metrics: Sequence[Metric],
    evaluation: Evaluation,
    standard_error: FloatArray,
    *,
    draws: int = 200,
    seed: int = 0,
) -> list[float | None]:
    """Standard deviation of each metric over as many fresh passes, from one run's standard errors.

    Each example's probability is moved by a normal multiple of its own standard error, examples independently
    of each other, as their masks are. For two classes only: of more, no more than the predicted one's
    standard error is stored, and the answers are None. All metrics see the same draws.

    Args:
        standard_error: float64 [N], over passes, of the predicted class's probability.
        draws: of all examples; 200 give the standard deviation to 5%.
    """
    if evaluation.probs.shape[1] != 2:
        return [None] * len(metrics)
    rng = np.random.default_rng(seed)
    values = np.empty((draws, len(metrics)))
    for draw in range(draws):
        first = np.abs(evaluation.probs[:, 0] + standard_error * rng.standard_normal(len(standard_error)))
        # Turned back at 0 and at 1, where a mean of probabilities cannot pass.
        first = np.clip(np.minimum(first, 2.0 - first), 0.0, 1.0)
        probs = np.empty_like(evaluation.probs)
        probs[:, 0], probs[:, 1] = first, 1.0 - first
        moved = Evaluation(probs, evaluation.labels, evaluation.posterior)
        values[draw] = [metric.evaluate(moved) for metric in metrics]
    spreads = [float(np.std(column, ddof=1)) for column in values.T]
    return [spread if np.isfinite(spread) else None for spread in spreads]
