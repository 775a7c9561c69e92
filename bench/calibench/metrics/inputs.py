"""The checks every metric makes on its input, and the two columns that most of them need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from calibench.errors import CalibenchError
from calibench.stats.mapped import parts_of
from calibench.types import Evaluation, FloatArray, IntArray

#: Largest deviation of a row's sum from 1. Float32 softmax keeps it below 1e-6, and sums of half-precision
#: probabilities miss it by far: those have lost digits that calibration is about.
SUM_TOLERANCE = 1e-4


Asked = ParamSpec("Asked")
Found = TypeVar("Found")


def remembered(
    compute: Callable[Concatenate[Evaluation, Asked], Found],
) -> Callable[Concatenate[Evaluation, Asked], Found]:
    """What is computed of an evaluation, kept as long as that lives; further arguments are hashable.

    Metrics ask for the same columns one after the other, and of millions of rows each takes a while.
    """
    kept: WeakKeyDictionary[Evaluation, dict[Any, Found]] = WeakKeyDictionary()
    alone = RLock()

    @wraps(compute)
    def once(evaluation: Evaluation, /, *asked: Asked.args, **named: Asked.kwargs) -> Found:
        key = (*asked, *named.items())
        with alone:  # another thread would compute the same beside it
            mine = kept.setdefault(evaluation, {})
            if key not in mine:
                mine[key] = compute(evaluation, *asked, **named)
            return mine[key]

    return once


def in_parts(evaluation: Evaluation) -> Iterator[Evaluation]:
    """The examples, so many at a time that a copy of their probabilities is small."""
    for rows in parts_of(evaluation.probs):
        yield evaluation if rows.stop - rows.start == len(evaluation) else evaluation.take(rows)


def row_by_row(of_examples: Callable[[Evaluation], FloatArray]) -> Callable[[Evaluation], FloatArray]:
    """A number of each example, float64 [N], made of examples that were checked, some at a time."""

    @wraps(of_examples)
    def of_all(evaluation: Evaluation) -> FloatArray:
        found = [of_examples(part) for part in in_parts(checked(evaluation))]
        return found[0] if len(found) == 1 else np.concatenate(found)

    return of_all


def checked(evaluation: Evaluation) -> Evaluation:
    """Return `evaluation` if it holds N >= 1 distributions over C classes and N labels among them.

    Raises:
        CalibenchError: naming the first row that is not finite, not in [0, 1], does not sum to 1 within
            `SUM_TOLERANCE`, or whose label is not a class. Nothing is clipped or normalised: what does not
            sum to 1 is a mistake upstream, and a softmax of probabilities would hide it. Of confidences alone
            nothing need sum to 1.
    """
    _refuse(evaluation)
    return evaluation


@remembered
def _refuse(evaluation: Evaluation) -> None:
    probs, labels = evaluation.probs, evaluation.labels
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or not len(labels):
        raise CalibenchError(
            f"A metric got probabilities of shape {probs.shape} with labels of shape {labels.shape}; "
            "expected [N, C] and [N] with at least one example."
        )
    if evaluation.by_confidence:
        _refuse_confidences(probs[:, 0])
    else:
        _refuse_rows(probs, "probabilities")
    if evaluation.posterior is not None:
        if evaluation.posterior.shape != probs.shape:
            raise CalibenchError(
                f"The posterior has shape {evaluation.posterior.shape}; expected that of the probabilities, "
                f"{probs.shape}."
            )
        _refuse_rows(evaluation.posterior, "posterior")
    classes = max(2, probs.shape[1])
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        row = int(outside.argmax())
        raise CalibenchError(
            f"The label of row {row} is {labels[row]}; expected a class index from 0 to {classes - 1}."
        )


def _refuse_confidences(confidence: FloatArray) -> None:
    if not (confidence.min() >= 0.0 and confidence.max() <= 1.0 + SUM_TOLERANCE):
        row = int((~((confidence >= 0.0) & (confidence <= 1.0 + SUM_TOLERANCE))).argmax())
        raise CalibenchError(f"The confidence of row {row} is {confidence[row]}; expected one in [0, 1].")


def _refuse_rows(probs: FloatArray, what: str) -> None:
    for rows in parts_of(probs):
        _refuse_some(probs[rows], rows.start, what)


def _refuse_some(probs: FloatArray, first: int, what: str) -> None:
    # A comparison with NaN is false, so that NaN is refused too. A product and reductions over everything are
    # many times faster than reductions of short rows, and bootstraps come here for every resample.
    sums_to_one = np.abs(probs @ np.ones(probs.shape[1]) - 1.0) <= SUM_TOLERANCE
    if not (sums_to_one.all() and probs.min() >= 0.0 and probs.max() <= 1.0 + SUM_TOLERANCE):
        within = (probs >= 0.0) & (probs <= 1.0 + SUM_TOLERANCE)
        row = int((~(sums_to_one & within.all(axis=1))).argmax())
        shown = np.array2string(probs[row], precision=6, threshold=6, edgeitems=3)
        raise CalibenchError(
            f"Row {first + row} of the {what} is {shown}, with sum {probs[row].sum():.6g}; expected finite "
            "values in [0, 1] that sum to 1: pass probabilities in float32 or better, not logits."
        )


@remembered
def predicted_class(evaluation: Evaluation) -> IntArray:
    """The class with the largest probability, the first of equals; int64 [N]."""
    return np.concatenate([part.probs.argmax(axis=1) for part in in_parts(evaluation)])


@remembered
def top_label(evaluation: Evaluation) -> tuple[FloatArray, FloatArray]:
    """Confidence and correctness of the predicted class, the first of equals.

    Returns:
        confidence float64 [N], at most 1, and correct float64 [N], 0 or 1.
    """
    predicted = predicted_class(evaluation)
    correct = (predicted == evaluation.labels).astype(np.float64)
    return given_to(predicted, evaluation.probs), correct


def given_to(classes: IntArray, probs: FloatArray) -> FloatArray:
    """The probability of one class of each example, float64 [N], at most 1."""
    given = np.empty(len(classes))
    for rows in parts_of(probs):
        given[rows] = probs[rows][np.arange(rows.stop - rows.start), classes[rows]]
    return np.minimum(given, 1.0)
