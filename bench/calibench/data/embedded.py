"""The corpus and the checkpoint that ship with the package; `scripts/make_embedded.py` makes both."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from calibench.data.grammar import LABEL_NAMES
from calibench.errors import CalibenchError, UsageError
from calibench.hashing import dataset_sha256
from calibench.types import Dataset

NAME = "calibench-sentiment"
SPLITS = ("test", "validation")

_ASSETS = resources.files(__package__) / "assets"


def load(name: str | None = None, *, split: str | None = None, **options: Any) -> Dataset:
    """1,000 film and restaurant review snippets with the true P(label | text), drawn from our own grammar.

    `split` is "test" (the default) or "validation"; the checkpoint was trained on neither. Columns and
    revision are the package's own: setting any other option raises UsageError, as does another `name` or
    split.
    """
    if name not in (None, NAME):
        raise UsageError(f"The embedded data set is {NAME!r}, not {name!r}: leave its name out.")
    unused = sorted(option for option, value in options.items() if value not in (None, ()))
    if unused:
        raise UsageError(f"The embedded data set takes no {' or '.join(unused)}: leave that out.")
    split = split or SPLITS[0]
    if split not in SPLITS:
        raise UsageError(f"The embedded data set has no split {split!r}: choose {' or '.join(SPLITS)}.")
    rows = [json.loads(line) for line in (_ASSETS / f"{split}.jsonl").read_text("utf-8").splitlines()]
    texts = tuple(row["text"] for row in rows)
    labels = np.array([row["label"] for row in rows], dtype=np.int64)
    positive = np.array([row["p_positive"] for row in rows], dtype=np.float64)
    return Dataset(
        texts=texts,
        labels=labels,
        label_names=LABEL_NAMES,
        rows=np.arange(len(texts), dtype=np.int64),
        name=NAME,
        config=None,
        split=split,
        revision=None,
        source="embedded",
        sha256=dataset_sha256(texts, labels, LABEL_NAMES, split),
        posterior=np.stack([1.0 - positive, positive], axis=1),
    )


def checkpoint_folder() -> Path:
    """The folder of the small DistilBERT that ships with the package, for `from_pretrained`.

    Raises CalibenchError where the package is not installed as plain files.
    """
    folder = _ASSETS / "checkpoint"
    if not isinstance(folder, Path):
        raise CalibenchError("The embedded model cannot be read from an archive: install calibench as files.")
    return folder
