"""What only other tokens than the first need is left out, where that is right and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from calibench.models.checkpoint import example_inputs
from calibench_methods.sampling.copies import Copies
from calibench_methods.sampling.first_token import keep_first_token, last_attention
from tiny_models import plan_of, sentences, tiny_checkpoint


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "electra"])
def test_the_logits_stay_and_the_work_shrinks(architecture: str, attention: str) -> None:
    """Within 1e-6, padded texts too; the head's feed-forward layer sees one token per text."""
    checkpoint = tiny_checkpoint(architecture, attention)
    cut = checkpoint.twin()
    assert keep_first_token(cut, example_inputs(checkpoint))
    seen: list[torch.Size] = []
    for module in cut.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, args, __: seen.append(args[0].shape))
    batch = plan_of(checkpoint, [*sentences(6)], token_budget=10_000).batches[0]
    with torch.no_grad():
        expected = checkpoint.module(**batch.inputs).logits
        torch.testing.assert_close(cut(**batch.inputs).logits, expected, rtol=0, atol=1e-6)
    length = batch.inputs["input_ids"].shape[1]
    assert length > 1
    short = [shape for shape in seen if len(shape) == 3 and shape[1] == 1]
    assert len(short) >= 2  # both layers of the last block's feed-forward part
    assert any(len(shape) == 3 and shape[1] == length for shape in seen)


def test_a_head_that_reads_every_token_is_left_alone() -> None:
    """The mean over tokens needs them all: no hook, and the same logits."""

    class MeanHead(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.inner = model.distilbert
            self.out = nn.Linear(16, 2)

        def forward(self, **inputs: torch.Tensor) -> object:
            hidden = self.inner(**inputs).last_hidden_state
            return type("Output", (), {"logits": self.out(hidden.mean(dim=1))})()

    checkpoint = tiny_checkpoint("distilbert")
    model = MeanHead(copy.deepcopy(checkpoint.module)).eval()
    assert not keep_first_token(model, example_inputs(checkpoint))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert last_attention(model, example_inputs(checkpoint)) is None


def test_deberta_is_tried_and_answered() -> None:
    """Whatever the answer is, the logits are the model's own."""
    checkpoint = tiny_checkpoint("deberta-v2", "eager")
    cut, inputs = checkpoint.twin(), example_inputs(checkpoint)
    keep_first_token(cut, inputs)
    with torch.no_grad():
        torch.testing.assert_close(cut(**inputs).logits, checkpoint.module(**inputs).logits)


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "electra"])
def test_only_the_first_token_looks_in_the_last_attention(architecture: str) -> None:
    """Its number is that of the last layer; logits are the same within 1e-5, padded texts too."""
    checkpoint = tiny_checkpoint(architecture, "sdpa")
    assert last_attention(checkpoint.module, example_inputs(checkpoint)) == 2
    batch = plan_of(checkpoint, [*sentences(6)], token_budget=10_000).batches[0]
    short, full = (
        Copies(checkpoint, stratum=10, independent=False, first_token=first_token).logits(
            batch.inputs, batch.index, range(3), seed=1
        )
        for first_token in (True, False)
    )
    torch.testing.assert_close(short, full, rtol=0, atol=1e-5)


def test_attention_that_is_not_a_function_is_not_seen() -> None:
    """Eager attention is left whole."""
    checkpoint = tiny_checkpoint("distilbert", "eager")
    assert last_attention(checkpoint.module, example_inputs(checkpoint)) is None
