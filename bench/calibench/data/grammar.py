"""A probabilistic grammar whose sentences have an exactly known P(positive | sentence).

Every nonterminal is expanded in one of two hidden states, negative or positive. The state of the start symbol
is the label, a fair coin. A state chooses among the alternatives of its nonterminal with weights of its own,
and hands each nonterminal of the chosen alternative either its own state or, with a stated probability, the
opposite one: that is how words lean, how "not" flips, and how "although ..." concedes.

The notation, a line at a time (`assets/sentiment.grammar` is the real one)::

    clause                            a nonterminal; the first one is the start symbol
      6    the film is <adjective>    weight 6 in both states; the adjective shares the clause's state
      2    it is not <adjective 10>   ... agrees with it 10% of the time
    adjective
      9:1  superb / charming          for each of the two: weight 9 in a positive state, 1 in a negative one

Since derivations are unique, P(sentence | label) is a product over the nodes of one tree of small sums over
the node's state: the inside algorithm (Baker 1979, "Trainable grammars for speech recognition"). Weights are
integers and the arithmetic is +, * and / alone, so that the numbers are the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibench.types import FloatArray, IntArray

LABEL_NAMES = ("negative", "positive")

_NONTERMINAL = re.compile(r"<(\w+)(?: (\d+))?>")
_A_BEFORE_VOWEL = re.compile(r"\ba (?=[aeiou])")


@dataclass(frozen=True)
class Call:
    """A nonterminal inside an alternative, and the probability that its state agrees with its parent's."""

    name: str
    agreement: float


Symbol = str | Call


@dataclass(frozen=True, eq=False)
class Rule:
    """A nonterminal with A alternatives.

    Attributes:
        alternatives: A sequences of symbols; a string is one word.
        probs: float64 [A, 2], P(alternative | state), negative first.
        cumulative: float64 [A, 2], its running sum over alternatives, which ends in exactly 1.
    """

    alternatives: tuple[tuple[Symbol, ...], ...]
    probs: FloatArray
    cumulative: FloatArray


