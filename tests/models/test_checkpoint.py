"""A loaded checkpoint: how long a text may be, and twins that share its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from calibench.errors import UsageError
from calibench.models.checkpoint import Checkpoint, dtype_notes, settled_note
from calibench.models.loading import load_checkpoint
from scenarios import save
from tiny_models import CONFIGS, plan_of, sentences, tiny_checkpoint


def logits(module: nn.Module, checkpoint: Checkpoint) -> torch.Tensor:
    """The module's outputs for a few sentences."""
    batch = plan_of(checkpoint, sentences(8), token_budget=4096).batches[0]
    with torch.inference_mode():
        output: torch.Tensor = module(**batch.inputs).logits
    return output


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_text_of_maximum_length_fits_the_model(architecture: str) -> None:
    """The limit is the model's own where the tokenizer states none; position offsets are taken off."""
    checkpoint = tiny_checkpoint(architecture, "eager", pad_token_id=1, max_position_embeddings=20)
    checkpoint.tokenizer.model_max_length = 10**30
    # RoBERTa counts positions from padding_idx + 1.
    assert checkpoint.max_length == (18 if architecture == "roberta" else 20)
    ids = torch.full((1, checkpoint.max_length), 5)
    assert checkpoint.module(input_ids=ids).logits.shape == (1, 2)
    if architecture == "roberta":
        with pytest.raises((IndexError, RuntimeError)):
            checkpoint.module(input_ids=torch.full((1, 19), 5))
    checkpoint.tokenizer.model_max_length = 7
    assert checkpoint.max_length == 7


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_twin_shares_every_tensor_and_computes_the_same_bits(architecture: str) -> None:
    """Same storages, other modules, equal outputs."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    twin = checkpoint.twin()
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(module, kind)()) for module in (checkpoint.module, twin))
        assert ours.keys() == theirs.keys()
        assert all(theirs[name] is tensor for name, tensor in ours.items())
    assert not set(map(id, checkpoint.module.modules())) & set(map(id, twin.modules()))
    assert torch.equal(logits(twin, checkpoint), logits(checkpoint.module, checkpoint))


def any_dropout(module: nn.Module) -> bool:
    """Whether a dropout module is left that drops; ModernBERT makes the identity of p = 0."""
    return any(isinstance(child, nn.Dropout) and child.p > 0 for child in module.modules())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_what_is_done_to_a_twin_is_not_done_to_the_model(architecture: str) -> None:
    """Replaced modules, hooks, training mode and config changes stay on the twin."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    before = logits(checkpoint.module, checkpoint)
    layout = [type(module) for module in checkpoint.module.modules()]
    twin, fired = checkpoint.twin(), []
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.Dropout):
            twin.set_submodule(name, nn.Dropout(0.9))
        module.register_forward_hook(lambda module, *_: fired.append(module))
    twin.train()
    twin.config.id2label[0] = "changed"
    assert torch.equal(logits(checkpoint.module, checkpoint), before)
    assert fired == []
    assert [type(module) for module in checkpoint.module.modules()] == layout
    assert not any(module.training for module in checkpoint.module.modules())
    assert checkpoint.module.config.id2label[0] == "class 0"
    assert torch.equal(logits(twin, checkpoint), before) == (not any_dropout(twin))
    assert fired


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_twin_in_another_dtype_is_the_checkpoint_loaded_in_it(
    architecture: str, dtype: str, tmp_path: Path
) -> None:
    """The very tensors and logits that `from_pretrained` gives in that dtype; the model keeps its own."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    before = logits(checkpoint.module, checkpoint)
    twin = checkpoint.twin(dtype)
    folder = save(checkpoint.module, checkpoint.tokenizer, tmp_path)
    loaded = load_checkpoint(str(folder), dtype=dtype, attention="eager", device="cpu").module
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(module, kind)()) for module in (twin, loaded))
        assert ours.keys() == theirs.keys()
        assert all(tensor.dtype == theirs[name].dtype for name, tensor in ours.items())
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert torch.equal(logits(twin, checkpoint), logits(loaded, checkpoint))
    assert {parameter.dtype for parameter in checkpoint.module.parameters()} == {torch.float32}
    assert torch.equal(logits(checkpoint.module, checkpoint), before)


def test_a_twin_in_its_own_dtype_by_name_shares_every_tensor() -> None:
    """Naming the dtype that the checkpoint has costs no copy."""
    checkpoint = tiny_checkpoint()
    ours, theirs = (
        checkpoint.module.state_dict(keep_vars=True),
        checkpoint.twin("float32").state_dict(keep_vars=True),
    )
    assert all(theirs[name] is tensor for name, tensor in ours.items())


def test_weights_that_are_tied_stay_tied_in_another_dtype() -> None:
    """Two names of one parameter are two names of one parameter on the twin."""
    checkpoint = tiny_checkpoint()
    layer = checkpoint.module.get_submodule("distilbert.transformer.layer")
    layer[1].ffn.lin1.weight = layer[0].ffn.lin1.weight
    twin = checkpoint.twin("bfloat16").get_submodule("distilbert.transformer.layer")
    assert twin[1].ffn.lin1.weight is twin[0].ffn.lin1.weight


def test_a_twin_in_no_dtype_is_refused() -> None:
    """The message lists what there is, "same" among it."""
    with pytest.raises(UsageError, match=r"'int8' is not a dtype: choose same, float32, bfloat16"):
        tiny_checkpoint().twin("int8")


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": True}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, True),
        ({"architecture": "arm64", "neon": True, "bf16": True}, False),
        ({"architecture": "arm64", "neon": True, "bf16": False}, True),
    ],
)
def test_bfloat16_on_a_cpu_without_it_is_noted(
    capabilities: dict[str, Any], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence for the record where the CPU has no such instructions, and for no other dtype."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    checkpoint = tiny_checkpoint()
    notes = dtype_notes(checkpoint, "bfloat16")
    assert [note.startswith("This CPU has no bfloat16 instructions") for note in notes] == [True] * slow
    assert dtype_notes(checkpoint, "same") == dtype_notes(checkpoint, "float16") == ()
    object.__setattr__(checkpoint, "dtype", torch.bfloat16)
    assert dtype_notes(checkpoint, "same") == notes


def test_full_attention_in_place_of_block_sparse_is_said() -> None:
    """In a sentence with the length from which it matters; of other models there is none."""
    note = settled_note(zoo.checkpoint("big_bird"))
    assert note is not None
    assert "text of up to 14 tokens: longer texts get the answer of full attention" in note
    assert settled_note(zoo.checkpoint("big_bird", attention_type="original_full")) is None
    assert settled_note(zoo.checkpoint("bert")) is None
