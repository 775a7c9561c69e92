"""Which output of the model is which class of the data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibench.data.classes import NO_LABEL, number_of
from calibench.data.subset import take
from calibench.errors import UsageError
from calibench.types import Dataset, IntArray, Order

#: By a value of the data, the model's output for it, by name or by number; "" for no label.
LabelMapping = Mapping[str, str | int]

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


def labelled(dataset: Dataset, label_map: LabelMapping | None = None) -> Dataset:
    """The data set without the rows that have no label, which are counted.

    That is a label of -1, unless `label_map` says what it stands for, and one that it maps to nothing.

    Raises:
        UsageError: labels of -1 and 1 alone, which may mean either, or no row is left.
    """
    given = label_map or {}
    names = dataset.label_names
    present = {names[i] for i in np.unique(dataset.labels)}
    targets = {name: _asked(name, dataset.order, given) for name in present}
    numbers = {number_of(name) for name in present}
    if dataset.order == "ids" and numbers == {-1, 1} and targets[NO_LABEL] is None:
        raise UsageError(
            "The labels are -1 and 1: -1 may be a class, or say that there is no label; say which output of "
            "the model each is, as in --label-map=-1=0,1=1."
        )
    without = {name for name, target in targets.items() if target == ""}
    if dataset.order == "ids" and targets.get(NO_LABEL, "") is None:
        without.add(NO_LABEL)
    if not without:
        return dataset
    kept = np.flatnonzero([names[i] not in without for i in dataset.labels])
    if not len(kept):
        raise UsageError(
            f"No row of the split {dataset.split!r} has a label under this label map: mend it with "
            "--label-map."
        )
    return replace(take(dataset, kept), unlabelled=dataset.unlabelled + len(dataset) - len(kept))


def match_labels(
    dataset_names: Sequence[str],
    model_names: Sequence[str],
    *,
    order: Order = "declared",
    present: Collection[int] | None = None,
    out_of_scope: Collection[str] = (),
    label_map: LabelMapping | None = None,
) -> LabelMap:
    """Match classes as `label_map` says, else by name, without regard to case.

    Classes that are numbered on one side are matched by position, with a note, if their order is declared or
    they are ids; an order that only the alphabet gives is never used.

    Args:
        dataset_names: class names in the order of the data set's ids.
        model_names: the model's output names, in its order.
        order: what the order of `dataset_names` says; see `calibench.data.classes`.
        present: the ids that occur; None for all. Of ids, the others are not asked for.
        out_of_scope: classes of the data set that the model is not meant to output; those it does output
            are matched all the same, and those the data set lacks are ignored.
        label_map: by a value of the data, the model's output for it, by name or by number.

    Raises:
        UsageError: a class that the model lacks and that was not declared out of scope, or one of which
            nobody says which output it is.
    """
    key = _key(dataset_names, model_names)
    outputs = {key(name): i for i, name in enumerate(model_names)}
    beyond = {key(name) for name in out_of_scope} - outputs.keys()
    occurring = range(len(dataset_names)) if present is None or order != "ids" else sorted(present)
    known = [dataset_names[i] for i in occurring if key(dataset_names[i]) not in beyond]
    asked = {name: _asked(name, order, label_map or {}) for name in known}
    meant = [name for name in known if asked[name] != ""]
    found = {name: _output(target, model_names) for name, target in asked.items() if target}
    by_name = {
        name: outputs[spelling]
        for name in meant
        if name not in found and (spelling := _spelling(name, order, outputs, key)) is not None
    }
    lacking = [name for name in meant if name not in found and name not in by_name]
    by_position = (
        bool(lacking) and not found and not by_name and _may_count(dataset_names, meant, model_names, order)
    )
    if by_position:
        by_name = {dataset_names[i]: place for place, i in _places(dataset_names, meant, order)}
    elif lacking:
        raise _mismatch(meant, model_names, lacking, order)
    matched = found | by_name
    names = list(model_names)
    if order != "ids" and not _is_numbered(dataset_names):
        for name, i in by_name.items():
            names[i] = name
    index = np.array([matched.get(name, OUT_OF_SCOPE) for name in dataset_names], dtype=np.int64)
    notes = _notes(matched, model_names, counted=by_position, asked=found)
    return LabelMap(index, tuple(names), tuple(notes))


def align(
    dataset: Dataset,
    model_names: Sequence[str],
    *,
    out_of_scope: Collection[str] = (),
    label_map: LabelMapping | None = None,
) -> Dataset:
    """The data set with labels that index the model's outputs.

    Examples out of scope are kept, labelled `OUT_OF_SCOPE`; `calibench.data.subset.in_scope` leaves them out.
    The hash stays that of the data as loaded, so that models which order their outputs differently are seen
    to have met the same data.

    Raises:
        UsageError: as `match_labels`.
    """
    labels = matching(dataset, model_names, out_of_scope=out_of_scope, label_map=label_map)
    posterior = None
    if dataset.posterior is not None:
        posterior = np.zeros((len(dataset), len(labels.names)))
        for column, output in enumerate(labels.index):
            if output >= 0:
                posterior[:, output] += dataset.posterior[:, column]
    return replace(
        dataset, labels=labels.index[dataset.labels], label_names=labels.names, posterior=posterior
    )


def matching(
    dataset: Dataset,
    model_names: Sequence[str],
    *,
    out_of_scope: Collection[str] = (),
    label_map: LabelMapping | None = None,
) -> LabelMap:
    """`match_labels` for the classes of a data set, of which some may not occur."""
    return match_labels(
        dataset.label_names,
        model_names,
        order=dataset.order,
        present=set(np.unique(dataset.labels).tolist()),
        out_of_scope=out_of_scope,
        label_map=label_map,
    )


def shorten(names: Sequence[str]) -> str:
    """Names for an error message: all of them where they are few."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 2])}, ..., {names[-1]} ({len(names)} in all)"


