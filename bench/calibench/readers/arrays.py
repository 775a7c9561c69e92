"""Arrays in memory: numpy, lists, pandas, torch and what else numpy can read; none of them is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from calibench.data.classes import number_of
from calibench.data.labels import shorten
from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.classes import Names, coded, plain
from calibench.readers.file import ANSWER, correctness
from calibench.readers.joining import joined
from calibench.readers.probabilities import confidences, of_two, probabilities
from calibench.readers.scored import Scored
from calibench.types import FloatArray

#: What a record has for its reader.
ARRAYS = "arrays"


def read_arrays(
    methods: Mapping[str, Any],
    labels: Any,
    asked: Asked,
    *,
    by_confidence: bool = False,
    ids: Any = None,
    groups: Any = None,
) -> list[Scored]:
    """The predictions of several methods for the same rows in the same order.

    Args:
        methods: by name, probabilities [N, C], or [N] of the second of two classes. The columns of a data
            frame name the classes, unless they are numbers from 0 or `asked` has names.
        labels: [N], or by name of the method, which is what confidences need that are of several methods.
        asked: how probabilities are to be read; which columns they are in has no meaning here.
        by_confidence: these are confidences of answers, [N], and labels say which of them are right.
        ids, groups: [N] words.

    Raises:
        UsageError: what is no probability or no label, or rows that are not the same.
    """
    given = labels if isinstance(labels, Mapping) else dict.fromkeys(methods, labels)
    lacking = [name for name in methods if name not in given]
    if lacking:
        raise UsageError(f"There are no labels for {shorten(lacking)}; expected one array, or one each.")
    named = {f"the predictions of {name!r}": probs for name, probs in methods.items()}
    truths = {f"the labels of {name!r}": given[name] for name in methods}
    _refuse_other_index({**named, **truths, "ids": ids, "groups": groups})
    return joined(
        [
            _table(name, probs, given[name], asked, by_confidence=by_confidence, ids=ids, groups=groups)
            for name, probs in methods.items()
        ],
        skip_nulls=asked.skip_nulls,
    )


def _table(
    name: str, probs: Any, labels: Any, asked: Asked, *, by_confidence: bool, ids: Any, groups: Any
) -> Scored:
    values, half = _numbers(probs, name)
    truth = _column(labels, name, "labels", len(values))
    said = {"from": ARRAYS, **asked.as_options()}
    notes: tuple[str, ...] = ()
    if by_confidence:
        found, classes = _of_answers(values, asked, name), ANSWER
        indices = correctness(truth, name, "labels")
        said["confidence"] = True
    else:
        found, classes, notes = _of_classes(values, probs, asked, name, half=half)
        labelled = coded(truth, classes, name, "labels")
        indices, notes = labelled.labels, (*notes, *labelled.notes)
    if groups is not None:
        said["group"] = str(getattr(groups, "name", None) or "group")
    return Scored(
        name,
        name,
        found,
        indices,
        classes,
        ids=None if ids is None else _words(ids, name, "ids", len(values)),
        group=None if groups is None else _words(groups, name, "groups", len(values)),
        notes=notes,
        said=said,
        rows=np.arange(len(values)),
    )


def _refuse_other_index(columns: Mapping[str, Any]) -> None:
    """Refuse pandas objects whose rows are called otherwise: those at one place may not belong together."""
    indices: dict[str, Any] = {what: getattr(values, "index", None) for what, values in columns.items()}
    indexed = [(what, index) for what, index in indices.items() if hasattr(index, "equals")]
    for what, index in indexed[1:]:
        if not index.equals(indexed[0][1]):
            raise UsageError(
                f"The index of {what} is not that of {indexed[0][0]}; expected the same rows in the same "
                "order: align them by .loc, or pass .to_numpy() of each where the order is the same."
            )


def _array(values: Any, name: str, what: str) -> np.ndarray:
    """The values as numpy has them; a tensor as it is on the CPU."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if isinstance(values, np.ma.MaskedArray):
        raise UsageError(f"The {what} of {name!r} are a masked array; fill it, with NaN for what is missing.")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The {what} of {name!r} are no array, such as rows of one length make: {error}."
        ) from error


