"""A data set with texts out of scope, for the embedded model: sentences, and words in no order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibench.data.embedded import load
from calibench.suites.loader import load_suite
from calibench.suites.spec import DataSpec, MethodSpec, Suite, TimingSpec

TIMING = TimingSpec(blocks=3, latency=4, memory=False, token_budget=256)


def write(folder: Path, inside: int = 90, beyond: int = 40) -> Path:
    """Splits called test and validation, labels negative, positive and beyond; returns the folder."""
    rng = np.random.default_rng(0)
    for split in ("test", "validation"):
        corpus = load(None, split=split)
        rows = [
            {"text": str(text), "label": corpus.label_names[label]}
            for text, label in zip(corpus.texts[:inside], corpus.labels[:inside], strict=True)
        ]
        words = " ".join(str(text) for text in corpus.texts).split()
        rows += [{"text": " ".join(rng.choice(words, 3)), "label": "beyond"} for _ in range(beyond)]
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(rows[i]) + "\n" for i in rng.permutation(len(rows)))
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def suite(data: Path, *methods: str, **changes: Any) -> Suite:
    """These methods on `write`'s data, with little timing effort and a threshold chosen on validation."""
    spec = DataSpec(
        name=str(data), split="test", out_of_scope=("beyond",), threshold_split="validation", **changes
    )
    base = load_suite("embedded")
    return replace(
        base, data=spec, method=tuple(MethodSpec(name) for name in methods), passes=2, timing=TIMING
    )
