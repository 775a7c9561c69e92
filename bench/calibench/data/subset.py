"""Parts of a data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibench.errors import UsageError
from calibench.hashing import dataset_sha256
from calibench.types import Dataset, IntArray


def take(dataset: Dataset, index: IntArray) -> Dataset:
    """The examples at `index`, int64 [M], in that order, with the hash of what is left."""
    texts = tuple(dataset.texts[i] for i in index)
    labels = dataset.labels[index]
    return replace(
        dataset,
        texts=texts,
        labels=labels,
        rows=dataset.rows[index],
        posterior=None if dataset.posterior is None else dataset.posterior[index],
        sha256=dataset_sha256(texts, labels, dataset.label_names, dataset.split),
    )


def limit(dataset: Dataset, n: int, seed: int) -> Dataset:
    """A random subset of `n` examples drawn from `seed`, in data set order; all where there are no more.

    Random, because files are often sorted by label.

    Raises:
        UsageError: `n` is below one.
    """
    if n < 1:
        raise UsageError(f"The limit is {n}: pass a whole number of at least 1.")
    if n >= len(dataset):
        return dataset
    chosen = np.random.default_rng(seed).choice(len(dataset), size=n, replace=False)
    return take(dataset, np.sort(chosen))


def in_scope(dataset: Dataset) -> Dataset:
    """The examples of an aligned data set whose label the model can output."""
    known = np.flatnonzero(dataset.labels >= 0)
    return dataset if len(known) == len(dataset) else take(dataset, known)
