"""Checkpoint -> model and tokenizer, from the hub, a folder or the package itself."""

from __future__ import annotations

import inspect
import json
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from calibench.data.hub import UnreachableError, find_commit, hub_errors, local_path, one_line, quiet
from calibench.errors import CalibenchError, UsageError
from calibench.hashing import weights_sha256
from calibench.models.adapters import adapted, adapter_tensors, base_of, is_adapter, outputs_of
from calibench.models.checkpoint import Checkpoint
from calibench.models.devices import check_dtype, find_device, find_dtype
from calibench.models.identity import config_sha256
from calibench.models.padding import stated
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
    return Member(shown, commit, weights_sha256(_identity(folder)), config_sha256(_config(folder, name)))


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
        name: "embedded", a folder written by `save_pretrained`, of a model or of an adapter, or a hub id.
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
        home = _with_tokenizer(folder)
        if tokenizer is None or home is not None:
            tokenizer = _load_tokenizer(home or folder, name, module)
        module.to(target)
        load_s = time.perf_counter() - start
    return Checkpoint(
        module=module.eval(),
        tokenizer=tokenizer,
        labels=labels,
        name=folder.name if source == "folder" else name,
        revision=commit,
        sha256=weights_sha256(_identity(folder)),
        source=source,
        device=target,
        dtype=precision,
        attention=str(module.config._attn_implementation),
        load_s=load_s,
        padding=stated(module, tokenizer),
    )


def _with_tokenizer(folder: Path) -> Path | None:
    """Where a tokenizer was saved: in the folder, or of an adapter in its base's; None where none was."""
    if any((folder / file).is_file() for file in TOKENIZER_FILES):
        return folder
    return _with_tokenizer(_base(folder)) if is_adapter(folder) else None


def _base(adapter: Path) -> Path:
    """The folder of the checkpoint that an adapter adapts."""
    name, revision = base_of(adapter)
    return _locate(name, revision)[0]


def _identity(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors that tell a checkpoint from others: its weights, and of an adapter its base's too."""
    if is_adapter(folder):
        return _identity(_base(folder)) | adapter_tensors(folder)
    return stored_weights(folder)


def stored_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint folder as they are stored, shards put together, on the CPU.

    Raises:
        CalibenchError: the folder holds no weights.
    """
    files = _weight_files(folder)
    if not files:
        raise CalibenchError(
            f"The folder {folder.name!r} holds neither model.safetensors nor pytorch_model.bin."
        )
    return {name: tensor for file in files for name, tensor in _read_tensors(file).items()}


def _weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights; none where there are none.

    Raises:
        CalibenchError: an index of them that cannot be read, or names files that are not there.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if (folder / stem).is_file():
            return [folder / stem]
        if not index.is_file():
            continue
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            files = [folder / name for name in names]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibenchError(
                f"The {index.name} of {folder.name!r} has no readable weight_map: copy the checkpoint again."
            ) from error
        absent = [file.name for file in files if not file.is_file()]
        if absent or not files:
            shown = absent[0] if absent else "no file"
            raise CalibenchError(
                f"The {index.name} of {folder.name!r} names {shown}, which is not there: copy the checkpoint "
                "again."
            )
        return files
    return []


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CalibenchError(_more_than_weights(file)) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError) as error:
        raise CalibenchError(f"The weights in {file.name!r} cannot be read: {one_line(error)}.") from error
    return tensors


def _more_than_weights(file: Path) -> str:
    return (
        f"{file.name!r} of {file.parent.name!r} is a pickle of more than weights, which could run any code: "
        "save the checkpoint as safetensors."
    )


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
    if not (folder / "config.json").is_file() and not is_adapter(folder):
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
                folder = snapshot(
                    "*.json", "*.txt", "*.model", "model*.safetensors", "adapter_model.safetensors"
                )
                if not any(folder.glob("*model*.safetensors")):
                    folder = snapshot("pytorch_model*.bin")
        except UnreachableError as error:
            raise unreachable or error from None
    return folder


def _labels(folder: Path, name: str) -> tuple[str, ...]:
    return class_names(_config(folder, name), name)


def _config(folder: Path, name: str) -> Any:
    """The model's config; of an adapter its base's, with the outputs of the adapter's own head."""
    if is_adapter(folder):
        config = _config(_base(folder), name)
        outputs = outputs_of(folder, config)
        if outputs != config.num_labels:
            config.num_labels = outputs  # which calls them LABEL_0, LABEL_1, ...
        return config
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CalibenchError(f"The config of {name!r} cannot be read: {one_line(error)}.") from error


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
    if set(config.id2label) != set(range(config.num_labels)):
        shown = ", ".join(map(str, sorted(config.id2label)[:8]))
        raise UsageError(
            f"The id2label of {name!r} names the outputs {shown}; expected 0 to {config.num_labels - 1}: "
            "mend its config.json."
        )
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def _load_module(folder: Path, name: str, dtype: torch.dtype, attention: str | None) -> Any:
    if is_adapter(folder):
        # A base that was fine-tuned for other classes has another head, which the adapter's own replaces.
        options = {"config": _config(folder, name), "ignore_mismatched_sizes": True}
        module, lacking = _classifier(_base(folder), name, dtype, attention, **options)
        return adapted(module, folder, lacking, dtype)
    module, lacking = _classifier(folder, name, dtype, attention)
    if lacking:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise UsageError(
            f"{name!r} has no trained weights for {shown}, which would be random:"
            " pass a checkpoint that was fine-tuned for sequence classification."
        )
    return module


def _classifier(
    folder: Path, name: str, dtype: torch.dtype, attention: str | None, **options: Any
) -> tuple[Any, list[str]]:
    """The model, and the names of its parameters that the checkpoint has no weights for."""
    _weight_files(folder)
    if attention is not None:
        options["attn_implementation"] = attention
    try:
        module, info = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, dtype=dtype, output_loading_info=True, **options
        )
    except pickle.UnpicklingError as error:
        raise CalibenchError(_more_than_weights(folder / "pytorch_model.bin")) from error
    except (OSError, ValueError, RuntimeError, ImportError, EOFError, SafetensorError) as error:
        if attention is not None and isinstance(error, (ValueError, ImportError)):
            raise UsageError(f"{name!r} cannot run {attention!r} attention: {one_line(error)}.") from error
        raise CalibenchError(
            f"{name!r} cannot be loaded as a sequence classifier: {one_line(error)}."
        ) from error
    mismatched = [item[0] if isinstance(item, tuple) else item for item in info["mismatched_keys"]]
    return module, sorted({*info["missing_keys"], *mismatched})


