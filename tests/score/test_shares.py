"""Shares of the scored examples: Wilson's interval, and none where nothing was scored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from calibench.score.shares import share
from calibench.types import Interval


@pytest.mark.parametrize("right", [0, 3, 16])
def test_a_share_has_wilsons_interval(right: int) -> None:
    """None and all of 16 too, where the ends must not leave 0 and 1."""
    found = share(np.arange(16) < right)
    expected = binomtest(right, 16).proportion_ci(method="wilson")
    assert found.value == right / 16
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_of_nothing_there_is_no_share() -> None:
    """A reason stands in its place."""
    assert share(np.zeros(0, dtype=bool)) == Interval(None, None, None, "no such example was scored")
