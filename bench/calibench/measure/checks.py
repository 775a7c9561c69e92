"""What a method returns and says of itself, held to its contract when it says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from calibench.errors import CalibenchError
from calibench.method import Method
from calibench.models.encoder import Encoder
from calibench.posthoc.conformal import Recipe
from calibench.store.records import to_json
from calibench.types import Coverage, IntArray, Predictive

#: How far from 1 the probabilities of an example may sum.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Described:
    """What a method says of itself, as `calibench.Method` has it."""

    passes: int
    coverage: Coverage | None
    conformal: Recipe | None
    tokenises: bool


def described(name: str, method: Any) -> Described:
    """What the method called `name` says of itself.

    Raises:
        CalibenchError: one of its attributes is not what it has to be, naming it.
    """
    if not isinstance(method, Method):
        raise CalibenchError(f"{name} made {_a(method)}; expected a Method.")
    for attribute, kinds, expected in (
        ("passes", (int, np.integer), "an integer from 1"),
        ("coverage", (Coverage, type(None)), "a Coverage, or None"),
        ("encoder", (Encoder, type(None)), "an Encoder, or None"),
        ("conformal", (Recipe, type(None)), "a Recipe, or None"),
        ("tokenises", (bool,), "True or False"),
        ("modules", (Sequence,), "a sequence of modules"),
        ("score", (str, type(None)), "the name of a score, or None"),
    ):
        value = getattr(method, attribute)
        if not isinstance(value, kinds) or (attribute == "passes" and _is_no_count(value)):
            raise CalibenchError(f"The {attribute} of {name} is {_a(value)}; expected {expected}.")
    other = next((module for module in method.modules if not isinstance(module, nn.Module)), None)
    if other is not None:
        raise CalibenchError(f"The modules of {name} hold {_a(other)}; expected modules of torch.")
    return Described(int(method.passes), method.coverage, method.conformal, method.tokenises)


def learnt_by(name: str, method: Method) -> dict[str, Any]:
    """What the method called `name` has learnt, once it is fitted.

    Raises:
        CalibenchError: it is nothing that a record can hold.
    """
    learnt = method.learnt
    if not isinstance(learnt, Mapping):
        raise CalibenchError(f"The learnt of {name} is {_a(learnt)}; expected a mapping of numbers by name.")
    _check_json(name, "what it has learnt", learnt)
    return dict(learnt)


def check_parameters(name: str, params: Mapping[str, Any]) -> None:
    """Refuse parameters that no record can hold.

    Raises:
        CalibenchError: one of them is no number, text, list of these, or None.
    """
    _check_json(name, "its parameters", params)


def _check_json(name: str, what: str, values: Mapping[str, Any]) -> None:
    try:
        to_json(values)
    except (TypeError, ValueError) as error:
        raise CalibenchError(
            f"{name} has no record for {what}: {error}; expected finite numbers, texts, or lists of these."
        ) from error


def _is_no_count(value: Any) -> bool:
    return isinstance(value, bool) or value < 1


@dataclass(frozen=True)
class Expected:
    """What a prediction has to be like.

    Attributes:
        name: the method's, for messages.
        rows: int64 [N], each example's row in its split.
        classes: C.
        score: the name of the score by which the method ranks texts, or None.
        scores: the names of the scores that it gave before; None where it has given nothing yet.
        stored: S of the samples that it gave for other blocks; None where it gave none.
    """

    name: str
    rows: IntArray
    classes: int
    score: str | None = None
    scores: frozenset[str] | None = None
    stored: int | None = None


def checked(found: Any, expected: Expected) -> Predictive:
    """A copy of what `predict` returned, so that the method may use its arrays again.

    Raises:
        CalibenchError: it breaks the contract of `Predictive`; the message names the field, what was found
            and what was expected.
    """
    name, count = expected.name, len(expected.rows)
    if not isinstance(found, Predictive):
        raise CalibenchError(f"{name} returned {_a(found)}; expected a Predictive.")
    probs = _array(expected, "probs", found.probs, "f", (count, expected.classes))
    check_probabilities(probs, expected.rows, name)
    return Predictive(
        probs=probs,
        passes=_passes(expected, found.passes),
        samples=None if found.samples is None else _samples(expected, found.samples),
        standard_error=(
            None
            if found.standard_error is None
            else _finite(expected, "standard_error", found.standard_error)
        ),
        scores=_scores(expected, found.scores),
        sets=None if found.sets is None else _array(expected, "sets", found.sets, "b", probs.shape),
        notes=_notes(name, found.notes),
    )


def check_probabilities(probs: NDArray[Any], rows: IntArray, name: str, field: str = "probs") -> None:
    """Refuse what is no probability, [N, C].

    Args:
        rows: int64 [N], each example's row in its split.
        name, field: whose they are and what they are called, for the message.

    Raises:
        CalibenchError: values that are not finite or below 0, or rows that do not sum to 1, naming the first.
    """
    bad = np.flatnonzero(~np.isfinite(probs).all(axis=1))
    if len(bad):
        raise CalibenchError(
            f"The {field} of {name} are not finite in {len(bad)} of {len(rows)} examples, the first in row "
            f"{rows[bad[0]]}; expected finite logits: try --dtype float32, or another checkpoint."
        )
    low = np.flatnonzero((probs < 0).any(axis=1))
    if len(low):
        raise CalibenchError(
            f"The {field} of {name} fall to {probs[low[0]].min():.6g} in row {rows[low[0]]}; expected 0 or "
            "more."
        )
    off = np.flatnonzero(np.abs(probs.sum(axis=1) - 1) > _SUM_TOLERANCE)
    if len(off):
        raise CalibenchError(
            f"The {field} of {name} sum to {probs[off[0]].sum():.6f} in row {rows[off[0]]}; expected 1: "
            "repair the method, which may have returned logits."
        )


#: By the kind of NumPy dtype: which are taken, and what a message calls them.
_KINDS: dict[str, tuple[Callable[[np.dtype[Any]], bool], str]] = {
    "f": (lambda dtype: dtype in (np.float32, np.float64), "float64"),
    "i": (lambda dtype: dtype.kind in "iu", "integers"),
    "b": (lambda dtype: dtype == np.bool_, "bool"),
}


def _array(expected: Expected, field: str, value: Any, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A copy of an array of this kind and shape."""
    fits, noun = _KINDS[kind]
    if type(value) is not np.ndarray:
        found = _a(value)
    elif not fits(value.dtype):
        found = f"of {value.dtype}"
    elif value.shape != shape:
        found = f"of shape {list(value.shape)}"
    else:
        return np.array(value)
    raise CalibenchError(
        f"The {field} of {expected.name} are {found}; expected a NumPy array of {noun} {list(shape)}."
    )


