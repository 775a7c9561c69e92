"""A stack of layers with everything that a probe for dropout could disturb."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUT = {"x": torch.ones(4, 6)}


class Layers(nn.Module):
    """A stack with everything a probe could disturb: dropout, BatchNorm, and draws outside any dropout."""

    def __init__(self, *, fail: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Dropout(0.4)
        self.noisy = Noisy(fail)
        self.last = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.noisy(self.first(self.norm(x))))


class Noisy(nn.Module):
    """Draws in its own forward and has a child that draws too."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.fail = fail

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.training:
            x = x + torch.empty(()).normal_()
        if self.fail:
            raise ValueError("the forward pass fails")
        return x
