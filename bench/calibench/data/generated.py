"""Labelled texts drawn from laws with an exactly known P(label | text): tasks of many kinds, made on demand.

A task has C classes with prior weights, and a vocabulary in which every class favours words of its own and
some of its neighbour's. A text is words drawn independently from the distribution of its class, so that the
posterior is that of the multinomial naive Bayes model (Lewis 1998, "Naive (Bayes) at forty"), which is true
here. Weights are integers, and draws compare integers: the texts are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from calibench.errors import UsageError
from calibench.hashing import dataset_sha256
from calibench.seeds import derived_seed
from calibench.types import Dataset, FloatArray, IntArray

#: Words of a text, fewest and most; each number is as likely.
LENGTHS = (4, 16)
#: Sizes of the splits that are not scored.
OTHER_SPLITS = {"validation": 500, "train": 12_000}
_SYLLABLES = tuple(f"{onset}{vowel}" for onset in "bdfgklmnprstvz" for vowel in "aeiou")
#: Words of the vocabulary that no class favours.
_COMMON = 150
#: Words that a class favours; it shares this many with the next class.
_OWN, _SHARED = 12, 4


@dataclass(frozen=True)
class Task:
    """A law of labelled texts.

    Attributes:
        classes: C.
        strength: how many times as often a class uses a word that it favours.
        examples: of the split that is scored.
        tail: the prior of class k is proportional to 1 / (1 + tail k).
    """

    classes: int
    strength: int
    examples: int
    tail: float = 0.0


#: By name; `scripts/make_tasks.py` trains a checkpoint for each, well or badly calibrated.
TASKS = {
    "2-classes-300": Task(2, 70, 300),
    "2-classes-5000": Task(2, 1500, 5000),
    "5-classes-1000": Task(5, 80, 1000),
    "5-classes-tail-2000": Task(5, 150, 2000, tail=3.0),
    "20-classes-300": Task(20, 300, 300),
    "20-classes-tail-2000": Task(20, 120, 2000, tail=1.0),
    "77-classes-1000": Task(77, 400, 1000),
    "77-classes-tail-3000": Task(77, 200, 3000, tail=0.5),
}


@dataclass(frozen=True, eq=False)
class Law:
    """What the texts of a task are drawn from.

    Attributes:
        weights: int64 [C, V], of each word in each class.
        priors: int64 [C], weights of the classes.
    """

    weights: IntArray
    priors: IntArray

    @classmethod
    def of(cls, task: Task) -> Law:
        """Common words by Zipf's law; a class favours a run of rarer ones, which overlaps the next one's."""
        apart = _OWN - _SHARED
        base = np.concatenate([2000 // np.arange(4, 4 + _COMMON), np.full(task.classes * apart, 3)])
        weights = np.tile(base, (task.classes, 1))
        favoured = _COMMON + np.arange(task.classes)[:, None] * apart + np.arange(_OWN)
        favoured = _COMMON + (favoured - _COMMON) % (task.classes * apart)
        np.put_along_axis(weights, favoured, 3 * task.strength, axis=1)
        priors = np.rint(1e6 / (1.0 + task.tail * np.arange(task.classes)))
        return cls(weights.astype(np.int64), priors.astype(np.int64))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[list[IntArray], IntArray, FloatArray]:
        """Words of n texts, each an int64 array; labels int64 [n]; posterior float64 [n, C]."""
        labels = _drawn(self.priors, n, rng)
        lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, size=n)
        logs = np.log(self.weights) - np.log(self.weights.sum(axis=1, keepdims=True))
        texts = [_drawn(self.weights[label], int(m), rng) for label, m in zip(labels, lengths, strict=True)]
        scores = np.log(self.priors) + np.array([logs[:, words].sum(axis=1) for words in texts])
        posterior = np.exp(scores - scores.max(axis=1, keepdims=True))
        return texts, labels, posterior / posterior.sum(axis=1, keepdims=True)


def _drawn(weights: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    ends = np.cumsum(weights)
    return np.searchsorted(ends, rng.integers(ends[-1], size=n), side="right").astype(np.int64)


def vocabulary(task: Task) -> tuple[str, ...]:
    """The V words of a task: the common ones of two syllables, the others of three."""
    count = _COMMON + task.classes * (_OWN - _SHARED)
    base = len(_SYLLABLES)
    # A step that shares no factor with the number of syllables visits each pair once before any comes again.
    pairs = [(23 * at) % (base * base) for at in range(count)]
    words = [_SYLLABLES[pair // base] + _SYLLABLES[pair % base] for pair in pairs]
    return tuple(word if at < _COMMON else word + _SYLLABLES[at % base] for at, word in enumerate(words))


def label_names(task: Task) -> tuple[str, ...]:
    """The C names, whose order by alphabet is their order."""
    return tuple(f"topic {number:02d}" for number in range(task.classes))


def load(name: str | None = None, *, split: str | None = None, **options: Any) -> Dataset:
    """300 to 5,000 texts in 2 to 77 classes, drawn from a law with known P(label | text): see its names.

    Args:
        name: a key of `TASKS`.
        split: "test" (the default), which is scored, "validation" or "train".

    Raises:
        UsageError: no such task or split, or an option that a generated data set does not have.
    """
    if name not in TASKS:
        near = get_close_matches(str(name), TASKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose {', '.join(TASKS)}."
        raise UsageError(f"There is no generated task {name!r}: {hint}")
    unused = sorted(option for option, value in options.items() if value not in (None, ()))
    if unused:
        raise UsageError(f"A generated data set takes no {' or '.join(unused)}: leave that out.")
    split = split or "test"
    if split != "test" and split not in OTHER_SPLITS:
        raise UsageError(
            f"A generated data set has no split {split!r}: choose test or {' or '.join(OTHER_SPLITS)}."
        )
    return _made(name, split)


@lru_cache(maxsize=8)
def _made(name: str, split: str) -> Dataset:
    task = TASKS[name]
    rng = np.random.default_rng(derived_seed(0, "generated", name, split))
    drawn, labels, posterior = Law.of(task).sample(OTHER_SPLITS.get(split, task.examples), rng)
    words, names = vocabulary(task), label_names(task)
    texts = tuple(" ".join(words[at] for at in text) for text in drawn)
    return Dataset(
        texts=texts,
        labels=labels,
        label_names=names,
        rows=np.arange(len(texts), dtype=np.int64),
        name=name,
        config=None,
        split=split,
        revision=None,
        source="generated",
        sha256=dataset_sha256(texts, labels, names, split),
        posterior=posterior,
    )
