"""Which output of the model is which class of the data set."""

from __future__ import annotations

import difflib
import re
import unicodedata
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


def labelled(
    dataset: Dataset, label_map: LabelMapping | None = None, out_of_scope: Collection[str] = ()
) -> Dataset:
    """The data set without the rows that have no label, which are counted.

    That is a label of -1, unless `label_map` says what it stands for or it is declared out of scope, and one
    that `label_map` maps to nothing.

    Raises:
        UsageError: labels of -1 and 1 alone, which may mean either, or no row is left.
    """
    given = label_map or {}
    names = dataset.label_names
    present = {names[i] for i in np.unique(dataset.labels)}
    targets = {name: _asked(name, dataset.order, given) for name in present}
    numbers = {number_of(name) for name in present}
    declared = any(_same(NO_LABEL, name, dataset.order) for name in out_of_scope)
    if dataset.order == "ids" and numbers == {-1, 1} and targets[NO_LABEL] is None and not declared:
        raise UsageError(
            "The labels are -1 and 1: -1 may be a class, or say that there is no label; say which output of "
            "the model each is, as in --label-map=-1=0,1=1."
        )
    without = {name for name, target in targets.items() if target == ""}
    if dataset.order == "ids" and targets.get(NO_LABEL, "") is None and not declared:
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
    seen: Collection[str] = (),
    out_of_scope: Collection[str] = (),
    label_map: LabelMapping | None = None,
) -> LabelMap:
    """Match classes as `label_map` says, else by name, without regard to case.

    Classes that are numbered on one side are matched by position, with a note, if their order is declared or
    they are ids; an order that only the alphabet gives is never used, nor is one of two that ids may mean.

    Args:
        dataset_names: class names in the order of the data set's ids.
        model_names: the model's output names, in its order.
        order: what the order of `dataset_names` says; see `calibench.data.classes`.
        present: the ids that occur; None for all. Of ids, the others are not asked for.
        seen: of ids, the names of those that occur elsewhere in the same data: what they mean is decided for
            all of them at once; see `ids_of`.
        out_of_scope: classes of the data set that the model is not meant to output; those it does output, or
            that `label_map` maps, are matched all the same, and those the data set lacks are ignored.
        label_map: by a value of the data, the model's output for it, by name or by number.

    Raises:
        UsageError: a class that the model lacks and that was not declared out of scope, or one of which
            nobody says which output it is.
    """
    given = label_map or {}
    key = _key(dataset_names, model_names)
    outputs = {key(name): i for i, name in enumerate(model_names)}
    occurring = range(len(dataset_names)) if present is None or order != "ids" else sorted(present)
    here = [dataset_names[i] for i in occurring]
    asked = {name: _asked(name, order, given) for name in (*here, *seen)}
    spelling = {name: _spelling(name, order, outputs, key) for name in asked}
    beyond = {
        name
        for name, target in asked.items()
        if target is None
        and spelling[name] is None
        and any(_same(name, other, order) for other in out_of_scope)
    }
    meant = [name for name, target in asked.items() if target != "" and name not in beyond]
    found = {name: _output(target, model_names) for name in meant if (target := asked[name])}
    rest = [name for name in meant if name not in found]
    unused = [spelt for spelt in given if not any(_same(name, spelt, order) for name in dataset_names)]
    _refuse_typos(unused, [name for name in rest if order != "ids"])
    by_name = {name: outputs[spelt] for name in rest if (spelt := spelling[name]) is not None}
    _refuse_twins(by_name.values(), model_names, key)
    lacking = [name for name in rest if name not in by_name]
    by_position = (
        bool(lacking) and not found and not by_name and _may_count(dataset_names, meant, model_names, order)
    )
    if lacking and not by_position:
        raise _mismatch(meant, model_names, lacking, order, unused)
    if order == "ids":
        _refuse_two_readings(rest, model_names)
        dropped = NO_LABEL in dataset_names and NO_LABEL not in here
        if dropped and _asked(NO_LABEL, order, given) is None:
            _refuse_lost_class(rest, model_names)
    if by_position:
        by_name = {dataset_names[i]: place for place, i in _places(dataset_names, meant, order)}
    matched = {name: i for name, i in (found | by_name).items() if name in here}
    names = list(model_names)
    if order != "ids" and not _is_numbered(dataset_names):
        for name, i in by_name.items():
            names[i] = name
    index = np.array([matched.get(name, OUT_OF_SCOPE) for name in dataset_names], dtype=np.int64)
    notes = _notes(matched, model_names, counted=by_position, asked=found, unused=unused)
    return LabelMap(index, tuple(names), tuple(notes))


