"""The law of stratified masks: each copy is ordinary dropout, and a stratum drops all units equally often."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from calibench.errors import CalibenchError, UsageError
from calibench_methods.sampling.masks import MOST_PATTERNS, IndependentCopies, MaskSource, Stratum

#: (p, copies) with a whole number of drops per unit, and without.
WHOLE = [(0.1, 10), (0.2, 10), (0.5, 2), (0.3, 20), (0.25, 4)]
BROKEN = [(0.15, 10), (0.1, 7), (0.37, 9), (0.05, 10), (0.1, 1)]
EITHER = pytest.mark.parametrize(("p", "copies"), WHOLE + BROKEN)


def drops(
    p: float, copies: int, shape: tuple[int, ...] = (16, 33), *, key: int = 5, rows: int = 60
) -> NDArray[np.bool_]:
    """Which units are dropped: bool [copies, rows, *shape]."""
    patterns = MaskSource(copies).patterns(key, torch.arange(rows), shape, p).numpy()
    return np.stack([(patterns >> copy) & 1 == 1 for copy in range(copies)])


def pattern_law(stratum: Stratum | IndependentCopies) -> NDArray[np.float64]:
    """The probability of each pattern, exactly: how many of the 2**32 draws it gets, found by bisection."""
    low = torch.zeros(len(stratum.table), dtype=torch.int64)
    high = torch.full_like(low, 2**32)
    wanted = torch.arange(len(low))
    for _ in range(33):
        middle = (low + high) // 2
        above = stratum.ranks(middle.clamp(max=2**32 - 1)) >= wanted
        high = torch.where(above, middle, high)
        low = torch.where(above, low, torch.minimum(middle + 1, high))
    return np.diff([*high.tolist(), 2**32]) / 2**32


@given(p=st.floats(0.001, 0.999), copies=st.integers(1, 12))
def test_marginal_law_is_exact(p: float, copies: int) -> None:
    """For any p and T each copy drops a unit with probability p, all pairs of copies with one probability.

    No sampling: all 2**32 draws are counted, and a pattern may be off by 2**-31.
    """
    stratum = Stratum(p, copies)
    law = pattern_law(stratum)
    assert (law >= 0).all()
    bits = (stratum.table.numpy()[:, None] >> np.arange(copies)) & 1
    slack = len(law) / 2**31 + 1e-9
    np.testing.assert_allclose(law @ bits, p, rtol=0, atol=slack)
    assert np.ptp(bits.sum(axis=1)) <= 1
    if copies > 1:
        pairs = np.einsum("n,ns,nt->st", law, bits, bits)[~np.eye(copies, dtype=bool)]
        assert np.ptp(pairs) < 4 * slack


@given(p=st.floats(0.001, 0.999), copies=st.integers(1, 10))
def test_independent_copies_have_the_binomial_law(p: float, copies: int) -> None:
    """A pattern of k drops has probability p^k (1 - p)^(T - k) to within 2**-31: all draws are counted."""
    law = IndependentCopies(p, copies)
    drops = np.array([int(pattern).bit_count() for pattern in law.table])
    expected = p**drops * (1 - p) ** (copies - drops)
    np.testing.assert_allclose(pattern_law(law), expected, rtol=0, atol=2.0**-31)


@pytest.mark.parametrize(("p", "copies"), WHOLE)
def test_every_unit_is_dropped_equally_often(p: float, copies: int) -> None:
    """Where T p is a whole number, every unit is dropped in exactly that many copies."""
    assert (drops(p, copies).sum(axis=0) == round(p * copies)).all()


@pytest.mark.parametrize(("p", "copies"), BROKEN)
def test_counts_are_rounded_at_random(p: float, copies: int) -> None:
    """Elsewhere it is T p rounded down or up, with the mean T p. False alarms: 5 standard errors, 6e-7."""
    counts = drops(p, copies).sum(axis=0)
    few, rest = divmod(p * copies, 1)
    assert set(np.unique(counts)) == {few, few + 1}
    assert abs(counts.mean() - p * copies) < 5 * math.sqrt(rest * (1 - rest) / counts.size)


@EITHER
def test_copies_are_bernoulli(p: float, copies: int) -> None:
    """Words of four neighbouring units of a copy have the law of independent Bernoulli(p) draws.

    Chi-square over the 16 words, each copy at 1e-6: false alarms below 2e-5 per case.
    """
    ones = np.array([bin(word).count("1") for word in range(16)])
    law = p**ones * (1 - p) ** (4 - ones)
    for dropped in drops(p, copies, (16, 64)):
        words = dropped.reshape(-1, 4) @ (1 << np.arange(4))
        # Rare words go together, as the approximation wants five expected of each.
        few = law * len(words) < 5
        seen = np.bincount(words, minlength=16)
        seen_groups = [*seen[~few], *([seen[few].sum()] if few.any() else [])]
        law_groups = [*law[~few], *([law[few].sum()] if few.any() else [])]
        assert stats.chisquare(seen_groups, np.array(law_groups) * len(words)).pvalue > 1e-6


@EITHER
def test_units_rows_and_keys_are_independent(p: float, copies: int) -> None:
    """Drops are uncorrelated with the next unit, position, row and key, in all copies.

    False alarms: at most 80 correlations at 5 standard errors, below 5e-5 per case.
    """
    here = drops(p, copies) - p
    others = {
        "unit": (here[..., :-1], here[..., 1:]),
        "position": (here[:, :, :-1], here[:, :, 1:]),
        "row": (here[:, :-1], here[:, 1:]),
        "key": (here, drops(p, copies, key=6) - p),
    }
    for a, b in others.values():
        products = (a * b).reshape(copies, -1)
        assert (np.abs(products.mean(axis=1)) < 5 * p * (1 - p) / math.sqrt(products.shape[1])).all()


@pytest.mark.parametrize(("p", "copies"), WHOLE + BROKEN[:-1])
def test_copies_are_negatively_correlated(p: float, copies: int) -> None:
    """Two copies of a unit have the correlation (r - 1) / (T - 1). False alarms: 5 standard errors, 6e-7."""
    rest = p * copies % 1
    rest = 0.0 if min(rest, 1 - rest) < 1e-9 else rest
    remainder = rest * (1 - rest) / (copies * p * (1 - p))
    first, second = drops(p, copies, rows=400)[:2] - p
    products = (first * second).ravel() / (p * (1 - p))
    error = products.std() / math.sqrt(products.size)
    assert abs(products.mean() - (remainder - 1) / (copies - 1)) < 5 * error + 1e-9


@given(length=st.integers(1, 9), width=st.integers(1, 9), more=st.integers(0, 5), row=st.integers(0, 2**40))
def test_masks_do_not_depend_on_padding_or_on_other_rows(
    length: int, width: int, more: int, row: int
) -> None:
    """A unit's mask is the same in a longer tensor, wider by any number, and among other rows."""
    source = MaskSource(10)
    alone = source.patterns(3, torch.tensor([row]), (2, length, width), 0.1)
    rows = torch.tensor([row + 1, row])
    padded = source.patterns(3, rows, (2, length + more, width + more), 0.1)
    assert torch.equal(alone[0], padded[1, :, :length, :width])


