"""The grammar behind the embedded corpus: its likelihood and its posterior are exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibench.data import grammar
from calibench.data.grammar import Call, Grammar
from calibench.types import FloatArray, IntArray

SMALL = """
# Two levels of agreement, a flip, an article, and the same words under several derivations of the state.
review
  3    <clause 90> .
  2    <clause 30> but <clause 80> .
clause
  4:3  it is a <adjective> film
  1:2  it is not a <adjective 10> film
adjective
  7:2  old / enjoyable
  1:5  dull
"""
AMBIGUOUS = """
review
  2    <left> <right 70>
left
  1:3  so / so so
right
  2:1  so / so so
"""
# What remains to be derived: words, and nonterminals in a tuple of their own.
Rest = tuple[str | tuple[str], ...]

seeds = st.integers(0, 2**32 - 1)


def derivations(rules: Grammar, name: str, state: int) -> Iterator[tuple[str, float]]:
    """Every derivation of `name` from `state`, hidden states spelled out: its words and its probability."""
    rule = rules.rules[name]
    for symbols, probs in zip(rule.alternatives, rule.probs, strict=True):
        partial = [("", float(probs[state]))]
        for symbol in symbols:
            if isinstance(symbol, Call):
                below = [
                    (words, p * chance)
                    for child, chance in ((state, symbol.agreement), (1 - state, 1 - symbol.agreement))
                    for words, p in derivations(rules, symbol.name, child)
                ]
            else:
                below = [(symbol, 1.0)]
            partial = [(f"{before} {words}".strip(), p * q) for before, p in partial for words, q in below]
        yield from partial


def brute_force(rules: Grammar) -> dict[str, FloatArray]:
    """P(text | state) of every sentence of a grammar, float64 [2], by adding up derivations."""
    total: dict[str, FloatArray] = defaultdict(lambda: np.zeros(2))
    for state in (0, 1):
        for words, p in derivations(rules, rules.start, state):
            total[words.replace("a old", "an old").replace("a enjoyable", "an enjoyable")][state] += p
    return dict(total)


def ambiguous(rules: Grammar) -> bool:
    """Whether any sentence has two derivations, decided for the whole language at once.

    What remains to be derived, left to right, is a state of a finite automaton over words. Two derivations of
    one sentence are two paths that part and meet again; all pairs of states that paths which have parted
    can reach with the same words are visited.
    """
    bodies = {
        name: [tuple((s.name,) if isinstance(s, Call) else s for s in body) for body in rule.alternatives]
        for name, rule in rules.rules.items()
    }

    @cache
    def steps(rest: Rest) -> dict[str, list[Rest]]:
        if not rest:
            return {}
        if isinstance(rest[0], str):
            return {rest[0]: [rest[1:]]}
        found: dict[str, list[Rest]] = defaultdict(list)
        for body in bodies[rest[0][0]]:
            for word, after in steps(body + rest[1:]).items():
                found[word] += after
        return dict(found)

    start: Rest = ((rules.start,),)
    seen, todo = {(start, start)}, [(start, start)]
    while todo:
        one, other = todo.pop()
        for word, after_one in steps(one).items():
            after_other = steps(other).get(word, [])
            parted_and_met = set(after_one) & set(after_other) if one != other else ()
            if parted_and_met or (one == other and len(set(after_one)) < len(after_one)):
                return True
            fresh = {(a, b) for a in after_one for b in after_other} - seen
            seen |= fresh
            todo += fresh
    return False


def chi_square(posterior: FloatArray, labels: IntArray, bins: int = 20) -> float:
    """P-value of "the labels are drawn from P(positive) = posterior", over equally filled bins of it."""
    order = np.argsort(posterior, kind="stable")
    groups = np.array_split(order, bins)
    excess = np.array([(labels[g] - posterior[g]).sum() for g in groups])
    variance = np.array([(posterior[g] * (1 - posterior[g])).sum() for g in groups])
    return float(stats.chi2.sf((excess**2 / variance).sum(), bins))


@pytest.mark.parametrize("notation", [SMALL, AMBIGUOUS])
def test_inside_equals_brute_force(notation: str) -> None:
    """The likelihood of every sentence of a small grammar is the sum over its derivations, and sums to 1."""
    rules = Grammar.parse(notation)
    truth = brute_force(rules)
    assert np.sum(list(truth.values()), axis=0) == pytest.approx([1, 1], abs=1e-12)
    for text, likelihood in truth.items():
        assert rules.inside(text) == pytest.approx(tuple(likelihood), rel=1e-12)
        assert rules.posterior(text) == pytest.approx(likelihood[1] / likelihood.sum(), rel=1e-12)


def test_sentences_are_drawn_from_the_likelihood() -> None:
    """Counts of (sentence, label) fit the brute-force probabilities: chi-square, false-alarm rate 1e-4."""
    rules = Grammar.parse(SMALL)
    truth = brute_force(rules)
    texts, labels, posterior = rules.sample(50_000, seed=3)
    cells = {key: 0 for text in truth for key in ((text, 0), (text, 1))}
    for text, label in zip(texts, labels.tolist(), strict=True):
        cells[text, label] += 1
    expected = [len(texts) * 0.5 * truth[text][label] for text, label in cells]
    assert min(expected) > 5
    assert stats.chisquare(list(cells.values()), expected).pvalue > 1e-4
    assert posterior[:, 1] == pytest.approx([truth[t][1] / truth[t].sum() for t in texts], rel=1e-12)


def test_no_sentence_has_two_derivations() -> None:
    """The whole language of the corpus is free of ambiguity, and the check finds it where it is planted."""
    assert ambiguous(Grammar.parse(AMBIGUOUS))
    assert ambiguous(Grammar.parse("s\n  1  good / bad / good\n"))
    assert not ambiguous(Grammar.parse(SMALL))
    assert not ambiguous(grammar.sentiment())


@given(seed=seeds)
def test_posterior_needs_the_text_alone(seed: int) -> None:
    """Parsing a sampled sentence gives back the posterior it was sampled with."""
    texts, labels, posterior = grammar.sample(5, seed)
    assert labels.dtype == np.int64
    assert posterior.dtype == np.float64
    assert posterior.shape == (5, 2)
    assert posterior.sum(1) == pytest.approx(np.ones(5), abs=1e-15)
    assert [grammar.posterior(text) for text in texts] == pytest.approx(posterior[:, 1].tolist(), rel=1e-12)


@given(seed=seeds, cut=st.integers(1, 3), place=st.floats(0, 1, exclude_max=True))
def test_text_outside_the_grammar_is_refused(seed: int, cut: int, place: float) -> None:
    """A sentence that is cut short, has a foreign word, or doubles a word has no posterior."""
    words = grammar.sample(1, seed)[0][0].split()
    here = int(place * len(words))
    for broken in (words[:-cut], [*words[:here], "xyzzy", *words[here:]], [*words, words[-1]]):
        with pytest.raises(ValueError, match="does not generate"):
            grammar.posterior(" ".join(broken))


@given(text=st.text(max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    """No arbitrary string crashes the parser."""
    with pytest.raises(ValueError, match="does not generate"):
        grammar.posterior(text)


def test_articles() -> None:
    """Only the article that English wants is in the language."""
    assert 0 < grammar.posterior("an elegant film .") < 1
    for text in ("a elegant film .", "an superb film .", " an elegant film ."):
        with pytest.raises(ValueError, match="does not generate"):
            grammar.posterior(text)


def test_words_negation_and_contrast_move_the_posterior_as_they_mean() -> None:
    """Strong words decide, "not" flips, the clause after "but" outweighs the other."""
    p = grammar.posterior
    assert p("the acting is superb .") > 0.9
    assert p("the acting is dreadful .") < 0.1
    assert p("the acting is not superb .") < 0.2
    assert p("the acting is not dreadful .") > 0.8
    assert p("the plot is dull , but the acting is superb .") > 0.9
    assert p("the plot is superb , but the acting is dull .") < 0.1
    assert p("critics say that the acting is superb .") < p("the acting is superb .")
    assert p("the acting is quiet .") == pytest.approx(0.5, abs=0.02)


def test_a_grammar_that_cannot_be_read_is_refused() -> None:
    """A malformed line and an undefined nonterminal are named."""
    with pytest.raises(ValueError, match="line 2 of the grammar"):
        Grammar.parse("s\n  good\n")
    with pytest.raises(ValueError, match="<t> but does not define"):
        Grammar.parse("s\n  1  <t>\n")


def test_posterior_is_calibrated() -> None:
    """Labels of 100,000 sentences fit their posteriors (false-alarm rate 1e-4), and sharpened ones do not."""
    _, labels, posterior = grammar.sample(100_000, seed=11)
    p = posterior[:, 1]
    assert chi_square(p, labels) > 1e-4
    assert chi_square(p**1.1 / (p**1.1 + (1 - p) ** 1.1), labels) < 1e-4


def test_language_is_like_reviews() -> None:
    """Hundreds of words, 4 to about 35 a sentence, hard sentences among easy ones, a realistic ceiling."""
    texts, _, posterior = grammar.sample(20_000, seed=12)
    lengths = np.array([len(text.split()) for text in texts])
    confidence = posterior.max(1)
    assert len({word for text in texts for word in text.split()}) > 500
    assert lengths.min() == 4
    assert 30 <= np.quantile(lengths, 0.999) <= 45
    assert 0.90 < confidence.mean() < 0.93
    assert np.mean(confidence < 0.8) > 0.1
