"""Parts of a data set: seeded, in order, and with the hash of what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.subset import limit
from calibench.errors import UsageError
from made_data import example


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
def test_a_limit_is_a_seeded_subset_in_order(size: int, n: int, seed: int) -> None:
    """Rows ascend, texts and labels stay with their rows, and the same seed draws the same."""
    dataset = example(np.arange(size) % 3, ["a", "b", "c"], np.eye(3)[np.arange(size) % 3])
    part = limit(dataset, n, seed)
    assert len(part) == min(n, size)
    assert (np.diff(part.rows) > 0).all()
    places = part.rows - 10
    assert part.texts == tuple(dataset.texts[i] for i in places)
    np.testing.assert_array_equal(part.labels, dataset.labels[places])
    np.testing.assert_array_equal(part.posterior, dataset.posterior[places])
    assert part.sha256 == limit(dataset, n, seed).sha256
    assert (part.sha256 == dataset.sha256) == (n >= size)


def test_a_limit_is_spread_over_a_sorted_file() -> None:
    """CLINC's files are sorted by label: the first rows would be a few classes.

    A class of 20 among 3,000 is missed by 1,000 draws with probability (2/3)^20 = 3e-4; seeds are fixed.
    """
    dataset = example(np.repeat(np.arange(150), 20), [f"class {i}" for i in range(150)])
    chosen = [limit(dataset, 1000, seed) for seed in range(3)]
    assert min(len(np.unique(part.labels)) for part in chosen) > 147
    assert len({part.sha256 for part in chosen}) == 3


def test_a_limit_below_one_is_refused() -> None:
    """Nothing can be measured on no examples."""
    with pytest.raises(UsageError, match="at least 1"):
        limit(example([0, 1], ["a", "b"]), 0, 0)
