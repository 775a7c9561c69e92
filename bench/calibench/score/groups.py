"""`groups` of a record: metrics of each subgroup, and its difference from all other examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.compare.groups import GroupDifference, against_rest, fewest, large_enough
from calibench.compare.verdicts import means_of
from calibench.errors import UsageError
from calibench.metrics.calibration import ECE
from calibench.score.quality import metric_values
from calibench.stats.mapped import examples_at
from calibench.types import Evaluation, IntArray


def group_fields(
    evaluation: Evaluation, groups: IntArray, names: Sequence[str], column: str, seed: int
) -> dict[str, Any]:
    """What a record says of subgroups.

    Args:
        evaluation: N examples in scope.
        groups: int64 [N], indices into `names`.
        column: what tells groups apart.
        seed: of resampling.
    """
    chosen = large_enough(groups)
    differences = against_rest(evaluation, groups, chosen)
    counts = np.bincount(groups, minlength=len(names))
    return {
        "column": column,
        "fewest": fewest(),
        "refused": {str(name): int(counts[i]) for i, name in enumerate(names) if i not in chosen},
        "groups": [
            {
                "name": str(names[number]),
                "n": int(counts[number]),
                "metrics": _metrics(examples_at(evaluation, np.flatnonzero(groups == number)), seed),
                "against_rest": {
                    item.metric.name: _fields(item) for item in differences if item.group == number
                },
            }
            for number in chosen
        ],
    }


def refuse_small(groups: IntArray, column: str) -> None:
    """Refuse a column without a group that is large enough.

    Raises:
        UsageError: there is none.
    """
    if not large_enough(groups):
        largest = int(np.bincount(groups).max())
        raise UsageError(
            f"No group of {column!r} can be compared with the others: each side needs {fewest()} examples, "
            f"so that its accuracy is known to 10 points, and the largest group has {largest:,} of "
            f"{len(groups):,}; choose another column with --group."
        )


def _metrics(evaluation: Evaluation, seed: int) -> dict[str, Any]:
    values = metric_values([*means_of(evaluation), ECE], evaluation, seed)
    return {
        name: {key: value for key, value in found.items() if key != "definition"}
        for name, found in values.items()
    }


def _fields(item: GroupDifference) -> dict[str, Any]:
    return item.difference.as_dict() | {"p_holm": item.adjusted_p, "verdict": item.verdict}
