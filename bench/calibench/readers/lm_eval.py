"""Sample logs of the LM Evaluation Harness for multiple choice: log-likelihoods of the choices.

A choice's probability is the softmax of the log-likelihoods over the choices of its question. Divided by the
length of the choice first, in characters or in bytes, they rank choices as `acc_norm` and `acc_bytes` of the
harness do; as they are, as `acc` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from calibench.data.classes import number_of
from calibench.errors import UsageError
from calibench.posthoc.base import softmax
from calibench.readers.asked import Asked
from calibench.readers.classes import Names
from calibench.readers.files import Source
from calibench.readers.logs import lines_of, text_at
from calibench.readers.scored import Scored
from calibench.types import FloatArray

#: The accuracy of the harness that goes by the same ranks.
_ACCURACY = {"none": "acc", "characters": "acc_norm", "bytes": "acc_bytes"}


@dataclass(frozen=True, eq=False)
class _Question:
    """A line of a log: float64 [K] of its K choices, their texts, and which of them is right."""

    loglikelihoods: FloatArray
    choices: tuple[str, ...]
    target: int
    id: str
    group: str | None


def read(source: Source, asked: Asked, name: str) -> Scored:
    """The predictions of a `samples_TASK_*.jsonl` that `--log_samples` wrote.

    Questions may have unlike numbers of choices: what a question does not offer has probability 0.

    Args:
        asked: of it `normalise`, and a `group` as a path, such as "doc.subject".

    Raises:
        UsageError: a log of generated text, of several right answers, or one whose accuracies these
            log-likelihoods do not give.
    """
    asked.refuse_others("lm-eval", ("normalise", "group", "id"))
    questions = list(_questions(source, asked))
    counts = [len(question.choices) for question in questions]
    probs = np.zeros((len(questions), max(counts)))
    for row, question in enumerate(questions):
        scores = question.loglikelihoods / _lengths(question.choices, asked.normalise)
        probs[row, : counts[row]] = softmax(scores[None])[0]
    notes = [_how(asked.normalise)]
    if min(counts) < max(counts):
        notes.append(
            f"Questions have {min(counts)} to {max(counts)} choices; what one does not offer has probability "
            "0."
        )
    return Scored(
        name,
        source.name,
        probs,
        np.array([question.target for question in questions], dtype=np.int64),
        Names(tuple(f"choice {i}" for i in range(max(counts))), "none"),
        ids=pa.array([question.id for question in questions], pa.string()),
        group=None
        if asked.group is None
        else pa.array([question.group for question in questions], pa.string()),
        notes=tuple(notes),
        said=asked.as_options() | {"normalise": asked.normalise},
        rows=np.arange(len(questions)),
    )


def _how(normalise: str) -> str:
    divided = "" if normalise == "none" else f" divided by the {normalise} of the choice"
    return f"Probabilities are the softmax over the choices of their log-likelihoods{divided}."


def _lengths(choices: Sequence[str], normalise: str) -> FloatArray:
    if normalise == "none":
        return np.ones(len(choices))
    texts = [choice.encode() if normalise == "bytes" else choice for choice in choices]
    return np.array([float(len(text)) for text in texts])


def _questions(source: Source, asked: Asked) -> Iterator[_Question]:
    filters: set[str] = set()
    for number, line in lines_of(source):
        filters.add(str(line.get("filter")))
        if len(filters) > 1:
            raise UsageError(
                f"{source.name!r} holds the answers of several filters ({', '.join(sorted(filters))}); keep "
                "the lines of one."
            )
        question = _question(source.name, number, line, asked)
        _refuse_other_accuracy(source.name, number, line, question)
        yield question


def _question(file: str, number: int, line: Mapping[str, Any], asked: Asked) -> _Question:
    answers, arguments = line.get("filtered_resps"), line.get("arguments")
    arguments = list(arguments.values()) if isinstance(arguments, dict) else arguments
    try:
        # The harness writes numbers as text.
        values = np.array([float(answer[0]) for answer in answers or ()])
        pairs = [_pair(argument) for argument in arguments or ()]
    except (TypeError, ValueError, KeyError, IndexError):
        values, pairs = np.empty(0), []
    if len(values) < 2 or len(values) != len(pairs) or not isinstance(answers, list):
        raise UsageError(
            f"Line {number} of {file!r} holds no log-likelihoods of choices; expected a multiple-choice log "
            "of lm-eval --log_samples: score generated answers by --confidence and --correct."
        )
    half = len(pairs) // 2
    if len(pairs) % 2 == 0 and half > 1 and all(context == "" for context, _ in pairs[half:]) and pairs[0][0]:
        # For acc_mutual_info each choice is asked for a second time, without the question.
        values, pairs = values[:half], pairs[:half]
    choices = tuple(continuation.removeprefix(" ") for _, continuation in pairs)
    return _Question(
        values,
        choices,
        _target(file, number, line.get("target"), choices),
        f"{line.get('doc_id')} {str(line.get('doc_hash'))[:16]}",
        None if asked.group is None else text_at(line, asked.group),
    )


def _pair(argument: Any) -> tuple[str, str]:
    """Context and continuation of a request."""
    context, continuation = argument.values() if isinstance(argument, dict) else argument
    return str(context), str(continuation)


def _target(file: str, number: int, target: Any, choices: Sequence[str]) -> int:
    """The right choice, which a log names by its number or by its text."""
    index = number_of(target)
    if index is not None and 0 <= index < len(choices):
        return index
    if choices.count(str(target)) == 1:
        return choices.index(str(target))
    raise UsageError(
        f"The target {json.dumps(target)} in line {number} of {file!r} is none of its {len(choices)} "
        "choices; expected one right choice, by its number or its text."
    )


def _refuse_other_accuracy(file: str, number: int, line: Mapping[str, Any], question: _Question) -> None:
    """Refuse a line whose accuracies by the harness are not those of its log-likelihoods."""
    for normalise, accuracy in _ACCURACY.items():
        logged = line.get(accuracy)
        scores = question.loglikelihoods / _lengths(question.choices, normalise)
        if isinstance(logged, int | float) and bool(logged) != (int(np.argmax(scores)) == question.target):
            raise UsageError(
                f"Line {number} of {file!r} logs {accuracy} {logged:g}, which its log-likelihoods and its "
                f"target do not give; its choices or their lengths cannot be told from the log."
            )
