"""Wilson's interval of a share: scipy's, within 0 and 1, and around the share, for one share and for many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from calibench.stats.intervals import wilson


@pytest.mark.parametrize("n", [1, 2, 16, 97, 200, 872])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_it_is_scipys(n: int, level: float) -> None:
    """At every share of n, none and all included, where the percentile bootstrap has no width."""
    successes = np.arange(n + 1)
    expected = [binomtest(int(k), n).proportion_ci(level, method="wilson") for k in successes]
    found = np.stack(wilson(successes, np.full(n + 1, n), level), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_rounding_leaves_no_end_beyond_0_and_1_or_beside_the_share() -> None:
    """Of 16 in 16 the formula ends at 1.0000000000000002, of 10 in 10 at .9999999999999999."""
    n, successes = np.tril_indices(201)
    n, successes = n[n > 0], successes[n > 0]
    low, high = wilson(successes, n, 0.95)
    share = successes / n
    assert len(n) == 200 * 203 // 2
    assert (low >= 0.0).all()
    assert (low <= share).all()
    assert (share <= high).all()
    assert (high <= 1.0).all()
    assert wilson(16, 16, 0.95)[1] == wilson(10, 10, 0.95)[1] == 1.0
    assert wilson(0, 7, 0.95)[0] == 0.0


def test_one_share_is_an_array_of_one() -> None:
    """Bit for bit, and as numbers that a record can hold."""
    low, high = wilson(np.array([799.0]), np.array([872]), 0.95)
    ends = wilson(799.0, 872, 0.95)
    assert ends == (low[0], high[0])
    assert all(isinstance(end, float) for end in ends)