def _key(*lists: Sequence[str]) -> Callable[[str], str]:
    """How names are compared: without regard to case and space around, unless these tell two apart."""
    if all(len({_folded(name) for name in names}) == len(names) for names in lists):
        return _folded
    return str


def _folded(name: str) -> str:
    return name.strip().casefold()


def _asked(name: str, order: Order, given: LabelMapping) -> str | None:
    """What a label map says of a class: an output, "" for no label, or None where it says nothing."""
    if name in given:
        return str(given[name])
    for spelling, target in given.items():
        same_number = order == "ids" and number_of(spelling) == number_of(name)
        if same_number or spelling.strip().casefold() == name.strip().casefold():
            return str(target)
    return None


def _output(target: str, model_names: Sequence[str]) -> int:
    """The output that a label map names, or numbers."""
    key = _key(model_names)
    for i, name in enumerate(model_names):
        if key(name) == key(target):
            return i
    number = number_of(target)
    if number is None or not 0 <= number < len(model_names):
        raise UsageError(
            f"The label map names the output {target!r}, which the model does not have; choose from "
            f"{shorten(model_names)}, or 0 to {len(model_names) - 1}."
        )
    return number


def _spelling(name: str, order: Order, outputs: Collection[str], key: Callable[[str], str]) -> str | None:
    """How the model spells a class, or None where it has none of that name: of an id 3, also 3."""
    if key(name) in outputs:
        return key(name)
    if order != "ids":
        return None
    return next((output for output in outputs if number_of(output) == number_of(name)), None)


def _may_count(
    dataset_names: Sequence[str], meant: Sequence[str], model_names: Sequence[str], order: Order
) -> bool:
    """Whether classes may be matched by position: where it is declared, and one side has no names."""
    if order == "ids":
        return all(0 <= (number_of(name) or 0) < len(model_names) for name in meant) and not any(
            name.startswith("-") for name in meant
        )
    if order == "none":
        return False
    if _is_numbered(dataset_names):
        return len(meant) <= len(model_names)
    return _is_numbered(model_names) and len(meant) == len(model_names)


def _places(dataset_names: Sequence[str], meant: Sequence[str], order: Order) -> list[tuple[int, int]]:
    """(output, class): an id is its own place, and other classes are counted, those out of scope left out."""
    where = [i for i, name in enumerate(dataset_names) if name in meant]
    return [(i, i) for i in where] if order == "ids" else list(enumerate(where))


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether these are places in a list and not names: LABEL_0, LABEL_1, ... or 0, 1, ..."""
    return all(re.fullmatch(rf"(label_)?0*{i}", name, flags=re.IGNORECASE) for i, name in enumerate(names))


def _notes(
    order: Mapping[str, int], model_names: Sequence[str], *, counted: bool, asked: Mapping[str, int]
) -> list[str]:
    notes = []
    if asked:
        pairs = [f"{model_names[i]} = {name}" for name, i in asked.items()]
        notes.append(f"Labels were mapped as asked for: {shorten(pairs)}.")
    elif counted or _is_numbered(model_names):
        pairs = [f"{model_names[i]} = {name}" for name, i in order.items()]
        notes.append(f"Labels were matched by position, not by name: {shorten(pairs)}.")
    unused = [name for i, name in enumerate(model_names) if i not in order.values()]
    if unused:
        notes.append(f"The model also outputs {shorten(unused)}, which the data set does not have.")
    return notes


def _mismatch(
    meant: Sequence[str], model_names: Sequence[str], lacking: Sequence[str], order: Order
) -> UsageError:
    values = [str(number_of(name)) if order == "ids" else name for name in meant]
    lacked = [str(number_of(name)) if order == "ids" else name for name in lacking]
    example = ",".join(f"{value}=OUTPUT" for value in values[:2])
    if order == "none" and _is_numbered(model_names):
        return UsageError(
            f"The data set's labels are words ({shorten(values)}) and the model's are numbers "
            f"({shorten(model_names)}), and nobody says which is which: say it with --label-map, such as "
            f"--label-map {example}."
        )
    return UsageError(
        f"The data set's labels are not the model's: the data set has {shorten(values)}, the model"
        f" {shorten(model_names)}, which lacks {shorten(lacked)}: say which is which with --label-map, such"
        f" as --label-map {example}, pass a model made for these labels, or declare labels out_of_scope in"
        " the suite."
    )
