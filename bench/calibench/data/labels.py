"""Which output of the model is which class of the data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibench.errors import UsageError
from calibench.types import Dataset, IntArray

#: The label of an example whose class the model is not meant to output.
OUT_OF_SCOPE = -1
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A data set's classes as outputs of a model.

    Attributes:
        index: int64 [classes of the data set], the model's output for each, or `OUT_OF_SCOPE`.
        names: the model's C outputs in its order, spelled as the data set spells them where it has them.
        notes: sentences about what was assumed.
    """

    index: IntArray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def match_labels(
    dataset_names: Sequence[str], model_names: Sequence[str], *, out_of_scope: Collection[str] = ()
) -> LabelMap:
    """Match classes by name, without regard to case; names such as LABEL_0 by position, with a note.

    Args:
        dataset_names: class names in the order of the data set's ids.
        model_names: the model's output names, in its order.
        out_of_scope: classes of the data set that the model is not meant to output; those it does output
            are matched all the same, and those the data set lacks are ignored.

    Raises:
        UsageError: the model lacks a class that was not declared out of scope.
    """
    key = _key(dataset_names, model_names)
    outputs = {key(name): i for i, name in enumerate(model_names)}
    beyond = {key(name) for name in out_of_scope} - outputs.keys()
    meant = [name for name in dataset_names if key(name) not in beyond]
    lacking = [name for name in meant if key(name) not in outputs]
    unnamed = _is_numbered(dataset_names)
    if not lacking:
        order = {name: outputs[key(name)] for name in meant}
    elif (unnamed and len(meant) <= len(model_names)) or (
        _is_numbered(model_names) and len(meant) == len(model_names)
    ):
        order = {name: i for i, name in enumerate(meant)}
    else:
        raise _mismatch(dataset_names, model_names, lacking)
    names = list(model_names)
    for name, i in order.items():
        if not unnamed:
            names[i] = name
    index = np.array([order.get(name, OUT_OF_SCOPE) for name in dataset_names], dtype=np.int64)
    return LabelMap(index, tuple(names), tuple(_notes(order, model_names)))


def align(dataset: Dataset, model_names: Sequence[str], *, out_of_scope: Collection[str] = ()) -> Dataset:
    """The data set with labels that index the model's outputs.

    Examples out of scope are kept, labelled `OUT_OF_SCOPE`; `calibench.data.subset.in_scope` leaves them out.
    The hash stays that of the data as loaded, so that models which order their outputs differently are seen
    to have met the same data.

    Raises:
        UsageError: as `match_labels`.
    """
    labels = match_labels(dataset.label_names, model_names, out_of_scope=out_of_scope)
    posterior = None
    if dataset.posterior is not None:
        posterior = np.zeros((len(dataset), len(labels.names)))
        meant = labels.index >= 0
        posterior[:, labels.index[meant]] = dataset.posterior[:, meant]
    return replace(
        dataset, labels=labels.index[dataset.labels], label_names=labels.names, posterior=posterior
    )


def shorten(names: Sequence[str]) -> str:
    """Names for an error message: all of them where they are few."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 2])}, ..., {names[-1]} ({len(names)} in all)"


def _key(*lists: Sequence[str]) -> Callable[[str], str]:
    """How names are compared: without regard to case, unless case is all that tells two of them apart."""
    if all(len({name.casefold() for name in names}) == len(names) for names in lists):
        return str.casefold
    return str


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether these are places in a list and not names: LABEL_0, LABEL_1, ... or 0, 1, ..."""
    return all(re.fullmatch(rf"(label_)?0*{i}", name, flags=re.IGNORECASE) for i, name in enumerate(names))


def _notes(order: dict[str, int], model_names: Sequence[str]) -> list[str]:
    notes = []
    pairs = [f"{model_names[i]} = {name}" for name, i in order.items()]
    if _is_numbered(model_names) or _is_numbered(list(order)):
        notes.append(f"Labels were matched by position, not by name: {shorten(pairs)}.")
    unused = [name for i, name in enumerate(model_names) if i not in order.values()]
    if unused:
        notes.append(f"The model also outputs {shorten(unused)}, which the data set does not have.")
    return notes


def _mismatch(dataset_names: Sequence[str], model_names: Sequence[str], lacking: Sequence[str]) -> UsageError:
    return UsageError(
        f"The data set's labels are not the model's: the data set has {shorten(dataset_names)}, the model"
        f" {shorten(model_names)}, which lacks {shorten(lacking)}: pass a model made for these labels, or"
        " declare labels out_of_scope in the suite."
    )