def _load_tokenizer(folder: Path, name: str, module: Any) -> Any:
    advice = "save a fast tokenizer (tokenizer.json) beside the model"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises a bare one, and others whatever a file lacks
        raise UsageError(f"The tokenizer of {name!r} cannot be loaded: {advice}.") from error
    # Without its files transformers 5 makes a tokenizer that knows nothing but special tokens.
    vocabularies = {"tokenizer.json", *getattr(tokenizer, "vocab_files_names", {}).values()}
    by_characters = not getattr(tokenizer, "vocab_files_names", None)
    if not by_characters and not any((folder / file).is_file() for file in vocabularies):
        raise UsageError(f"{name!r} holds no tokenizer: {advice}.")
    # Of those that read characters or bytes there is no fast version.
    if not tokenizer.is_fast and not by_characters:
        raise UsageError(f"{name!r} holds only a slow tokenizer: {advice}.")
    rows = _vocabulary(module)
    if rows is not None and len(tokenizer) > rows:
        raise UsageError(
            f"The tokenizer of {name!r} knows {len(tokenizer)} tokens and the model {rows}: {advice}."
        )
    highest = max(tokenizer.get_vocab().values(), default=0) if tokenizer.is_fast else 0
    if rows is not None and highest >= rows:
        raise UsageError(
            f"The tokenizer of {name!r} makes the token id {highest} and the model knows {rows} tokens, from "
            f"0: {advice}."
        )
    # A BERT tokenizer makes token types, which DistilBERT does not take.
    taken = inspect.signature(module.forward).parameters
    tokenizer.model_input_names = [key for key in tokenizer.model_input_names if key in taken]
    return tokenizer


def _vocabulary(module: Any) -> int | None:
    """How many tokens the model knows; None where it has no table of them: CANINE hashes characters."""
    try:
        embeddings = module.get_input_embeddings()
    except NotImplementedError:
        return None
    weight = getattr(embeddings, "weight", None)  # I-BERT's is no nn.Embedding
    return None if weight is None else int(weight.shape[0])