def align(
    dataset: Dataset,
    model_names: Sequence[str],
    *,
    seen: Collection[str] = (),
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
    labels = matching(dataset, model_names, seen=seen, out_of_scope=out_of_scope, label_map=label_map)
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
    seen: Collection[str] = (),
    out_of_scope: Collection[str] = (),
    label_map: LabelMapping | None = None,
) -> LabelMap:
    """`match_labels` for the classes of a data set, of which some may not occur."""
    return match_labels(
        dataset.label_names,
        model_names,
        order=dataset.order,
        present=set(np.unique(dataset.labels).tolist()),
        seen=seen if dataset.order == "ids" else (),
        out_of_scope=out_of_scope,
        label_map=label_map,
    )


def ids_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the ids that occur in a data set not yet aligned; none where its labels are no ids."""
    if dataset.order != "ids":
        return ()
    return tuple(dataset.label_names[i] for i in np.unique(dataset.labels))


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
    return unicodedata.normalize("NFC", name.strip().casefold())


def _same(name: str, spelling: str, order: Order) -> bool:
    """Whether somebody's spelling means a class of the data set."""
    if order == "ids" and number_of(name) is not None and number_of(spelling) == number_of(name):
        return True
    return _folded(spelling) == _folded(name)


def _asked(name: str, order: Order, given: LabelMapping) -> str | None:
    """What a label map says of a class: an output, "" for no label, or None where it says nothing."""
    if name in given and order != "ids":
        return str(given[name])
    said = {spelling: str(target) for spelling, target in given.items() if _same(name, spelling, order)}
    if len(set(said.values())) > 1:
        raise UsageError(
            f"The label map says {' and '.join(map(repr, said))} for one label, and maps them to "
            f"{' and '.join(map(repr, said.values()))}; choose one."
        )
    return next(iter(said.values()), None)


def _output(target: str, model_names: Sequence[str]) -> int:
    """The output that a label map names, or numbers."""
    key = _key(model_names)
    called = [i for i, name in enumerate(model_names) if key(name) == key(target)]
    _refuse_twins(called[:1], model_names, key)
    if called:
        return called[0]
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


def _refuse_typos(unused: Sequence[str], unmapped: Sequence[str]) -> None:
    """Refuse a key of a label map that nearly is a label of which the map says nothing."""
    for spelling in unused:
        near = difflib.get_close_matches(_folded(spelling), [_folded(name) for name in unmapped], 1, 0.8)
        # "3 stars" is no typing error for "4 stars".
        if near and re.findall(r"\d+", spelling) == re.findall(r"\d+", near[0]):
            raise UsageError(
                f"The label map says {spelling!r}, which no label of the data set is; did you mean "
                f"{near[0]!r}?"
            )


def _refuse_twins(places: Collection[int], model_names: Sequence[str], key: Callable[[str], str]) -> None:
    """Refuse to tell by its name an output whose name another one has too."""
    for i in places:
        same = [str(j) for j, name in enumerate(model_names) if key(name) == key(model_names[i])]
        if len(same) > 1:
            raise UsageError(
                f"The model calls several outputs {model_names[i]!r} ({', '.join(same)}); say which one is "
                "meant by its number with --label-map, or mend the id2label of its config."
            )


