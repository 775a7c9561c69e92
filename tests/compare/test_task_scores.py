"""Verdicts of a task from those of its replicates."""

from __future__ import annotations

import pytest

from calibench.compare.task_scores import overall
from calibench.compare.verdicts import UNDECIDED, Verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["better"], "better"),
        (["better", "better", UNDECIDED], "better"),
        (["better", UNDECIDED], UNDECIDED),
        (["better", "better", "worse"], UNDECIDED),
        (["worse", "worse"], "worse"),
        ([UNDECIDED], UNDECIDED),
    ],
)
def test_more_than_half_and_none_to_the_contrary(verdicts: list[Verdict], expected: Verdict) -> None:
    """One of two is no majority, and two against one no agreement."""
    assert overall(verdicts) == expected
