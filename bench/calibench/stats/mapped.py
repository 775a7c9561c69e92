"""Arrays that may be larger than memory: what is too large lies in an unnamed file that is mapped.

A page of such a file counts as resident memory from when it is touched until it is let go of; its content
stays. Whoever passes over the rows lets go of them, so that only a few rows are resident at a time.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from calibench.types import Evaluation, FloatArray, IntArray

#: Numbers of an array that is held in memory, 8 bytes each, at the most.
IN_MEMORY = 64_000_000
#: Numbers of the rows that are looked at together.
PART = 4_000_000
#: Numbers of the columns of a mapped array that are copied together.
COLUMNS = 16_000_000


def room_for(rows: int, width: int) -> FloatArray:
    """An array to be filled, float64 [rows, width]; where it is large, in a file that goes when it does."""
    if rows * width <= IN_MEMORY:
        return np.empty((rows, width))
    with tempfile.TemporaryFile(prefix="calibench-") as file:
        found: FloatArray = np.memmap(file, dtype=np.float64, mode="w+", shape=(rows, width))
    return found


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array lies in a file."""
    return isinstance(array, np.memmap)


def let_go(array: np.ndarray) -> None:
    """Leave the content of a mapped array to its file until it is asked for again; of others nothing."""
    held = getattr(array, "_mmap", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)


def rows_at(array: FloatArray, index: IntArray) -> FloatArray:
    """The rows [n, C] at an index [n], in a file where the array lies in one and they are many."""
    if not is_mapped(array):
        return array[index]
    found = room_for(len(index), array.shape[1])
    for some in parts_of(found):
        found[some] = array[index[some]]
        let_go(array)
    return found


def examples_at(evaluation: Evaluation, index: IntArray) -> Evaluation:
    """`Evaluation.take` of examples at an index [n], whose probabilities lie in a file as in `rows_at`."""
    return replace(
        evaluation,
        probs=rows_at(evaluation.probs, index),
        labels=evaluation.labels[index],
        posterior=None if evaluation.posterior is None else rows_at(evaluation.posterior, index),
        scores={name: score[index] for name, score in evaluation.scores.items()},
    )


def columns_of(array: FloatArray) -> Iterator[FloatArray]:
    """The columns of an array [N, C] in their order, float64 [N] each, read a few together."""
    n, width = array.shape
    together = max(1, COLUMNS // n) if is_mapped(array) else width
    for first in range(0, width, together):
        some = array[:, first : first + together]
        if is_mapped(array):
            some = np.empty((some.shape[1], n)).T
            for rows in parts_of(array):
                some[rows] = array[rows, first : first + together]
        yield from some.T


def parts_of(array: np.ndarray) -> Iterator[slice]:
    """Rows of an array [N, ...] that together are all of them, `PART` numbers at a time."""
    step = max(1, PART // max(1, array[:1].size))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))
        let_go(array)
