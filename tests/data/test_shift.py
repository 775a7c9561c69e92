"""Corruptions of texts: seeded, nested in their strength, and of the share of words that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.embedded import load
from calibench.data.shift import CORRUPTIONS, corrupt, shifted

TEXTS = st.text(alphabet="abQZ é'.1 \n", max_size=60)
KINDS = st.sampled_from(list(CORRUPTIONS))
STRENGTHS = st.floats(0.0, 1.0)
SEEDS = st.integers(0, 2**62)


@given(TEXTS, KINDS, SEEDS)
def test_strength_zero_leaves_the_very_text(text: str, kind: str, seed: int) -> None:
    """Space included; of pairs too."""
    assert corrupt(text, kind, 0.0, seed) == text
    assert corrupt((text, "a b"), kind, 0.0, seed) == (text, "a b")


@given(TEXTS, KINDS, STRENGTHS, SEEDS)
def test_the_same_seed_corrupts_the_same_way(text: str, kind: str, strength: float, seed: int) -> None:
    """Nothing but text, kind, strength and seed is drawn from; space around the text stays."""
    once = corrupt(text, kind, strength, seed)
    assert once == corrupt(text, kind, strength, seed)
    assert isinstance(once, str)
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    assert once[:start] == text[:start]
    assert once.endswith(text[end:])
    assert bool(once.split()) == bool(text.split())


def words(count: int) -> str:
    """Words that no corruption of one makes into another."""
    return " ".join(f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(count))


@given(st.integers(1, 40), st.sampled_from(["typos", "case"]), STRENGTHS, STRENGTHS, SEEDS)
def test_what_is_hit_stays_hit(count: int, kind: str, one: float, other: float, seed: int) -> None:
    """Word by word: at the higher strength the same words are changed in the same way, and more."""
    low, high = sorted((one, other))
    text = words(count).split()
    less, more = (str(corrupt(" ".join(text), kind, s, seed)).split() for s in (low, high))
    assert len(less) == len(more) == count
    for before, after, word in zip(less, more, text, strict=True):
        assert before in (word, after)


@given(st.integers(1, 40), st.sampled_from(["drop-words", "truncate"]), STRENGTHS, STRENGTHS, SEEDS)
def test_what_is_left_out_stays_out(count: int, kind: str, one: float, other: float, seed: int) -> None:
    """In order, and never everything."""
    low, high = sorted((one, other))
    text = words(count).split()
    less, more = (str(corrupt(" ".join(text), kind, s, seed)).split() for s in (low, high))
    assert set(more) <= set(less) <= set(text)
    assert more == [word for word in text if word in more] != []


def test_the_strength_is_the_share_of_words() -> None:
    """Of 4,000 words a strength of .3 hits 30%, up to 3.5 standard errors (.025); truncation exactly."""
    text = words(400).split()
    for kind in ("typos", "case", "drop-words"):
        hit = 0
        for seed in range(10):
            left = set(str(corrupt(" ".join(text), kind, 0.3, seed)).split())
            hit += sum(word not in left for word in text)
        # A doubled or swapped letter may leave a word of equal letters as it was, which ours have few of.
        assert hit / 4000 == pytest.approx(0.3, abs=0.025), kind
    assert len(str(corrupt(" ".join(text), "truncate", 0.3, 0)).split()) == 280
    assert corrupt("a b c d e f g h i j", "truncate", 0.1, 0) == "a b c d e f g h i"


def test_kinds_of_typos() -> None:
    """Each of the four happens, and nothing else: length and letters say which."""
    seen = set()
    for seed in range(200):
        typed = str(corrupt("Plain", "typos", 1.0, seed))
        if len(typed) == 4:
            seen.add("left out")
        elif len(typed) == 6:
            assert any(typed[:i] + typed[i + 1 :] == "Plain" for i in range(6))
            seen.add("doubled")
        elif sorted(typed) == sorted("Plain"):
            seen.add("swapped")
        else:
            assert sum(a != b for a, b in zip(typed, "Plain", strict=True)) == 1
            seen.add("beside")
    assert seen == {"left out", "doubled", "swapped", "beside"}


def test_a_shifted_data_set() -> None:
    """Rows, labels and order stay; a row is corrupted alike in any subset; the hash follows the texts."""
    from calibench.data.subset import take

    corpus = load(None, split="test")
    whole = shifted(corpus, "typos", 0.5, seed=3)
    index = np.array([4, 90, 17])
    assert shifted(take(corpus, index), "typos", 0.5, seed=3).texts == take(whole, index).texts
    assert np.array_equal(whole.rows, corpus.rows)
    assert np.array_equal(whole.labels, corpus.labels)
    assert shifted(corpus, "typos", 0.5, seed=4).texts != whole.texts
    assert len({whole.sha256, corpus.sha256, shifted(corpus, "typos", 0.4, seed=3).sha256}) == 3
    assert whole.posterior is None
