"""From the logits of forward passes to a `Predictive`: one softmax, one mean, one check for every method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibench.errors import CalibenchError, UsageError
from calibench.models.plan import map_batches
from calibench.types import Batch, FloatArray, IntArray, Plan, Predictive


def at_least(minimum: int, name: str, value: int) -> int:
    """`value`, if it is at least `minimum`.

    Raises:
        UsageError: it is not.
    """
    if value < minimum:
        raise UsageError(f"{name} is {value}, but must be at least {minimum}.")
    return value


def predict_passes(
    plan: Plan, logits: Callable[[Batch], Tensor], *, keep_samples: bool = True, notes: tuple[str, ...] = ()
) -> Predictive:
    """The mean over passes of the softmax, for every example of a plan.

    Moments are taken batch by batch in float64, so that without samples memory does not grow with T.

    Args:
        plan: N examples.
        logits: the logits [T, B, C] of T passes over a batch of B examples, in any float type and anywhere.
        keep_samples: whether the result holds the softmax of each pass, 4 T N C bytes.
        notes: for the record.

    Raises:
        CalibenchError: a logit is not finite.
    """
    samples: NDArray[np.float32] | None = None
    passes = 0

    def moments(batch: Batch) -> FloatArray:
        nonlocal samples, passes
        probs = checked_softmax(logits(batch), plan.rows[batch.index])
        passes, _, classes = probs.shape
        if keep_samples:
            if samples is None:
                samples = np.empty((passes, len(plan), classes), dtype=np.float32)
            samples[:, batch.index] = probs
        return np.stack([probs.mean(axis=0), probs.var(axis=0)])

    mean, variance = map_batches(plan, moments)
    return Predictive(
        probs=mean,
        passes=np.full(len(plan), passes, dtype=np.int64),
        samples=samples,
        standard_error=standard_error(mean, variance, passes),
        notes=notes,
    )


def checked_softmax(logits: Tensor, rows: IntArray) -> FloatArray:
    """The softmax over the last axis, in float64 on the host.

    Args:
        logits: [T, B, C], in any float type.
        rows: int64 [B], data set rows of the examples.

    Raises:
        CalibenchError: a logit is not finite; the message names the example's row.
    """
    values = logits.to("cpu", torch.float64)
    finite = values.isfinite().all(dim=-1).all(dim=0).numpy()
    if not finite.all():
        raise CalibenchError(
            f"The model's logits are not finite for row {rows[~finite].min()} of the data set; "
            "run it with --dtype float32, or check the checkpoint."
        )
    probs: FloatArray = torch.softmax(values, dim=-1).numpy()
    return probs


def standard_error(mean: FloatArray, variance: FloatArray, passes: int) -> FloatArray | None:
    """Standard error of the predicted class's probability over independent passes.

    Args:
        mean, variance: float64 [N, C], over T passes; the variance is divided by T.
        passes: T.

    Returns:
        float64 [N], or None for one pass.
    """
    if passes < 2:
        return None
    predicted = mean.argmax(axis=1)[:, None]
    error: FloatArray = np.sqrt(np.take_along_axis(variance, predicted, axis=1)[:, 0] / (passes - 1))
    return error