@dataclass(frozen=True, eq=False)
class Grammar:
    """A finite grammar: no nonterminal reaches itself.

    Attributes:
        rules: by name of the nonterminal.
        start: the nonterminal whose state is the label.
    """

    rules: dict[str, Rule]
    start: str

    @classmethod
    def parse(cls, notation: str) -> Grammar:
        """Read the notation of this module's docstring; raises ValueError naming the line it cannot read."""
        lines: dict[str, list[tuple[int, int, tuple[Symbol, ...]]]] = {}
        for number, line in enumerate(notation.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            if not line.startswith(" "):
                alternatives = lines.setdefault(line.strip(), [])
                continue
            match = re.fullmatch(r"\s+(\d+)(?::(\d+))?\s+(.+)", line)
            if match is None or not lines:
                raise ValueError(
                    f"line {number} of the grammar is not 'WEIGHT[:WEIGHT] alternatives': {line!r}"
                )
            positive, negative, right = int(match[1]), int(match[2] or match[1]), match[3]
            alternatives += [(negative, positive, _symbols(part)) for part in right.split(" / ")]
        rules = {name: _rule(alternatives) for name, alternatives in lines.items()}
        for rule in rules.values():
            for symbol in (symbol for symbols in rule.alternatives for symbol in symbols):
                if isinstance(symbol, Call) and symbol.name not in rules:
                    raise ValueError(f"the grammar uses <{symbol.name}> but does not define it")
        return cls(rules, next(iter(rules)))

    def sample(self, n: int, seed: int) -> tuple[list[str], IntArray, FloatArray]:
        """Draw `n` independent labelled sentences.

        Returns texts, labels int64 [n] (0 negative, 1 positive) and posterior float64 [n, 2], rows summing
        to 1: P(label | text). The draw is fixed by `n` and `seed` together.
        """
        rng = np.random.default_rng(seed)
        labels = (rng.random(n) < 0.5).astype(np.int64)
        texts, inside = self._expand(self.start, labels, rng)
        positive = inside[:, 1] / (inside[:, 0] + inside[:, 1])
        return [_surface(text) for text in texts], labels, np.stack([1.0 - positive, positive], axis=1)

    def inside(self, text: str) -> tuple[float, float]:
        """P(text | negative) and P(text | positive), summed over every derivation.

        Raises ValueError where the grammar does not generate `text`.
        """
        words = _words(text)
        ends = self._parse(self.start, 0, words, {}) if _surface(" ".join(words)) == text else {}
        if len(words) not in ends:
            raise ValueError(f"the grammar does not generate {text!r}")
        return ends[len(words)]

    def posterior(self, text: str) -> float:
        """P(positive | text), from the text alone; raises ValueError as `inside` does."""
        negative, positive = self.inside(text)
        return positive / (negative + positive)

    def _expand(
        self, name: str, states: IntArray, rng: np.random.Generator
    ) -> tuple[NDArray[Any], FloatArray]:
        """Expand one nonterminal for M sentences at once.

        Returns their words, str [M] as objects, and P(words | state), float64 [M, 2].
        """
        rule = self.rules[name]
        uniform = rng.random(len(states))
        chosen = np.empty(len(states), dtype=np.int64)
        for state in (0, 1):
            here = states == state
            chosen[here] = np.searchsorted(rule.cumulative[:, state], uniform[here], side="right")
        inside = rule.probs[chosen]
        texts = np.empty(len(states), dtype=object)
        for index in np.unique(chosen):
            rows = np.flatnonzero(chosen == index)
            parts: list[str | NDArray[Any]] = []
            for symbol in rule.alternatives[index]:
                if isinstance(symbol, str):
                    parts.append(symbol)
                    continue
                agrees = rng.random(len(rows)) < symbol.agreement
                words, below = self._expand(
                    symbol.name, np.where(agrees, states[rows], 1 - states[rows]), rng
                )
                inside[rows] *= symbol.agreement * below + (1.0 - symbol.agreement) * below[:, ::-1]
                parts.append(words)
            texts[rows] = _join(parts)
        return texts, inside

    def _parse(
        self,
        name: str,
        start: int,
        words: Sequence[str],
        memo: dict[tuple[str, int], dict[int, tuple[float, float]]],
    ) -> dict[int, tuple[float, float]]:
        """Where `name` can end if it begins at word `start`, with P(those words | state) for each end."""
        if (name, start) not in memo:
            rule, ends = self.rules[name], dict[int, tuple[float, float]]()
            for symbols, (negative, positive) in zip(rule.alternatives, rule.probs.tolist(), strict=True):
                for end, (below_0, below_1) in self._sequence(symbols, start, words, memo):
                    so_far = ends.get(end, (0.0, 0.0))
                    ends[end] = (so_far[0] + negative * below_0, so_far[1] + positive * below_1)
            memo[name, start] = ends
        return memo[name, start]

    def _sequence(
        self,
        symbols: tuple[Symbol, ...],
        start: int,
        words: Sequence[str],
        memo: dict[tuple[str, int], dict[int, tuple[float, float]]],
    ) -> Iterator[tuple[int, tuple[float, float]]]:
        """Every way in which `symbols` can cover words from `start` on: where it ends, P(words | state)."""
        if not symbols:
            yield start, (1.0, 1.0)
            return
        head, rest = symbols[0], symbols[1:]
        if isinstance(head, str):
            if start < len(words) and words[start] == head:
                yield from self._sequence(rest, start + 1, words, memo)
            return
        keep, flip = head.agreement, 1.0 - head.agreement
        for middle, (here_0, here_1) in self._parse(head.name, start, words, memo).items():
            for end, (after_0, after_1) in self._sequence(rest, middle, words, memo):
                yield (
                    end,
                    ((keep * here_0 + flip * here_1) * after_0, (keep * here_1 + flip * here_0) * after_1),
                )


def _symbols(alternative: str) -> tuple[Symbol, ...]:
    symbols: list[Symbol] = []
    position = 0
    for match in _NONTERMINAL.finditer(alternative):
        symbols += _words(alternative[position : match.start()])
        symbols.append(Call(match[1], int(match[2] or 100) / 100))
        position = match.end()
    return (*symbols, *_words(alternative[position:]))


def _rule(alternatives: list[tuple[int, int, tuple[Symbol, ...]]]) -> Rule:
    weights = np.array([(negative, positive) for negative, positive, _ in alternatives])
    total = weights.sum(axis=0)
    return Rule(
        tuple(symbols for *_, symbols in alternatives), weights / total, weights.cumsum(axis=0) / total
    )


def _words(text: str) -> list[str]:
    """The words as the rules know them, where the indefinite article is always "a"."""
    return ["a" if word == "an" else word for word in text.split()]


def _surface(text: str) -> str:
    return _A_BEFORE_VOWEL.sub("an ", text)


def _join(parts: list[str | NDArray[Any]]) -> str | NDArray[Any]:
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + " " + part
    return joined


@lru_cache(maxsize=1)
def sentiment() -> Grammar:
    """The grammar of the embedded corpus: snippets of film and restaurant reviews."""
    return Grammar.parse((resources.files(__package__) / "assets" / "sentiment.grammar").read_text("utf-8"))


def sample(n: int, seed: int) -> tuple[list[str], IntArray, FloatArray]:
    """`Grammar.sample` of the embedded corpus's grammar."""
    return sentiment().sample(n, seed)


def posterior(text: str) -> float:
    """`Grammar.posterior` of the embedded corpus's grammar."""
    return sentiment().posterior(text)
