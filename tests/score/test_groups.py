"""Fields of subgroups: metrics of each, and which groups were refused."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.errors import UsageError
from calibench.metrics.scoring import NLL
from calibench.score.groups import group_fields, refuse_small
from calibench.store.records import to_json
from simulated import simulated

NAMES = ("a", "b", "few")
GROUPS = np.repeat([0, 1, 2], [150, 120, 20])


def test_a_group_has_its_own_metrics() -> None:
    """Those of its examples alone; small groups are named with their size, and a record can hold all of "
    "it."""
    evaluation = simulated(1, len(GROUPS), 3)
    fields = group_fields(evaluation, GROUPS, NAMES, "region", 0)
    to_json(fields)
    assert fields["refused"] == {"few": 20}
    assert [(group["name"], group["n"]) for group in fields["groups"]] == [("a", 150), ("b", 120)]
    for number, group in enumerate(fields["groups"]):
        own = evaluation.take(np.flatnonzero(number == GROUPS))
        assert group["metrics"]["nll"]["value"] == NLL.evaluate(own)
        assert group["metrics"]["ece_noise_floor"]["value"] > 0.0
        assert set(group["against_rest"]) == {"accuracy", "nll", "brier", "ece_debiased"}


def test_groups_that_are_all_small_are_refused() -> None:
    """Before anything is scored, with the size of the largest."""
    refuse_small(GROUPS, "region")
    with pytest.raises(UsageError, match=r"each side needs 93 .* the largest group has 30 of 90"):
        refuse_small(np.repeat([0, 1, 2], 30), "region")