@EITHER
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_and_masks_say_what_draws_and_patterns_say(p: float, copies: int, dtype: torch.dtype) -> None:
    """Two draws to a word, in whichever way they are ranked; a copy's mask is 1 where its bit is not set."""
    words = torch.tensor([0, -1, 2**31, -(2**31), 2**63 - 1, -(2**63), 0x123456789ABCDEF, 2**32 - 1])
    halves = torch.stack([words & (2**32 - 1), (words >> 32) & (2**32 - 1)], dim=-1)
    for law in (Stratum(p, copies), IndependentCopies(p, min(copies, 16))):
        ranks = law.ranks_of_words(words[:, None])
        assert torch.equal(ranks.long(), law.ranks(halves).long())
        kept = law.masks(ranks, dtype)
        for copy in range(law.copies):
            expected = 1 - ((law.table[ranks.long()] >> copy) & 1)
            assert torch.equal(kept(copy), expected.to(dtype))


def test_masks_are_fixed() -> None:
    """A key gives the same masks for ever: the digits of one, so that a change does not pass unnoticed."""
    patterns = MaskSource(10).patterns(3, torch.tensor([7]), (5,), 0.2)
    assert patterns.tolist() == [[640, 272, 6, 18, 17]]


def test_what_cannot_be_is_refused() -> None:
    """Too many copies, patterns or axes are errors that say what would do."""
    with pytest.raises(UsageError, match="32 copies: choose 1 to 31"):
        Stratum(0.1, 32)
    with pytest.raises(UsageError, match=rf"more than {MOST_PATTERNS}: choose a smaller stratum_size"):
        Stratum(0.5, 30)
    with pytest.raises(CalibenchError, match="at most 3 axes"):
        MaskSource(2).patterns(1, torch.tensor([1]), (2, 2, 2, 2), 0.1)
