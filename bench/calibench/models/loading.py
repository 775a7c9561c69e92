"""Checkpoint -> model and tokenizer, from the hub, a folder or the package itself."""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from calibench.errors import CalibenchError, UsageError
from calibench.hashing import weights_sha256
from calibench.hub import UnreachableError, find_commit, hub_errors, local_path, one_line, quiet
from calibench.models.checkpoint import Checkpoint
from calibench.models.devices import check_dtype, find_device, find_dtype
from calibench.types import Member

# One of these is there wherever a tokenizer was saved.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def identify(name: str) -> Member:
    """What a checkpoint is, by its weights as stored; no model is made.

    Args:
        name: as of `load_checkpoint`.

    Raises:
        UsageError: no such model.
        CalibenchError: the hub could not be reached, or the files cannot be read.
    """
    folder, source, commit = _locate(name, None)
    shown = folder.name if source == "folder" else name
    return Member(shown, commit, weights_sha256(stored_weights(folder)))


def labels_of(name: str) -> tuple[str, ...]:
    """The class names of a checkpoint, in the order of its outputs; no model is made.

    Args, Raises:
        As `identify`; and UsageError where it is no single-label classifier.
    """
    return _labels(_locate(name, None)[0], name)


def load_checkpoint(
    name: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attention: str | None = None,
    tokenizer: Any = None,
) -> Checkpoint:
    """Load a sequence classifier and its tokenizer; a local folder is loaded without touching the network.

    Args:
        name: "embedded", a folder written by `save_pretrained`, or a hub id.
        revision: branch, tag or commit on the hub; of no meaning for a folder.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" for float32 whatever the weights are stored as, or one of `DTYPES`.
        attention: "sdpa", "eager", ...; None for the default of `transformers`.
        tokenizer: what stands in where the folder holds no tokenizer, as those along a training run may not.

    Raises:
        UsageError: no such model, device, dtype or attention, or a model that is no single-label classifier.
        CalibenchError: the hub could not be reached, or the files cannot be read.
    """
    target, precision = find_device(device), find_dtype(dtype)
    check_dtype(target, precision)
    folder, source, commit = _locate(name, revision)
    with quiet("transformers"):
        start = time.perf_counter()
        labels = _labels(folder, name)
        module = _load_module(folder, name, precision, attention)
        if tokenizer is None or any((folder / file).is_file() for file in TOKENIZER_FILES):
            tokenizer = _load_tokenizer(folder, name, module)
        module.to(target)
        load_s = time.perf_counter() - start
    return Checkpoint(
        module=module.eval(),
        tokenizer=tokenizer,
        labels=labels,
        name=folder.name if source == "folder" else name,
        revision=commit,
        sha256=weights_sha256(stored_weights(folder)),
        source=source,
        device=target,
        dtype=precision,
        attention=str(module.config._attn_implementation),
        load_s=load_s,
    )


def stored_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint folder as they are stored, shards put together, on the CPU.

    Raises:
        CalibenchError: the folder holds no weights.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if (folder / stem).is_file():
            files = [stem]
        elif index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            continue
        return {name: tensor for file in files for name, tensor in _read_tensors(folder / file).items()}
    raise CalibenchError(f"The folder {folder.name!r} holds neither model.safetensors nor pytorch_model.bin.")


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    tensors: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return tensors


def _locate(name: str, revision: str | None) -> tuple[Path, str, str | None]:
    """The folder that holds the files, the kind of source, and the hub commit."""
    if name == "embedded":
        from calibench.data.embedded import checkpoint_folder

        return checkpoint_folder(), "embedded", None
    folder = local_path(name, "model")
    if folder is None:
        folder = _download(name, revision)
        # The hub client names a snapshot's folder for its commit.
        return folder, "hub", folder.name
    if not (folder / "config.json").is_file():
        raise UsageError(f"{name!r} has no config.json: pass a folder written by save_pretrained.")
    return folder, "folder", None


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    with quiet("transformers"):
        unreachable: UnreachableError | None = None
        try:
            find_commit(name, revision, "model")
        except UnreachableError as error:
            unreachable = error

        def snapshot(*patterns: str) -> Path:
            # Folders inside a repository hold other formats of the same weights.
            options: dict[str, Any] = {"allow_patterns": list(patterns), "ignore_patterns": ["*/*"]}
            cached = unreachable is not None
            return Path(snapshot_download(name, revision=revision, local_files_only=cached, **options))

        try:
            with hub_errors(name, revision, "model"):
                folder = snapshot("*.json", "*.txt", "*.model", "model*.safetensors")
                if not any(folder.glob("model*.safetensors")):
                    folder = snapshot("pytorch_model*.bin")
        except UnreachableError as error:
            raise unreachable or error from None
    return folder


def _labels(folder: Path, name: str) -> tuple[str, ...]:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CalibenchError(f"The config of {name!r} cannot be read: {one_line(error)}.") from error
    return class_names(config, name)


def class_names(config: Any, name: str) -> tuple[str, ...]:
    """The C class names of a model's config, in the order of its outputs.

    Args:
        config: of a `transformers` model.
        name: of the model, for the error.

    Raises:
        UsageError: the model is no single-label classifier, so that a softmax of its outputs means nothing.
    """
    if config.num_labels == 1 or config.problem_type in {"regression", "multi_label_classification"}:
        kind = config.problem_type or "regression"
        raise UsageError(
            f"{name!r} is a {kind.replace('_', ' ')} model with {config.num_labels} output(s):"
            " pass a classifier that puts each text into one of two or more classes."
        )
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def _load_module(folder: Path, name: str, dtype: torch.dtype, attention: str | None) -> Any:
    options = {} if attention is None else {"attn_implementation": attention}
    try:
        module, info = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, dtype=dtype, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        if attention is not None and isinstance(error, (ValueError, ImportError)):
            raise UsageError(f"{name!r} cannot run {attention!r} attention: {one_line(error)}.") from error
        raise CalibenchError(
            f"{name!r} cannot be loaded as a sequence classifier: {one_line(error)}."
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UsageError(
            f"{name!r} has no trained weights for {shown}, which would be random:"
            " pass a checkpoint that was fine-tuned for sequence classification."
        )
    return module


def _load_tokenizer(folder: Path, name: str, module: Any) -> Any:
    advice = "save a fast tokenizer (tokenizer.json) beside the model"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"The tokenizer of {name!r} cannot be loaded: {advice}.") from error
    # Without its files transformers 5 makes a tokenizer that knows nothing but special tokens.
    vocabularies = {"tokenizer.json", *getattr(tokenizer, "vocab_files_names", {}).values()}
    if not any((folder / file).is_file() for file in vocabularies):
        raise UsageError(f"{name!r} holds no tokenizer: {advice}.")
    if not tokenizer.is_fast:
        raise UsageError(f"{name!r} holds only a slow tokenizer: {advice}.")
    rows = module.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UsageError(
            f"The tokenizer of {name!r} knows {len(tokenizer)} tokens and the model {rows}: {advice}."
        )
    # A BERT tokenizer makes token types, which DistilBERT does not take.
    taken = inspect.signature(module.forward).parameters
    tokenizer.model_input_names = [key for key in tokenizer.model_input_names if key in taken]
    return tokenizer
