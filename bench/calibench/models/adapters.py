"""Adapters of peft: what `PeftModel.save_pretrained` wrote, put into the checkpoint that it adapts.

The result is the base model with adapter layers inside, a transformers model like any other; an adapter's
dropout is a stochastic site like any other. With the adapter merged into the weights it would be another
checkpoint: the same answers up to rounding, and no adapter dropout.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from calibench.data.hub import one_line
from calibench.errors import CalibenchError, UsageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: How peft's names of a base model's own parameters begin.
PREFIX = "base_model.model."
#: What says where the base was, or how it was trained, and changes no answer.
_SAYS_NOTHING = ("base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> tuple[str, str | None]:
    """The checkpoint that an adapter adapts, and its revision.

    Raises:
        UsageError: it names none, peft is not installed, or it is a kind that changes the input.
    """
    settings = _settings(folder)
    base = settings.get("base_model_name_or_path")
    if not base:
        raise UsageError(
            f"The adapter {folder.name!r} does not say what it adapts: put base_model_name_or_path into its "
            f"{CONFIG}, or merge it (merge_and_unload, save_pretrained) and pass the result."
        )
    if find_spec("peft") is None:
        raise UsageError(
            f"{folder.name!r} is an adapter of {Path(str(base)).name!r}, which peft loads: pip install "
            "'calibench[peft]', or merge it (merge_and_unload, save_pretrained) and pass the result."
        )
    from peft import PeftConfig

    if PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
        raise UsageError(
            f"{folder.name!r} is an adapter of kind {settings.get('peft_type')}, which adds to the input; "
            "adapters inside layers, such as LORA, are loaded: pass one, or a whole checkpoint."
        )
    return str(base), settings.get("revision")


def adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """What tells an adapter from others of its base: its weights, and its settings as bytes."""
    settings = {key: value for key, value in _settings(folder).items() if key not in _SAYS_NOTHING}
    text = json.dumps(settings, sort_keys=True).encode()
    found = {"adapter settings": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    return found | {f"adapter {name}": tensor for name, tensor in _weights(folder).items()}


def outputs_of(folder: Path, config: Any) -> int:
    """How many outputs the adapter's own head has, or the base's where it brings none.

    Args:
        config: of the base model.
    """
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        make: Any = AutoModelForSequenceClassification.from_config  # transformers leaves it untyped
        skeleton = make(config)
    own = _weights(folder)
    outputs = int(config.num_labels)
    for name, layer in skeleton.named_modules():
        weight = own.get(f"{PREFIX}{name}.weight")
        if isinstance(layer, nn.Linear) and weight is not None:
            outputs = int(weight.shape[0])  # of several layers of a head the last one makes the logits
    return outputs


def adapted(module: nn.Module, folder: Path, missing: list[str], dtype: torch.dtype) -> nn.Module:
    """The base model with the adapter inside.

    Args:
        missing: parameters of the base that its checkpoint lacks, which the adapter has to bring.
        dtype: of all weights.

    Raises:
        UsageError: neither of the two has trained weights for a parameter.
        CalibenchError: the adapter does not fit its base.
    """
    own = _weights(folder)
    lacking = [name for name in missing if f"{PREFIX}{name}" not in own]
    if lacking:
        raise UsageError(
            f"Neither the adapter {folder.name!r} nor its base has trained weights for {lacking[0]}, which "
            "would be random: pass an adapter that was fine-tuned for sequence classification."
        )
    from peft import PeftModel

    try:
        whole = PeftModel.from_pretrained(module, str(folder), autocast_adapter_dtype=False)
    except (ValueError, RuntimeError, KeyError) as error:
        raise CalibenchError(
            f"The adapter {folder.name!r} cannot be put into its base: {one_line(error)}."
        ) from error
    inside: nn.Module = whole.get_base_model().to(dtype)
    return inside


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CalibenchError(f"The {CONFIG} of {folder.name!r} cannot be read: {one_line(error)}.") from error
    return found


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    if not (folder / WEIGHTS).is_file():
        raise UsageError(f"The adapter {folder.name!r} holds no {WEIGHTS}: save it again with peft.")
    return load_file(folder / WEIGHTS)
