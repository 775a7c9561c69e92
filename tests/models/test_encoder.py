"""The features before the head: those of the plain pass, from one pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.models.encoder import Encoder
from scenarios import disturbance, same
from tiny_models import CONFIGS, plan_of, sentences, tiny_checkpoint

ARCHITECTURES = pytest.mark.parametrize("architecture", sorted(CONFIGS))
CPU = torch.device("cpu")


class Counted:
    """How often a module has run."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


class Twist(nn.Module):
    """A last layer whose output is not what a linear layer gave."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 1.5 * self.inner(features)


class PerToken(nn.Module):
    """Gives every token its logits, and takes those of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        del attention_mask
        return SequenceClassifierOutput(logits=self.classifier(self.words(input_ids))[:, 0])


@ARCHITECTURES
def test_an_encoder_sees_the_plain_pass(architecture: str) -> None:
    """Logits, and what the model's encoder returns, are those of a plain pass; no hook stays behind."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    before = disturbance(checkpoint.module)
    encoder = Encoder(checkpoint)
    base = getattr(checkpoint.module, checkpoint.module.base_model_prefix)
    for batch in plan_of(checkpoint, [*sentences(9)]).batches:
        encoded = encoder(batch)
        with torch.inference_mode():
            assert torch.equal(encoded.logits, checkpoint.module(**batch.inputs).logits)
            assert torch.equal(encoded.hidden[0], base(**batch.inputs)[0])
        assert encoded.features.shape == (len(batch), encoder.head.linear.in_features)
    assert same(before, disturbance(checkpoint.module))


def test_hooks_go_where_the_pass_fails() -> None:
    """A forward pass that raises leaves no hook on the model, in the head's search as in the encoder."""
    checkpoint = tiny_checkpoint()
    encoder = Encoder(checkpoint)
    before = disturbance(checkpoint.module)
    batch = plan_of(checkpoint, ["the film"]).batches[0]
    object.__setattr__(batch, "inputs", {"input_ids": torch.full((1, 3), 10**6)})
    with pytest.raises(IndexError):
        encoder(batch)
    assert same(before, disturbance(checkpoint.module))
