"""Checkpoint -> model and tokenizer, from the hub, a folder or the package itself."""

from __future__ import annotations

import copy
import inspect
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from calibench.data.hashing import weights_sha256
from calibench.errors import CalibenchError, UsageError
from calibench.hub import UnreachableError, find_commit, hub_errors, local_path, one_line, quiet
from calibench.types import Member

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
# One of these is there wherever a tokenizer was saved.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
# What a tokenizer states, or a relative-position model allows, may be no limit at all.
UNLIMITED_MAX_LENGTH = 512


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A sequence-classification model in eval mode on its device, with what identifies it.

    Attributes:
        module: the `transformers` model.
        tokenizer: its tokenizer.
        labels: the C class names, from the model's `id2label`.
        name: hub id, or the base name of the folder.
        revision: hub commit, or None.
        sha256: hash of the weights (names, dtypes, shapes, values as stored).
        source: "hub", "folder" or "embedded".
        device, dtype: where and in what precision the weights are.
        attention: "sdpa", "eager", ... as the model runs it.
        load_s: seconds it took to load, tokenizer included.
    """

    module: nn.Module
    tokenizer: Any
    labels: tuple[str, ...]
    name: str
    revision: str | None
    sha256: str
    source: str
    device: torch.device
    dtype: torch.dtype
    attention: str
    load_s: float

    def twin(self, dtype: str = "same") -> nn.Module:
        """A structural copy of the model, which may be replaced and hooked without touching the model itself.

        In the checkpoint's own dtype it shares every parameter and buffer with the model, and no weight is
        copied. In another one it has its own weights, rounded from the checkpoint's as `from_pretrained`
        would round them: parameters and persistent buffers of a floating type.

        Args:
            dtype: "same", or one of `DTYPES`.

        Raises:
            UsageError: not such a dtype, or one that the device does not have.
        """
        target = self._dtype_of(dtype)
        memo: dict[int, Any] = {
            id(tensor): tensor for tensor in (*self.module.parameters(), *self.module.buffers())
        }
        if target != self.dtype:
            for tensor in self.module.state_dict(keep_vars=True).values():
                if tensor.is_floating_point():
                    memo[id(tensor)] = _rounded(tensor, target)
        return copy.deepcopy(self.module, memo)

    def _dtype_of(self, name: str) -> torch.dtype:
        if name == "same":
            return self.dtype
        if name not in DTYPES:
            raise UsageError(f"{name!r} is not a dtype: choose same, {', '.join(DTYPES)}.")
        _check_dtype(self.device, DTYPES[name])
        return DTYPES[name]

    @property
    def max_length(self) -> int:
        """The longest sequence the model takes, in tokens, special tokens included."""
        limits = [self.tokenizer.model_max_length, _positions(self.module)]
        stated = [limit for limit in limits if limit is not None and limit < 10**9]
        return int(min(stated, default=UNLIMITED_MAX_LENGTH))


def dtype_notes(checkpoint: Checkpoint, dtype: str) -> tuple[str, ...]:
    """What the record of a method that runs on `checkpoint.twin(dtype)` has to say about that dtype.

    Args:
        dtype: as `Checkpoint.twin` takes it.

    Returns:
        No sentence, or one where bfloat16 runs on a CPU that PyTorch says has no instructions for it.
    """
    target = checkpoint.dtype if dtype == "same" else DTYPES[dtype]
    if target != torch.bfloat16 or checkpoint.device.type != "cpu" or has_bfloat16_instructions():
        return ()
    return ("This CPU has no bfloat16 instructions, so bfloat16 is not expected to be faster here.",)


def has_bfloat16_instructions() -> bool:
    """Whether the CPU multiplies in bfloat16; True as well where PyTorch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    capabilities = torch.cpu.get_capabilities()
    x86, arm = ("avx512_bf16", "amx_bf16", "avx10_2"), ("bf16", "sve_bf16")
    return any(capabilities.get(name, False) for name in (*x86, *arm))


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    copied = tensor.detach().to(dtype)
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def _positions(module: Any) -> int | None:
    for name, child in module.named_modules():
        if name.split(".")[-1] == "position_embeddings" and isinstance(child, nn.Embedding):
            # RoBERTa and its kin count positions from padding_idx + 1.
            return child.num_embeddings - (0 if child.padding_idx is None else child.padding_idx + 1)
    return getattr(module.config, "max_position_embeddings", None)


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
    _check_dtype(target, precision)
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


def find_device(name: str) -> torch.device:
    """The device that `name` stands for.

    Raises:
        UsageError: not a device name, or this machine has no such device.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"{name!r} is not a device: choose auto, cpu, cuda, cuda:N or mps.")
    if (kind == "cuda" and int(number or 0) >= cuda) or (kind == "mps" and not mps):
        there = ["cpu", *(f"cuda:{i}" for i in range(cuda)), *(["mps"] if mps else [])]
        raise UsageError(f"The device {name!r} is not available here: choose from {', '.join(there)}.")
    return torch.device(name)


def find_dtype(name: str) -> torch.dtype:
    """The dtype that `name` stands for; "auto" is float32.

    Raises:
        UsageError: not one of `DTYPES`.
    """
    if name == "auto":
        return torch.float32
    if name not in DTYPES:
        raise UsageError(f"{name!r} is not a dtype: choose auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def _check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "mps" and dtype == torch.float64:
        raise UsageError("The device 'mps' has no float64: choose another dtype, or the device cpu.")


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
