"""What methods share is seen to change, put back as it was, and seen not to change where it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from calibench.errors import CalibenchError
from calibench.hashing import weights_sha256
from calibench.measure.watch import Watch
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from tiny_models import CONFIGS, plan_of, sentences, tiny_checkpoint


def watched(architecture: str = "distilbert") -> tuple[Checkpoint, Watch]:
    """A checkpoint, and a watch that reads it again by making it again."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    return checkpoint, Watch(checkpoint, lambda: again(checkpoint, architecture))


def again(checkpoint: Checkpoint, architecture: str) -> Checkpoint:
    fresh = tiny_checkpoint(architecture, "eager")
    assert weights_sha256(fresh.module.state_dict()) == checkpoint.sha256
    return fresh


def answers(checkpoint: Checkpoint) -> torch.Tensor:
    batch = plan_of(checkpoint, sentences(4), token_budget=1000).batches[0]
    with torch.inference_mode():
        logits: torch.Tensor = checkpoint.module(**batch.inputs).logits
    return logits


@pytest.mark.parametrize("architecture", CONFIGS)
def test_what_leaves_all_as_it_was_is_not_seen(architecture: str) -> None:
    """Forward and backward passes, hooks that are gone again, twins and tokenising change nothing shared."""
    checkpoint, watch = watched(architecture)
    module: Any = checkpoint.module
    answers(checkpoint)
    twin: Any = checkpoint.twin()
    twin.train()
    twin.register_forward_hook(lambda *_: None)
    batch = plan_of(checkpoint, sentences(6), token_budget=1000).batches[0]
    module(**batch.inputs).logits.sum().backward()
    module.register_forward_hook(lambda *_: None).remove()
    Encoder(checkpoint)(batch)
    assert watch.put_back() is None
    watch.verify_weights()


def test_what_was_changed_together_is_put_back_together() -> None:
    """Weights, modules, hooks, modes and settings at once: the model answers as it did, to the bit."""
    checkpoint, watch = watched()
    module: Any = checkpoint.module
    before = answers(checkpoint)
    with torch.no_grad():
        module.classifier.weight.mul_(0.1)
        module.pre_classifier.bias.data = torch.ones_like(module.pre_classifier.bias)
    module.pre_classifier = torch.nn.Identity()
    module.classifier.register_forward_pre_hook(lambda _, given: (given[0] * 2,))
    module.dropout.p = 0.9
    module.train()
    checkpoint.tokenizer.padding_side = "left"
    changed = watch.put_back()
    assert changed is not None
    assert "the tokenizer's padding_side" in changed
    assert torch.equal(answers(checkpoint), before)
    assert watch.put_back() is None
    watch.verify_weights()


def test_a_twin_has_the_weights_that_are_put_back() -> None:
    """They are written in place, so that methods made before have them too."""
    checkpoint, watch = watched()
    twin: Any = checkpoint.twin()
    module: Any = checkpoint.module
    module.classifier.weight.data.zero_()
    assert watch.put_back() == "the values of the weights"
    assert twin.classifier.weight.abs().sum() > 0
    assert twin.classifier.weight is module.classifier.weight


def test_a_vocabulary_is_put_back() -> None:
    """Texts are tokenised as before."""
    checkpoint, watch = watched()
    before = checkpoint.tokenizer("a film zzz")["input_ids"]
    checkpoint.tokenizer.add_tokens(["zzz"])
    assert checkpoint.tokenizer("a film zzz")["input_ids"] != before
    assert watch.put_back() == "the tokenizer's vocabulary"
    assert checkpoint.tokenizer("a film zzz")["input_ids"] == before


def test_a_process_setting_is_put_back(tmp_path: Path) -> None:
    """A working directory, a number of threads and a dtype."""
    _, watch = watched()
    threads, here = torch.get_num_threads(), Path.cwd()
    os.chdir(tmp_path)
    torch.set_num_threads(threads + 1)
    torch.set_default_dtype(torch.float64)
    assert watch.put_back() == "torch's number of threads, torch's default dtype, the working directory"
    assert (torch.get_num_threads(), torch.get_default_dtype(), Path.cwd()) == (threads, torch.float32, here)


def test_what_cannot_be_put_back_stops_the_run() -> None:
    """Files that hold other weights by now are no way back."""
    checkpoint = tiny_checkpoint()
    watch = Watch(checkpoint, lambda: tiny_checkpoint("distilbert", classes=3))
    module: Any = checkpoint.module
    module.classifier.weight.data.zero_()
    with pytest.raises(CalibenchError, match=r"the values of the weights, .* could not be put back"):
        watch.put_back()


def test_one_value_that_torch_writes_is_seen() -> None:
    """Wherever it is, and the message names its tensor."""
    checkpoint, watch = watched()
    module: Any = checkpoint.module
    with torch.no_grad():
        module.distilbert.embeddings.word_embeddings.weight.view(-1)[1] += 1.0
    assert watch.put_back() == "the weights distilbert.embeddings.word_embeddings.weight"
    watch.verify_weights()


def test_one_value_behind_torchs_back_is_seen_in_the_end() -> None:
    """No look sees it; the last one, at all values, does."""
    checkpoint, watch = watched()
    module: Any = checkpoint.module
    weight = module.distilbert.embeddings.word_embeddings.weight
    weight.data.view(-1)[1] += 1.0
    assert watch.put_back() is None
    with pytest.raises(CalibenchError, match="it could not be told which"):
        watch.verify_weights()
