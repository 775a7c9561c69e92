"""Content hashes: what ties a record to its data and weights without naming a place on a machine."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from calibench.types import IntArray, Plan, Text

if TYPE_CHECKING:
    import torch


def text_sha256(text: Text) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a text or a pair: enough to match examples by."""
    return hashlib.sha256(_encode(text)).hexdigest()[:16]


def dataset_sha256(texts: Sequence[Text], labels: IntArray, label_names: Sequence[str], split: str) -> str:
    """SHA-256 of a split: its name, its label names, and every text with its label, in order."""
    examples = zip(texts, np.asarray(labels).tolist(), strict=True)
    return _digest([split, list(label_names)], examples)


def plan_sha256(plan: Plan) -> str:
    """SHA-256 of the token ids of every example and of which examples share a batch, in batch order."""
    batches = [batch.index.tolist() for batch in plan.batches]
    return _digest([batches], plan.token_ids)


def weights_sha256(state_dict: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and bytes, whatever the order of the mapping."""
    import torch  # here, because reading records needs hashes and no torch

    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(_encode([name, str(tensor.dtype), list(tensor.shape)]))
        # numpy has no bfloat16: hash the bytes.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(*parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in itertools.chain(*parts):
        digest.update(_encode(value))
    return digest.hexdigest()


def _encode(value: Any) -> bytes:
    # ASCII JSON ends itself, so that parts can't run into each other, and it takes lone surrogates.
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
