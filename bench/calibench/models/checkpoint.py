"""A sequence classifier in eval mode on its device, with what identifies it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from calibench.errors import RefusedError, UsageError
from calibench.models.devices import DTYPES, check_dtype, has_bfloat16_instructions

# What a tokenizer states, or a relative-position model allows, may be no limit at all.
UNLIMITED_MAX_LENGTH = 512
Side = Literal["right", "left", "none"]


@dataclass(frozen=True)
class Padding:
    """How a checkpoint's texts are padded.

    Attributes:
        side: where, or "none" where batches hold texts of one length only.
        pad_id: what the model's config calls the padding token, by which some heads find a text's end; None
            where it says nothing.
    """

    side: Side
    pad_id: int | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A sequence-classification model in eval mode on its device, with what identifies it.

    Attributes:
        module: the `transformers` model. Of one that would change itself while it runs (BigBird), a
            structural copy that has done so: see `settle`.
        tokenizer: its tokenizer.
        labels: the C class names, from the model's `id2label`.
        name: hub id, or the base name of the folder.
        revision: hub commit, or None.
        sha256: hash of the weights (names, dtypes, shapes, values as stored).
        source: "hub", "folder" or "embedded".
        device, dtype: where and in what precision the weights are.
        attention: "sdpa", "eager", ... as the model runs it.
        load_s: seconds it took to load, tokenizer included.
        padding: how its texts are put into batches; see `calibench.models.padding`.
        runtime: what runs it; of any other than "torch" `module` is a `calibench.models.engine.Engine`.
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
    padding: Padding
    runtime: str = "torch"

    def __post_init__(self) -> None:
        if _unsettled(self.module):
            settled = copy.deepcopy(self.module, _tensors(self.module))
            settle(settled)
            object.__setattr__(self, "module", settled)

    def twin(self, dtype: str = "same") -> nn.Module:
        """A structural copy of the model, which may be replaced and hooked without touching the model itself.

        In the checkpoint's own dtype it shares every parameter and buffer with the model, and no weight is
        copied. In another one it has its own weights, rounded from the checkpoint's as `from_pretrained`
        would round them: parameters and persistent buffers of a floating type.

        Args:
            dtype: "same", or one of `DTYPES`.

        Raises:
            UsageError: not such a dtype, or one that the device does not have.
            RefusedError: it is not PyTorch that runs the model.
        """
        if self.runtime != "torch":
            raise RefusedError(
                f"The runtime {self.runtime!r} runs {self.name} whole, without layers that could be changed, "
                "which this method does; leave the runtime out for it."
            )
        target = self.dtype_of(dtype)
        memo = _tensors(self.module)
        if target != self.dtype:
            for tensor in self.module.state_dict(keep_vars=True).values():
                if tensor.is_floating_point():
                    memo[id(tensor)] = _rounded(tensor, target)
        return copy.deepcopy(self.module, memo)

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype that `twin` would run in.

        Raises:
            UsageError: as of `twin`.
        """
        if name == "same":
            return self.dtype
        if name not in DTYPES:
            raise UsageError(f"{name!r} is not a dtype: choose same, {', '.join(DTYPES)}.")
        check_dtype(self.device, DTYPES[name])
        return DTYPES[name]

    @property
    def max_length(self) -> int:
        """The longest sequence the model takes, in tokens, special tokens included."""
        limits = [self.tokenizer.model_max_length, _positions(self.module)]
        stated = [limit for limit in limits if limit is not None and 0 < limit < 10**9]
        return int(min(stated, default=UNLIMITED_MAX_LENGTH))


def settle(module: nn.Module) -> None:
    """Make a model of block-sparse attention (BigBird), in place, what its first short text would make of it.

    On a text of at most (5 + 2 num_random_blocks) block_size tokens, 704 by default, it replaces its
    attention for good by full attention. What it says of a longer text, and which places it draws at, then
    depends on what it was asked before; settled, it does not.
    """
    # Making the new attention draws weights, which are thrown away.
    with torch.random.fork_rng(devices=[]):
        for child in _unsettled(module):
            child.set_attention_type("original_full")


def settled_note(checkpoint: Checkpoint) -> str | None:
    """A sentence where the model runs in full attention, and its config says block-sparse; else None."""
    config: Any = checkpoint.module.config
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    longest = (5 + 2 * config.num_random_blocks) * config.block_size
    return (
        "Block-sparse attention was replaced by full attention, as the model itself does for good at its "
        f"first text of up to {longest} tokens: longer texts get the answer of full attention."
    )


def _unsettled(module: nn.Module) -> list[Any]:
    return [
        child
        for child in module.modules()
        if getattr(child, "attention_type", None) == "block_sparse" and hasattr(child, "set_attention_type")
    ]


def _tensors(module: nn.Module) -> dict[int, Any]:
    """The memo by which a deep copy of a model shares its parameters and buffers."""
    return {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}


def dtype_notes(checkpoint: Checkpoint, dtype: str) -> tuple[str, ...]:
    """What the record of a method that runs on `checkpoint.twin(dtype)` has to say about that dtype.

    Args:
        dtype: as `Checkpoint.twin` takes it.

    Returns:
        No sentence, or one where bfloat16 runs on a CPU that PyTorch says has no instructions for it.

    Raises:
        UsageError: as of `Checkpoint.twin`.
    """
    target = checkpoint.dtype_of(dtype)
    if target != torch.bfloat16 or checkpoint.device.type != "cpu" or has_bfloat16_instructions():
        return ()
    return ("This CPU has no bfloat16 instructions, so bfloat16 is not expected to be faster here.",)


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    copied = tensor.detach().to(dtype)
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def _positions(module: Any) -> int | None:
    for name, child in module.named_modules():
        if name.split(".")[-1] == "position_embeddings" and isinstance(child, nn.Embedding):
            # RoBERTa and its kin count positions from padding_idx + 1.
            return child.num_embeddings - (0 if child.padding_idx is None else child.padding_idx + 1)
    return getattr(module.config, "max_position_embeddings", None)


def example_inputs(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """A short text, twice, as the checkpoint's tokenizer encodes them, on its device: tensors [2, L]."""
    encoded = checkpoint.tokenizer(["a b c", "a b c"], return_tensors="pt")
    return {name: value.to(checkpoint.device) for name, value in encoded.items()}
