"""A data set made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.hashing import dataset_sha256
from calibench.types import Dataset


def example(labels: Sequence[int], names: Sequence[str], posterior: Any = None) -> Dataset:
    """A data set made by hand."""
    texts = tuple(f"text {i}" for i in range(len(labels)))
    array = np.array(labels, dtype=np.int64)
    return Dataset(
        texts=texts,
        labels=array,
        label_names=tuple(names),
        rows=np.arange(10, 10 + len(labels)),
        name="made",
        config=None,
        split="test",
        revision=None,
        source="folder",
        sha256=dataset_sha256(texts, array, names, "test"),
        posterior=posterior,
    )
