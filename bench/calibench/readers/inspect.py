"""Logs of Inspect AI: correctness from a scorer, and confidence from the field that is named.

Inspect has no place of its own for how sure an answer was, so that nothing is taken for it unasked: name the
field by its path in a sample, such as `metadata.confidence`, or, after `score.`, in the score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.classes import MISSING
from calibench.readers.file import ANSWER, RIGHT, WRONG
from calibench.readers.files import Source
from calibench.readers.logs import content_of, text_at, value_at
from calibench.readers.probabilities import confidences
from calibench.readers.scored import Scored

#: Inspect's words for a score: correct, incorrect, and no answer, which its accuracy counts as wrong.
_CORRECT = {"C": RIGHT, "I": WRONG, "N": WRONG}
_SCORE = "score."


def read(source: Source, asked: Asked, name: str) -> Scored:
    """The confidences and correctness of the samples of a log.

    Args:
        asked: `confidence` is the path of the confidence, `correct` the scorer, needed where there are
            several, and `group` the path of a subgroup.

    Raises:
        UsageError: a log that is not finished, several scorers, a score that is neither right nor wrong, or
            no confidence at that path.
    """
    asked.refuse_others("inspect", ("confidence", "correct", "group", "id"))
    if asked.confidence is None:
        raise UsageError(
            "A log of Inspect says which answers are right and not how sure they were; name the field that "
            "does, such as --confidence metadata.confidence or --confidence score.metadata.confidence."
        )
    every = _samples(source)
    epochs = len({sample.get("epoch") for sample in every})
    samples = [sample for sample in every if epochs == 1 or sample.get("epoch") == 1]
    scorer = _scorer(source.name, samples, asked.correct)
    scores = [(sample.get("scores") or {}).get(scorer) for sample in samples]
    sure = np.array(
        [_number(_at(s, score, asked.confidence)) for s, score in zip(samples, scores, strict=True)]
    )
    if np.isnan(sure).all():
        raise UsageError(
            f"No sample of {source.name!r} has a number at {asked.confidence!r}; name another field with "
            "--confidence."
        )
    return Scored(
        name,
        source.name,
        confidences(sure, source.name, asked.confidence),
        np.array([_right(source.name, score) for score in scores], dtype=np.int64),
        ANSWER,
        ids=pa.array([str(sample.get("id")) for sample in samples], pa.string()),
        group=None
        if asked.group is None
        else pa.array([text_at(s, asked.group) for s in samples], pa.string()),
        notes=(f"Answers are right by the scorer {scorer}.", *_first_of(epochs)),
        said=asked.as_options() | {"correct": scorer},
        rows=np.arange(len(samples)),
    )


def _first_of(epochs: int) -> tuple[str, ...]:
    if epochs == 1:
        return ()
    return (
        f"Only the first of {epochs} epochs is scored: several answers to one question are not independent "
        "examples, as intervals take them to be.",
    )


def _samples(source: Source) -> list[dict[str, Any]]:
    """The samples of a finished log."""
    log = _binary(source) if content_of(source)[:2] == b"PK" else _plain(source)
    if log.get("status") != "success":
        raise UsageError(
            f"The log {source.name!r} ended with status {log.get('status')!r}; expected one that finished: "
            "run inspect eval-retry on it."
        )
    samples = log.get("samples") or []
    if not samples:
        raise UsageError(f"The log {source.name!r} holds no samples; run it without --no-log-samples.")
    return list(samples)


def _plain(source: Source) -> dict[str, Any]:
    try:
        log = json.loads(content_of(source))
    except ValueError:
        log = None
    if not isinstance(log, dict) or "eval" not in log:
        raise UsageError(f"{source.name!r} is no log of Inspect; expected a .eval or .json file of its.")
    return log


def _binary(source: Source) -> dict[str, Any]:
    """A .eval file, whose compression only Inspect itself is sure to read."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise UsageError(
            f'Reading {source.name!r} takes Inspect: pip install "calibench[inspect]", or turn it to JSON '
            "with inspect log convert --to json --output-dir FOLDER."
        ) from error
    if source.path is None:
        raise UsageError("A .eval log cannot come by standard input; name the file.")
    try:
        found: dict[str, Any] = read_eval_log(str(source.path)).model_dump()
    except Exception as error:  # whatever another package raises about its own file
        raise UsageError(f"{source.name!r} is no log that this Inspect reads: {error}.") from error
    return found


def _scorer(file: str, samples: Sequence[Mapping[str, Any]], asked: str | None) -> str:
    names = list(dict.fromkeys(name for sample in samples for name in sample.get("scores") or {}))
    if not names:
        raise UsageError(f"No sample of {file!r} was scored; run inspect score on it.")
    if asked is None and len(names) > 1:
        raise UsageError(f"{file!r} has the scorers {', '.join(names)}; choose one with --correct.")
    if asked is not None and asked not in names:
        raise UsageError(f"{file!r} has no scorer {asked!r}; choose from {', '.join(names)} with --correct.")
    return asked or names[0]


def _at(sample: Mapping[str, Any], score: Any, path: str) -> Any:
    if path.startswith(_SCORE):
        return value_at(score, path.removeprefix(_SCORE))
    return value_at(sample, path)


def _number(value: Any) -> float:
    try:
        return float("nan") if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return float("nan")


def _right(file: str, score: Mapping[str, Any] | None) -> int:
    value = None if score is None else score.get("value")
    if value is None:
        return MISSING
    if isinstance(value, str) and value in _CORRECT:
        return _CORRECT[value]
    if isinstance(value, bool | int | float) and value in (0, 1):
        return RIGHT if value else WRONG
    raise UsageError(
        f"A score of {file!r} is {value!r}, which is neither right nor wrong; choose a scorer of C and I, or "
        "of 1 and 0, with --correct."
    )
