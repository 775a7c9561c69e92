"""`predict_proba` of scikit-learn, saved with the `classes_` that say which column is which class.

numpy.savez(file, proba=model.predict_proba(X), classes=model.classes_, labels=y)
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.classes import Names, coded
from calibench.readers.files import Source, npz_arrays, refuse_unlike
from calibench.readers.probabilities import probabilities
from calibench.readers.scored import Scored


def read(source: Source, asked: Asked, name: str) -> Scored:
    """The predictions of a file with the arrays `proba`, `classes` and `labels`.

    Labels are matched to `classes` by value, as scikit-learn does, and never by position.

    Raises:
        UsageError: arrays that are not there, or are not what they have to be.
    """
    asked.refuse_others("sklearn", ("renormalise",))
    found = npz_arrays(source, ["proba", "classes", "labels"])
    proba, classes, labels = found["proba"], found["classes"], found["labels"]
    if proba.ndim != 2 or classes.shape != proba.shape[1:] or labels.ndim != 1 or proba.shape[1] < 2:
        raise UsageError(
            f"The arrays of {source.name!r} have shapes proba {list(proba.shape)}, classes "
            f"{list(classes.shape)} and labels {list(labels.shape)}; expected [N, C], [C] and [N]: save one "
            "output of a model that has several."
        )
    refuse_unlike(source.name, {"proba": proba, "labels": labels})
    names = Names(tuple(map(str, classes.tolist())), "columns")
    probs, notes = probabilities(
        proba.astype(np.float64),
        source.name,
        [f"proba {called}" for called in names.names],
        renormalise=asked.renormalise,
        half=proba.dtype == np.float16,
    )
    indices = coded(pa.array(_as_words(labels, classes)), names, source.name, "labels")
    return Scored(
        name,
        source.name,
        probs,
        indices.labels,
        names,
        notes=(*notes, *indices.notes),
        said=asked.as_options(),
        rows=np.arange(len(labels)),
    )


def _as_words(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Labels spelled as the classes are: 1.0 is the class 1, and True the class True."""
    if labels.dtype.kind in "iufb" and classes.dtype.kind in "iufb":
        labels = labels.astype(np.promote_types(labels.dtype, classes.dtype))
        spelled = {value: str(name) for value, name in zip(classes.tolist(), classes.tolist(), strict=True)}
        values, places = np.unique(labels, return_inverse=True)
        return np.array([spelled.get(value, str(value)) for value in values.tolist()])[places]
    return labels.astype(str)