def _numbers(values: Any, name: str) -> tuple[FloatArray, bool]:
    """float64 [N, C] or [N], a copy, and whether 16 bits is all there was."""
    half = str(getattr(values, "dtype", "")).endswith("float16")
    if half and hasattr(values, "detach"):
        values = values.float()  # numpy has no bfloat16
    array = _array(values, name, "probabilities")
    half |= array.dtype == np.float16
    numeric = array.dtype.kind in "fiub" or (
        array.dtype.kind == "O" and not any(isinstance(value, (str, bytes)) for value in array.flat)
    )
    if array.ndim not in (1, 2) or (array.shape[-1:] == (1,) and array.ndim == 2) or not numeric:
        raise UsageError(
            f"The probabilities of {name!r} have shape {list(array.shape)} and type {array.dtype}; expected "
            "numbers, [N, C] for C classes or [N] for the second of two."
        )
    if not len(array):
        raise UsageError(f"{name!r} holds no rows; expected one per example.")
    try:
        return np.array(array, dtype=np.float64), half
    except (TypeError, ValueError) as error:
        raise UsageError(f"The probabilities of {name!r} are no numbers: {error}.") from error


def _of_answers(values: FloatArray, asked: Asked, name: str) -> FloatArray:
    extra = next((f"--{what}" for what in ("logits", "classes", "renormalise") if getattr(asked, what)), None)
    if extra is not None:
        raise UsageError(f"{extra} has no meaning beside --confidence, which is about the answer alone.")
    if values.ndim != 1:
        raise UsageError(
            f"The confidences of {name!r} have shape {list(values.shape)}; expected one per answer, [N]."
        )
    return confidences(values, name, "probs")


def _of_classes(
    values: FloatArray, given: Any, asked: Asked, name: str, *, half: bool
) -> tuple[FloatArray, Names, tuple[str, ...]]:
    """Probabilities of all classes, what these are called, and notes."""
    width = 2 if values.ndim == 1 else values.shape[1]
    classes = _names(given if values.ndim == 2 else None, asked, width, name)
    if values.ndim == 1:
        if asked.renormalise:
            raise UsageError("--renormalise is about rows of several probabilities; leave it out.")
        return of_two(values, name, "probs", logits=asked.logits, half=half), classes, ()
    columns = [f"p_{called}" for called in (range(width) if classes.origin == "none" else classes.names)]
    probs, notes = probabilities(
        values, name, columns, logits=asked.logits, renormalise=asked.renormalise, half=half
    )
    return probs, classes, notes


def _names(given: Any, asked: Asked, width: int, name: str) -> Names:
    if asked.classes:
        if len(asked.classes) != width:
            raise UsageError(
                f"--classes names {len(asked.classes)} classes ({shorten(asked.classes)}) and {name!r} has "
                f"{width}; name each once, in the order of the columns."
            )
        return Names(asked.classes, "asked")
    columns = [str(column) for column in getattr(given, "columns", ())]
    if not columns or [number_of(column) for column in columns] == list(range(width)):
        return Names.numbered(width)
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise UsageError(f"{name!r} has two columns called {twice!r}; rename one.")
    return Names(tuple(columns), "columns")


def _column(values: Any, name: str, what: str, rows: int) -> Any:
    """A pyarrow chunked array of as many values as there are rows."""
    array = _array(values, name, what)
    if array.ndim != 1:
        raise UsageError(
            f"The {what} of {name!r} have shape {list(array.shape)}; expected one per row, [N]: take the "
            "argmax of each row where labels are one-hot."
        )
    if len(array) != rows:
        raise UsageError(
            f"{name!r} has {rows:,} rows of predictions and {len(array):,} {what}; expected one per row."
        )
    try:
        return pa.chunked_array([pa.array(array, from_pandas=True)])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"The {what} of {name!r} are not of one kind: {error}.") from error


def _words(values: Any, name: str, what: str, rows: int) -> Any:
    return plain(_column(values, name, what, rows)).cast(pa.string()).combine_chunks()
