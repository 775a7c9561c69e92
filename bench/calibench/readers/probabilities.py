"""Numbers in columns -> probabilities, or the reason why they are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from calibench.errors import UsageError
from calibench.metrics.inputs import SUM_TOLERANCE
from calibench.posthoc.base import softmax
from calibench.stats.mapped import let_go, parts_of, room_for
from calibench.types import BoolArray, FloatArray

#: How far from 1 a row may sum that `--renormalise` divides by its sum: rounding does no more.
ROUNDED = 0.02
_SHOWN = 4


def probabilities(
    values: FloatArray,
    file: str,
    columns: Sequence[str],
    *,
    logits: bool = False,
    renormalise: bool = False,
    half: bool = False,
) -> tuple[FloatArray, tuple[str, ...]]:
    """The probabilities that numbers stand for, float64 [N, C], and what was done to them in sentences.

    Args:
        values: float64 [N, C], C >= 2; NaN in rows that lack a value, which stay so. May be overwritten.
        file, columns: for messages.
        logits: they are logits, or log-probabilities.
        renormalise: divide each row by its sum.
        half: they were stored in float16.

    Raises:
        UsageError: values that are no probabilities, or, with `logits`, that are.
    """
    there = ~_rows_where(values, np.isnan)
    _refuse_infinite(values, there, file, logits=logits)
    if logits:
        _refuse_probabilities(values, there, file)
        return _softmax(values, there), (
            ("Logits were stored in float16, which keeps 3 digits.",) if half else ()
        )
    _refuse_outside(values, there, file, columns)
    if renormalise:
        return _renormalised(values, there, file)
    if half:
        raise UsageError(
            f"The probabilities of {file!r} are float16, which keeps 3 digits of what calibration is about; "
            "write float32, or pass --renormalise to score them as they are."
        )
    _refuse_sums(values, there, file, columns)
    return values, ()


def of_two(
    values: FloatArray, file: str, column: str, *, logits: bool = False, half: bool = False
) -> FloatArray:
    """Probabilities of two classes, float64 [N, 2], from that of the second, float64 [N].

    Raises:
        UsageError: as `probabilities`.
    """
    there = ~np.isnan(values)
    _refuse_infinite(values[:, None], there, file, logits=logits)
    if logits:
        present = values[there]
        if len(present) and present.min() >= 0.0 and present.max() <= 1.0:
            raise UsageError(
                f"All values of {column!r} in {file!r} lie between 0 and 1, as probabilities do and logits "
                "hardly; leave --logits out."
            )
        return _softmax(np.stack([np.zeros_like(values), values], axis=1), there)
    _refuse_outside(values[:, None], there, file, [column])
    if half:
        raise UsageError(
            f"The probabilities of {file!r} are float16, which keeps 3 digits of what calibration is about; "
            "write float32."
        )
    return np.stack([1.0 - values, values], axis=1)


def confidences(values: FloatArray, file: str, column: str) -> FloatArray:
    """Confidences as C = 1 probabilities, float64 [N, 1], from float64 [N].

    Raises:
        UsageError: values outside [0, 1].
    """
    there = ~np.isnan(values)
    _refuse_infinite(values[:, None], there, file, logits=False)
    outside = np.flatnonzero(there & ((values < 0.0) | (values > 1.0)))
    if len(outside):
        row = int(outside[0])
        raise UsageError(
            f"The confidence in row {row + 1} of {file!r} is {values[row]:g}; expected a probability from 0 "
            f"to 1 in {column!r}: divide percentages by 100."
        )
    return values[:, None]


def _softmax(values: FloatArray, there: BoolArray) -> FloatArray:
    probs = room_for(*values.shape)
    for some in parts_of(probs):
        part = np.full((some.stop - some.start, values.shape[1]), np.nan)
        part[there[some]] = softmax(values[some][there[some]])
        probs[some] = part
        let_go(values)
    return probs


def _rows_where(values: FloatArray, told: Callable[[FloatArray], BoolArray]) -> BoolArray:
    """Whether something is told of any number of a row, bool [N], of some rows at a time."""
    return np.concatenate([told(values[some]).any(axis=1) for some in parts_of(values)])


def _refuse_infinite(values: FloatArray, there: BoolArray, file: str, *, logits: bool) -> None:
    def told(some: FloatArray) -> BoolArray:
        infinite = np.isinf(some)
        if logits:
            # The logarithm of probability zero is one that a softmax can take.
            infinite &= (some > 0) | infinite.all(axis=1, keepdims=True)
        return infinite

    bad = np.flatnonzero(there & _rows_where(values, told))
    if len(bad):
        raise UsageError(
            f"Row {bad[0] + 1} of {file!r} holds an infinite number ({len(bad)} of {len(values)} rows do); "
            f"expected finite {'logits' if logits else 'probabilities'}: mend what wrote them."
        )


def _refuse_outside(values: FloatArray, there: BoolArray, file: str, columns: Sequence[str]) -> None:
    outside = np.flatnonzero(there & _rows_where(values, _outside))
    if len(outside):
        row = values[outside[0]]
        column = int(np.argmax((row < 0.0) | (row > 1.0 + SUM_TOLERANCE)))
        raise UsageError(
            f"Row {outside[0] + 1} of {file!r} has {row[column]:g} in {columns[column]!r}, which is no "
            "probability; pass --logits if these are logits or log-probabilities, or divide percentages by "
            "100."
        )


def _refuse_sums(values: FloatArray, there: BoolArray, file: str, columns: Sequence[str]) -> None:
    sums = _sums(values)
    off = np.flatnonzero(there & (np.abs(sums - 1.0) > SUM_TOLERANCE))
    if not len(off):
        return
    first = f"Row {off[0] + 1} of {file!r} sums to {sums[off[0]]:.6g} over {_listed(columns)}"
    if np.abs(sums[off] - 1.0).max() <= ROUNDED:
        raise UsageError(f"{first}; expected 1: pass --renormalise where probabilities were rounded.")
    raise UsageError(
        f"{first}; expected 1: name the columns of all classes and no others with --probs (probabilities of "
        "labels that do not exclude each other are not scored)."
    )


def _renormalised(values: FloatArray, there: BoolArray, file: str) -> tuple[FloatArray, tuple[str, ...]]:
    sums = _sums(values)
    off = np.flatnonzero(there & (np.abs(sums - 1.0) > ROUNDED))
    if len(off):
        raise UsageError(
            f"Row {off[0] + 1} of {file!r} sums to {sums[off[0]]:.6g}, further from 1 than rounding brings "
            f"it; --renormalise takes sums within {ROUNDED:g} of 1: name the columns of all classes with "
            "--probs."
        )
    most = float(np.abs(sums[there] - 1.0).max(initial=0.0))
    for some in parts_of(values):
        values[some] /= sums[some, None]
    return values, (f"Rows were divided by their sums, which were within {most:.2g} of 1.",)


def _outside(values: FloatArray) -> BoolArray:
    found: BoolArray = (values < 0.0) | (values > 1.0 + SUM_TOLERANCE)
    return found


def _sums(values: FloatArray) -> FloatArray:
    ones = np.ones(values.shape[1])
    return np.concatenate([values[some] @ ones for some in parts_of(values)])


def _refuse_probabilities(values: FloatArray, there: BoolArray, file: str) -> None:
    def none(some: FloatArray) -> BoolArray:
        found: BoolArray = _outside(some) | (np.abs(some.sum(axis=1, keepdims=True) - 1.0) > SUM_TOLERANCE)
        return found

    if there.any() and not _rows_where(values, none)[there].any():
        raise UsageError(
            f"All rows of {file!r} are probabilities: they sum to 1, and a softmax of them would hide what "
            "they say; leave --logits out."
        )


def _listed(columns: Sequence[str]) -> str:
    shown = columns if len(columns) <= _SHOWN else [*columns[: _SHOWN - 1], "..."]
    return f"{len(columns)} columns ({', '.join(shown)})" if len(columns) > 1 else f"the list {columns[0]!r}"
