"""A model that does not run in PyTorch's eager mode, behind the face of the model that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from calibench.models.head import Head

#: Logits [B, C] and features [B, D] of a batch, by its inputs, each [B, L].
Run = Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a forward pass gives.

    Attributes:
        logits: [B, C].
        features: [B, D], what the last linear layer is given; None of a model without such a layer.
    """

    logits: Tensor
    features: Tensor | None


@dataclass(frozen=True, eq=False)
class Made:
    """What a runtime makes of a checkpoint.

    Attributes:
        run: a forward pass.
        inputs: names of what it takes.
        head: the last linear layer, as the runtime has it: logits = W h + b; None where there is none.
        tolerance: by how much a logit may differ from PyTorch's, as a share of the largest one or of 1; None
            where the runtime rounds on purpose.
        made_s: seconds that making it took, by this run or an earlier one; None where nothing is made.
        load_s: seconds from what is made to what can run.
        bytes: of what is loaded to serve it; None where that is the checkpoint.
        versions: of the packages that run it, by name.
        threads: that it uses.
        options: what else tells how it runs.
    """

    run: Run
    inputs: tuple[str, ...]
    head: Head | None
    tolerance: float | None
    made_s: float | None
    load_s: float
    bytes: int | None
    versions: Mapping[str, str]
    threads: int
    options: Mapping[str, Any] = field(default_factory=dict)


class Engine(nn.Module):
    """Takes what the checkpoint's model takes, and gives its logits and features; it has no layers.

    Args:
        config: the model's.
    """

    def __init__(self, made: Made, config: Any) -> None:
        super().__init__()
        self.config = config
        # No submodule: what has layers could be copied and changed, and would then run without the runtime.
        self.made = made

    def forward(self, **inputs: Tensor) -> Answer:
        """Run a batch of tensors [B, L]."""
        return Answer(*self.made.run(inputs))
