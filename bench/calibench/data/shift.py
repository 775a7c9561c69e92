"""Our own corruptions of texts, each with a strength from 0 to 1: how far the data may drift from the tests.

    typos       a share `strength` of the words has one typing error: two letters swapped, one left out,
                doubled, or hit beside its key
    drop-words  a share `strength` of the words is missing; one is left at least
    case        a share `strength` of the words has its case swapped
    truncate    the last share `strength` of the words is cut off; one is left at least

What happens to a word, should it be hit, is drawn from seed and row alone, and so is a number that the
strength is held against: what is corrupted at one strength is corrupted in the same way at every higher one,
and strength 0 leaves the very text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from calibench.errors import UsageError, unknown
from calibench.hashing import dataset_sha256
from calibench.seeds import derived_seed
from calibench.types import Dataset, FloatArray, Text

#: Rows of a keyboard; letters beside each other are hit for each other.
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def check(corruption: str, strength: float) -> None:
    """Refuse what is no corruption of ours, or no strength.

    Raises:
        UsageError: naming the choices.
    """
    if corruption not in CORRUPTIONS:
        raise unknown(f"Unknown shift {corruption!r}", corruption, CORRUPTIONS)
    if not 0.0 < strength <= 1.0:
        raise UsageError(f"A shift has strength {strength:g}; expected a number above 0 and up to 1.")


def shifted(dataset: Dataset, corruption: str, strength: float, seed: int) -> Dataset:
    """The data set with its texts corrupted, in the same order, with the hash of what came out.

    Args:
        corruption: one of `CORRUPTIONS`.
        strength: from 0 to 1.
        seed: with an example's row, what all is drawn from.
    """
    texts = tuple(
        corrupt(text, corruption, strength, derived_seed(seed, f"shift-{corruption}", int(row)))
        for text, row in zip(dataset.texts, dataset.rows, strict=True)
    )
    return replace(
        dataset,
        texts=texts,
        posterior=None,
        sha256=dataset_sha256(texts, dataset.labels, dataset.label_names, dataset.split),
    )


def corrupt(text: Text, corruption: str, strength: float, seed: int) -> Text:
    """One text; of a pair both sides, from draws of their own."""
    rng = np.random.default_rng(seed)
    if isinstance(text, str):
        return _corrupt(text, corruption, strength, rng)
    return _corrupt(text[0], corruption, strength, rng), _corrupt(text[1], corruption, strength, rng)


def _corrupt(text: str, corruption: str, strength: float, rng: np.random.Generator) -> str:
    # Space around the text stays; each word but the first has the space before it.
    inner = text.strip()
    words = re.findall(r"\s*\S+", inner)
    if not words:
        return text
    # All that could be needed is drawn, whatever the strength.
    draws = rng.random((len(words), 4))
    changed = "".join(CORRUPTIONS[corruption](words, strength, draws)).lstrip()
    before, after = text.split(inner, 1)
    return before + changed + after


def _typos(words: list[str], strength: float, draws: FloatArray) -> list[str]:
    return [
        _mistyped(word, *draw[1:]) if draw[0] < strength else word
        for word, draw in zip(words, draws.tolist(), strict=True)
    ]


def _mistyped(word: str, kind: float, place: float, choice: float) -> str:
    """The word with one error; words of one letter are typed right."""
    letters = [i for i, char in enumerate(word) if char.isalnum()]
    if len(letters) < 2:
        return word
    at = letters[int(place * len(letters))]
    how = int(kind * 4)
    if how == 0:
        # The last letter has none after it to be swapped with.
        other = letters[min(letters.index(at), len(letters) - 2)]
        return word[:other] + word[other + 1] + word[other] + word[other + 2 :]
    if how == 1:
        return word[:at] + word[at + 1 :]
    if how == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + _near_key(word[at], choice) + word[at + 1 :]


def _near_key(char: str, choice: float) -> str:
    """A letter beside this one on the keyboard, in its case; anything else is hit twice."""
    for row in _KEYS:
        at = row.find(char.lower())
        if at >= 0:
            near = [row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)]
            hit = near[int(choice * len(near))]
            return hit.upper() if char.isupper() else hit
    return char * 2


def _drop_words(words: list[str], strength: float, draws: FloatArray) -> list[str]:
    last = int(draws[:, 0].argmax())
    return [word for i, word in enumerate(words) if draws[i, 0] >= strength or i == last]


def _case(words: list[str], strength: float, draws: FloatArray) -> list[str]:
    hit = draws[:, 0] < strength
    return [word.swapcase() if swap else word for word, swap in zip(words, hit, strict=True)]


def _truncate(words: list[str], strength: float, draws: FloatArray) -> list[str]:  # noqa: ARG001 - no luck in it
    # Rounded, because (1 - .1) * 10 must not become a tenth word by its last bit.
    return words[: max(1, math.ceil(round((1.0 - strength) * len(words), 9)))]


#: By name: words, strength, float64 [words, 4] in [0, 1), the first of which the strength is held against.
CORRUPTIONS: dict[str, Callable[[list[str], float, FloatArray], list[str]]] = {
    "typos": _typos,
    "drop-words": _drop_words,
    "case": _case,
    "truncate": _truncate,
}
