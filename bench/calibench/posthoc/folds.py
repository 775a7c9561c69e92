"""Which example is held out when: seeded folds with the same mix of labels."""

from __future__ import annotations

import numpy as np

from calibench.types import IntArray


def stratified_folds(labels: IntArray, count: int, *, seed: int) -> IntArray:
    """Deal examples into folds, label by label in a seeded order.

    Every label's count differs by at most 1 between folds, and so do the sizes of the folds. Examples out of
    scope are dealt like those of any other label. The assignment depends on labels and seed alone, so that
    all methods share it.

    Args:
        labels: int64 [N]; -1 for examples out of scope.
        count: number of folds.

    Returns:
        int64 [N], the fold of each example, from 0 to `count` - 1.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % count
    return fold
