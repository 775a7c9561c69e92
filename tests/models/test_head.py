"""The head of a classifier: found where there is one, and refused where the logits are made otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.errors import RefusedError
from calibench.models.encoder import Encoder
from calibench.models.head import find_head
from scenarios import disturbance, same
from tiny_models import CONFIGS, plan_of, sentences, tiny_checkpoint, tiny_tokenizer, wrap

ARCHITECTURES = pytest.mark.parametrize("architecture", sorted(CONFIGS))


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
def test_the_head_makes_the_logits(architecture: str) -> None:
    """The layer found has a row per class, and the logits are its output on the features, bit by bit."""
    checkpoint = tiny_checkpoint(architecture, "eager", classes=3)
    head = find_head(checkpoint)
    assert dict(checkpoint.module.named_modules())[head.name] is head.linear
    assert head.linear.out_features == 3
    encoded = Encoder(checkpoint)(plan_of(checkpoint, [*sentences(4)]).batches[0])
    with torch.inference_mode():
        assert torch.equal(head.linear(encoded.features), encoded.logits)


def test_a_model_without_such_a_head_is_refused() -> None:
    """Where something comes between the last linear layer and the logits, the refusal names the model."""
    checkpoint = tiny_checkpoint()
    checkpoint.module.classifier = Twist(checkpoint.module.classifier)
    before = disturbance(checkpoint.module)
    with pytest.raises(RefusedError, match=r"tiny-DistilBert\w+ does not make its logits by a linear layer"):
        find_head(checkpoint)
    assert same(before, disturbance(checkpoint.module))


def test_a_linear_layer_for_every_token_is_no_head() -> None:
    """A layer that gives each token its logits, of which the model takes one, is refused too."""
    checkpoint = wrap(PerToken(), tiny_tokenizer(), 2)
    with pytest.raises(
        RefusedError, match=r"tiny-PerToken does not make its logits .* from one vector per text"
    ):
        find_head(checkpoint)
