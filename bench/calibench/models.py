"""Checkpoint -> model and tokenizer, from the hub, a folder or the package itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A sequence-classification model in eval mode on its device, with what identifies it.

    Attributes:
        module: the `transformers` model.
        tokenizer: its tokenizer.
        labels: the C class names, from the model's `id2label`.
        name: hub id, or the base name of the folder.
        revision: hub commit, or None.
        sha256: hash of the weights (names, dtypes, shapes, values as stored).
        source: "hub", "folder" or "embedded".
        device, dtype: where and in what precision the weights are.
        attention: "sdpa", "eager", ... as the model runs it.
        load_s: seconds it took to load, tokenizer included.
    """

    module: nn.Module
    tokenizer: Any
    labels: tuple[str, ...]
    name: str
    revision: str | None
    sha256: str
    source: str
    device: torch.device
    dtype: torch.dtype
    attention: str
    load_s: float

    def twin(self) -> nn.Module:
        """A structural copy of the model that shares every parameter and buffer with it.

        Modules may be replaced and hooked on the twin without touching the model that other methods use,
        and no weight is copied.
        """
        shared = [*self.module.parameters(), *self.module.buffers()]
        return copy.deepcopy(self.module, {id(tensor): tensor for tensor in shared})