def _finite(expected: Expected, field: str, value: Any) -> NDArray[Any]:
    array = _array(expected, field, value, "f", (len(expected.rows),))
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise CalibenchError(
            f"The {field} of {expected.name} are not finite in {len(bad)} of {len(array)} examples, the "
            f"first in row {expected.rows[bad[0]]}; expected finite numbers."
        )
    return array


def _passes(expected: Expected, value: Any) -> NDArray[Any]:
    passes = _array(expected, "passes", value, "i", (len(expected.rows),))
    low = np.flatnonzero(passes < 1)
    if len(low):
        raise CalibenchError(
            f"The passes of {expected.name} are {passes[low[0]]} in row {expected.rows[low[0]]}; expected 1 "
            "or more."
        )
    return passes


def _samples(expected: Expected, value: Any) -> NDArray[Any]:
    stored = expected.stored or (len(value) if getattr(value, "ndim", 0) else 1)
    shape = (max(1, stored), len(expected.rows), expected.classes)
    samples = _array(expected, "samples", value, "f", shape)
    for sample in samples:
        check_probabilities(sample, expected.rows, expected.name, "samples")
    return samples


def _scores(expected: Expected, scores: Any) -> dict[str, NDArray[Any]]:
    name = expected.name
    if not isinstance(scores, Mapping):
        raise CalibenchError(f"The scores of {name} are {_a(scores)}; expected a mapping of arrays by name.")
    for key in scores:
        if not isinstance(key, str) or not re.fullmatch(r"[\w.+-]+", key, re.ASCII):
            raise CalibenchError(
                f"The scores of {name} have the name {key!r}; expected letters, digits and any of _.+-."
            )
    if expected.scores is not None and expected.scores != set(scores):
        raise CalibenchError(
            f"The scores of {name} are {_names(scores)}, and were {_names(expected.scores)} before; expected "
            "the same for all texts."
        )
    if expected.score is not None and expected.score not in scores:
        raise CalibenchError(
            f"The scores of {name} are {_names(scores)}; expected {expected.score!r} among them, by which it "
            "ranks texts."
        )
    return {key: _finite(expected, f"scores {key!r}", value) for key, value in scores.items()}


def _notes(name: str, notes: Any) -> tuple[str, ...]:
    if not isinstance(notes, tuple | list):
        raise CalibenchError(f"The notes of {name} are {_a(notes)}; expected a tuple of sentences.")
    for note in notes:
        if not isinstance(note, str) or "\0" in note or not _encodes(note):
            raise CalibenchError(f"The notes of {name} hold {note!a:.80}; expected a sentence.")
    return tuple(notes)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


def _a(value: Any) -> str:
    """What a message calls a value of a wrong type, or of a right one."""
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.40}"
    return f"a {type(value).__name__}"
