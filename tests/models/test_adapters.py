"""Adapters of peft: loaded with their base, or refused in a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibench.errors import CalibenchError, UsageError
from calibench.models import adapters
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.head import find_head
from calibench.models.loading import identify, labels_of, load_checkpoint
from calibench.models.plan import Planner
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.sampling.sites import find_sites
from tiny_models import sentences, tiny_model, tiny_tokenizer

peft = pytest.importorskip("peft", reason="peft, which loads adapters, is not installed")

TARGETS = {"distilbert": ["q_lin", "v_lin"], "bert": ["query", "value"], "roberta": ["query", "value"]}


def saved(
    folder: Path, architecture: str = "distilbert", *, classes: int = 3, base_classes: int = 3, **options: Any
) -> tuple[str, Any]:
    """A base and an adapter of it that changes the answers; the adapter's folder, and the model."""
    base = tiny_model(architecture, classes=base_classes)
    base.config.id2label = {k: f"class {k}" for k in range(base_classes)}
    base.save_pretrained(folder / "base")
    tiny_tokenizer(architecture).save_pretrained(folder / "base")
    model = tiny_model(architecture, classes=classes)
    model.name_or_path = str(folder / "base")  # as of a model that was loaded from there
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=2, lora_dropout=0.3, target_modules=TARGETS[architecture], **options,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        whole = peft.get_peft_model(model, config)
        for name, parameter in whole.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter)
    whole.save_pretrained(folder / "adapter")
    return str(folder / "adapter"), whole.eval()


def logits(module: Any, checkpoint: Checkpoint) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = module(**example_inputs(checkpoint)).logits
    return found


@pytest.mark.parametrize("architecture", TARGETS)
@pytest.mark.parametrize(("classes", "base_classes"), [(3, 3), (5, 2)])
def test_an_adapter_answers_as_peft_does(
    tmp_path: Path, architecture: str, classes: int, base_classes: int
) -> None:
    """To the bit, with the outputs of its own head, whatever its base was made for."""
    folder, whole = saved(tmp_path, architecture, classes=classes, base_classes=base_classes)
    checkpoint = load_checkpoint(folder)
    torch.testing.assert_close(
        logits(checkpoint.module, checkpoint), logits(whole, checkpoint), rtol=0, atol=0
    )
    named = "class" if classes == base_classes else "LABEL_"
    assert len(checkpoint.labels) == classes
    assert all(label.startswith(named) for label in checkpoint.labels)
    assert labels_of(folder) == checkpoint.labels
    assert checkpoint.name == "adapter"


def test_an_adapter_s_dropout_is_a_site_like_any_other(tmp_path: Path) -> None:
    """Found, and live in mc-dropout as in train(); in the base alone there is none."""
    checkpoint = load_checkpoint(saved(tmp_path)[0])
    inputs = example_inputs(checkpoint)
    base = load_checkpoint(str(tmp_path / "base"))
    sites, plain = find_sites(checkpoint.module, inputs), find_sites(base.module, inputs)
    own = [site for site in sites if "lora_dropout" in site.name]
    assert len(own) == 4
    assert {site.p for site in own} == {0.3}
    assert len(sites) == len(plain) + 4
    method = McDropout(checkpoint, passes=2)
    assert method.coverage is not None
    assert method.coverage.active == len(sites)
    plan = Planner.of(checkpoint).plan(sentences(4), np.arange(4))
    samples = method.predict(plan, seed=0).samples
    assert samples is not None
    assert np.abs(samples[0] - samples[1]).max() > 1e-3


def test_weights_and_settings_tell_adapters_apart(tmp_path: Path) -> None:
    """Another scale is another checkpoint, as is another base; another place is not."""
    folder = saved(tmp_path)[0]
    first = identify(folder).sha256
    assert first == load_checkpoint(folder).sha256
    assert first != identify(str(tmp_path / "base")).sha256
    shutil.copytree(tmp_path / "base", tmp_path / "moved")
    config = json.loads((tmp_path / "adapter" / adapters.CONFIG).read_text())
    for change, same in (
        ({"base_model_name_or_path": str(tmp_path / "moved")}, True),
        ({"lora_alpha": 99}, False),
    ):
        (tmp_path / "adapter" / adapters.CONFIG).write_text(json.dumps(config | change))
        assert (identify(folder).sha256 == first) == same


def test_the_last_layer_is_the_adapter_s_own(tmp_path: Path) -> None:
    """What reads features and the head reads those that make the logits."""
    folder, whole = saved(tmp_path, classes=5, base_classes=2)
    checkpoint = load_checkpoint(folder)
    head = find_head(checkpoint)
    expected = whole.get_base_model().classifier.modules_to_save["default"].weight
    torch.testing.assert_close(head.linear.weight, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_all_weights_are_in_the_dtype_asked_for(tmp_path: Path, dtype: str) -> None:
    """peft would keep an adapter in float32 beside a base in 16 bits."""
    module = load_checkpoint(saved(tmp_path)[0], dtype=dtype).module
    assert {parameter.dtype for parameter in module.parameters()} == {getattr(torch, dtype)}


def test_what_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No base, no weights, weights of another base, another kind of adapter, and no peft."""
    folder = saved(tmp_path)[0]
    file = tmp_path / "adapter" / adapters.CONFIG
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="does not say what it adapts: put base_model_name_or_path"):
        load_checkpoint(folder)
    file.write_text(json.dumps(config | {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}))
    with pytest.raises(UsageError, match="adapter of kind PROMPT_TUNING, which adds to the input"):
        load_checkpoint(folder)
    file.write_text(json.dumps(config | {"target_modules": ["nowhere"]}))
    with pytest.raises(CalibenchError, match="'adapter' cannot be put into its base"):
        load_checkpoint(folder)
    file.write_text("{")
    with pytest.raises(CalibenchError, match=r"adapter_config.json of 'adapter' cannot be read"):
        load_checkpoint(folder)
    file.write_text(json.dumps(config))
    (tmp_path / "adapter" / adapters.WEIGHTS).unlink()
    with pytest.raises(UsageError, match=r"holds no adapter_model\.safetensors"):
        load_checkpoint(folder)
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"an adapter of 'base', which peft loads: pip install 'calibench\[peft\]'"
    ):
        load_checkpoint(folder)


def test_a_head_that_nobody_trained_is_refused(tmp_path: Path) -> None:
    """A base without one, and an adapter that brings none."""
    folder = saved(tmp_path, "bert", classes=3)[0]
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "adapter" / adapters.WEIGHTS
    own = {name: value for name, value in load_file(weights).items() if "lora_" in name}
    save_file(own, weights)
    base = load_file(tmp_path / "base" / "model.safetensors")
    bare = {name: value for name, value in base.items() if "classifier" not in name}
    save_file(bare, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"has trained weights for classifier\.\w+, which would be random"):
        load_checkpoint(folder)
