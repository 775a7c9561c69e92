"""`transformers.Trainer.predict`, saved by `numpy.savez(file, **output._asdict())`: logits and label ids."""

from __future__ import annotations

import numpy as np

from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.classes import MISSING, Names
from calibench.readers.files import Source, npz_arrays, refuse_unlike
from calibench.readers.probabilities import probabilities
from calibench.readers.scored import Scored

#: What the Trainer's losses take for no label.
IGNORED = -100


def read(source: Source, asked: Asked, name: str) -> Scored:
    """The predictions of a saved `PredictionOutput`; its predictions are logits by definition.

    Of its fields the metrics are not read: they are a dictionary, which numpy pickles.

    Raises:
        UsageError: a model with several outputs, one number per example, or no labels.
    """
    asked.refuse_others("hf-trainer", ("classes",))
    logits = npz_arrays(source, ["predictions"])["predictions"]
    labels = npz_arrays(source, ["label_ids"])["label_ids"]
    if logits.ndim != 2 or labels.ndim != 1 or logits.shape[1] < 2 or logits.dtype.kind != "f":
        raise UsageError(
            f"The predictions of {source.name!r} have shape {list(logits.shape)} and its label_ids "
            f"{list(labels.shape)}; expected logits [N, C] and one label each: of a model with several "
            "outputs save the logits alone."
        )
    refuse_unlike(source.name, {"predictions": logits, "label_ids": labels})
    columns = [f"logit {i}" for i in range(logits.shape[1])]
    half = logits.dtype == np.float16
    probs, notes = probabilities(logits.astype(np.float64), source.name, columns, logits=True, half=half)
    classes = Names(asked.classes, "asked") if asked.classes else Names.numbered(logits.shape[1])
    if len(classes.names) != logits.shape[1]:
        raise UsageError(
            f"--classes names {len(classes.names)} classes and {source.name!r} has {logits.shape[1]}; name "
            "each once, in the order of the model's outputs."
        )
    return Scored(
        name,
        source.name,
        probs,
        _labels(labels, logits.shape[1], source.name),
        classes,
        notes=notes,
        said=asked.as_options(),
        rows=np.arange(len(labels)),
    )


def _labels(ids: np.ndarray, count: int, file: str) -> np.ndarray:
    """Label ids as indices, `MISSING` for those that the Trainer ignores."""
    if ids.dtype.kind not in "iu":
        raise UsageError(f"The label_ids of {file!r} are {ids.dtype}; expected one class id per example.")
    labels = np.where(ids == IGNORED, MISSING, ids).astype(np.int64)
    outside = np.flatnonzero(
        (labels < MISSING) | (labels >= count) | ((labels == MISSING) & (ids != IGNORED))
    )
    if len(outside):
        raise UsageError(
            f"The label {ids[outside[0]]} in row {outside[0] + 1} of {file!r} is no class; expected ids from "
            f"0 to {count - 1}."
        )
    return labels