def _refuse_two_readings(ids: Sequence[str], model_names: Sequence[str]) -> None:
    """Refuse ids that may be meant by the numbers that outputs are called, or by their places, 0 being first.

    Names that are plain numbers leave no doubt: 1 is the output called 1.
    """
    called = {_number_in(name): i for i, name in enumerate(model_names)}
    numbers = {number for name in ids if (number := number_of(name)) is not None}
    plain = all(re.fullmatch("[0-9]+", name.strip()) for name in model_names)
    if plain or not numbers <= called.keys() or not numbers <= set(range(len(model_names))):
        return
    doubtful = sorted(number for number in numbers if called[number] != number)
    if doubtful:
        raise UsageError(
            f"The data set's labels are numbers ({shorten([*map(str, sorted(numbers))])}) and the model's "
            f"outputs are called {shorten(model_names)}: {doubtful[0]} may be the output "
            f"{model_names[called[doubtful[0]]]!r} or, counted from 0, {model_names[doubtful[0]]!r}; say "
            f"which with --label-map, such as --label-map {doubtful[0]}=OUTPUT."
        )


def _number_in(name: str) -> int | None:
    """The one number that a name is or holds, as in "4 stars"."""
    number = number_of(name)
    inside = re.findall(r"[0-9]+", name)
    return int(inside[0]) if number is None and len(inside) == 1 else number


def _refuse_lost_class(meant: Sequence[str], model_names: Sequence[str]) -> None:
    """Refuse -1 for no label where the ids that are left are one too few: -1, 0, 1 for three outputs."""
    if {number_of(name) for name in meant} == set(range(len(model_names) - 1)):
        raise UsageError(
            f"The model has {len(model_names)} outputs ({shorten(model_names)}) and the labels are -1 to "
            f"{len(model_names) - 2}: -1 may be a class, or say that there is no label; say which output "
            "each label is, as in --label-map=-1=0,0=1, or --label-map=-1= for no label."
        )


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
        return all(name not in meant for name in dataset_names[len(model_names) :])
    return _is_numbered(model_names) and len(meant) == len(model_names)


def _places(dataset_names: Sequence[str], meant: Sequence[str], order: Order) -> list[tuple[int, int]]:
    """(output, class): a number is its own place, and names are counted, those out of scope left out."""
    where = [i for i, name in enumerate(dataset_names) if name in meant]
    own = order == "ids" or _is_numbered(dataset_names)
    return [(i, i) for i in where] if own else list(enumerate(where))


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether these are places in a list and not names: LABEL_0, LABEL_1, ... or 0, 1, ..."""
    return all(re.fullmatch(rf"(label_)?0*{i}", name, flags=re.IGNORECASE) for i, name in enumerate(names))


def _notes(
    order: Mapping[str, int],
    model_names: Sequence[str],
    *,
    counted: bool,
    asked: Mapping[str, int],
    unused: Sequence[str],
) -> list[str]:
    notes = []
    if asked:
        pairs = [f"{model_names[i]} = {name}" for name, i in asked.items()]
        notes.append(f"Labels were mapped as asked for: {shorten(pairs)}.")
    elif counted or _is_numbered(model_names):
        pairs = [f"{model_names[i]} = {name}" for name, i in order.items()]
        notes.append(f"Labels were matched by position, not by name: {shorten(pairs)}.")
    elif any(number_of(name) not in {None, i} for name, i in order.items()):
        pairs = [f"output {i} = {model_names[i]}" for i in order.values()]
        notes.append(f"Labels are the numbers that outputs are called, not their places: {shorten(pairs)}.")
    if unused:
        notes.append(f"The label map also says {shorten(unused)}, which no label of the data set is.")
    silent = [name for i, name in enumerate(model_names) if i not in order.values()]
    if silent:
        notes.append(f"The model also outputs {shorten(silent)}, which the data set does not have.")
    return notes


def _mismatch(
    meant: Sequence[str],
    model_names: Sequence[str],
    lacking: Sequence[str],
    order: Order,
    unused: Sequence[str],
) -> UsageError:
    values = [str(number_of(name)) if order == "ids" else name for name in meant]
    lacked = [str(number_of(name)) if order == "ids" else name for name in lacking]
    example = ",".join(f"{value}=OUTPUT" for value in values[:2])
    if unused:
        example += f" (the label map says {shorten(unused)}, which no label of the data set is)"
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
