"""Several checkpoints that answer as one: loading them to fit the run's own, and the mean of their softmaxes.

The plan is tokenised once, with the tokenizer of the run's checkpoint, and its classes are in that
checkpoint's order. A member may have another architecture and another order of classes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor, nn

from calibench.data.labels import match_labels
from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint, Padding
from calibench.models.engine import Engine
from calibench.models.loading import identify, labels_of, load_checkpoint
from calibench.models.padding import padded, sample_texts, settle_padding
from calibench.models.passes import checked_softmax, standard_error
from calibench.models.plan import map_batches
from calibench.runtimes.start import start
from calibench.types import Batch, FloatArray, Plan, Predictive

# Case, accents, other scripts, digits and punctuation: what tokenizers of one vocabulary may treat unlike.
_PROBE = "Don't re-read: ÉTÉ 2017, Ärger, 東京 & a 50% TEST..."


@dataclass(frozen=True, eq=False)
class Network:
    """A model that answers in the order of the run's classes.

    Attributes:
        module: in eval mode, on the run's device.
        name: as messages call it.
        sha256: of its weights.
        order: which output is which class of the run, int64 [C]; None where they are in the same order.
        most_tokens: the longest sequence it takes.
        notes: sentences about what was assumed.
    """

    module: nn.Module
    name: str
    sha256: str
    order: Tensor | None
    most_tokens: int
    notes: tuple[str, ...] = ()
    _taken: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        own = self.module.made.inputs if isinstance(self.module, Engine) else None
        taken = own or tuple(inspect.signature(self.module.forward).parameters)
        object.__setattr__(self, "_taken", frozenset(taken))

    def logits(self, batch: Batch) -> Tensor:
        """[B, C] in the run's order of classes; inputs that the model does not take are left out."""
        inputs = {name: value for name, value in batch.inputs.items() if name in self._taken}
        logits: Tensor = self.module(**inputs).logits
        return logits if self.order is None else logits[:, self.order]

    def check(self, plan: Plan) -> None:
        """See that it can answer for these texts.

        Raises:
            RefusedError: a text is too long for it, or it tells the sides of a pair apart by an input that
                the run's tokenizer does not make.
        """
        longest = max(map(len, plan.token_ids), default=0)
        if longest > self.most_tokens:
            raise RefusedError(
                f"{self.name} takes {self.most_tokens} tokens and a text has {longest}; pass --model with "
                "the checkpoint that takes the fewest, so that texts are cut to its length."
            )
        lacking = "token_type_ids" in self._taken and "token_type_ids" not in plan.batches[0].inputs
        if lacking and not isinstance(plan.texts[0], str):
            raise RefusedError(
                f"{self.name} tells the two texts of a pair apart by token types, which the run's tokenizer "
                f"does not make; pass --model with {self.name}."
            )


def load_networks(names: Sequence[str], checkpoint: Checkpoint, *, tokenizer: Any = None) -> list[Network]:
    """Load checkpoints to answer side by side; the run's own is not loaded twice.

    Args:
        names: hub ids or folders.
        checkpoint: the run's; its device, dtype and attention are theirs.
        tokenizer: as of `load_checkpoint`.

    Raises:
        UsageError: no such checkpoint, or two with the same weights.
        RefusedError: other labels or another tokenizer than the run's, or another answer in its batches.
        CalibenchError: its files cannot be read.
    """
    found: dict[str, Network] = {}
    for name in names:
        member = identify(name)
        if member.sha256 in found:
            raise UsageError(
                f"{found[member.sha256].name} and {member.name} have the same weights; give each checkpoint "
                "once."
            )
        # The weights alone do not say which output is which class.
        own = member.sha256 == checkpoint.sha256 and labels_of(name) == checkpoint.labels
        found[member.sha256] = (
            fitted(checkpoint, checkpoint) if own else load_network(name, checkpoint, tokenizer=tokenizer)
        )
    return list(found.values())


def load_network(
    name: str, checkpoint: Checkpoint, *, dtype: str | None = None, tokenizer: Any = None
) -> Network:
    """Load one checkpoint, with weights of its own, to answer as the run's would.

    Args:
        dtype: None for the run's.
        tokenizer: as of `load_checkpoint`.

    Raises:
        As `load_networks`.
    """
    loaded = load_checkpoint(
        name,
        device=str(checkpoint.device),
        dtype=dtype or str(checkpoint.dtype).removeprefix("torch."),
        attention=checkpoint.attention,
        tokenizer=tokenizer,
    )
    return fitted(loaded, checkpoint)


def fitted(loaded: Checkpoint, checkpoint: Checkpoint) -> Network:
    """A checkpoint as one that answers in the run's order of classes.

    Raises:
        RefusedError: other labels or another tokenizer than the run's, or another answer in its batches.
    """
    try:
        if len(loaded.labels) != len(checkpoint.labels):
            raise UsageError("another number of labels")
        labels = match_labels(checkpoint.labels, loaded.labels)
    except UsageError as error:
        raise RefusedError(
            f"{loaded.name} has other labels than {checkpoint.name}; pass checkpoints of one task, whose "
            "id2label names the same classes."
        ) from error
    if not _same_tokens(loaded.tokenizer, checkpoint.tokenizer):
        raise RefusedError(
            f"{loaded.name} has another tokenizer than {checkpoint.name}, and texts are tokenised once for "
            "all; pass checkpoints that share one."
        )
    notes = [f"{loaded.name}: {note}" for note in labels.notes if loaded is not checkpoint]
    if loaded is not checkpoint:
        loaded, note = _padded_alike(loaded, checkpoint)
        notes += [] if note is None else [f"{loaded.name}: {note}"]
        if checkpoint.runtime != loaded.runtime:
            loaded, _ = start(loaded, checkpoint.runtime)
    straight = (labels.index == np.arange(len(labels.index))).all()
    return Network(
        module=loaded.module,
        name=loaded.name,
        sha256=loaded.sha256,
        order=None if straight else torch.from_numpy(labels.index).to(checkpoint.device),
        most_tokens=loaded.max_length,
        notes=tuple(notes),
    )


def _padded_alike(loaded: Checkpoint, checkpoint: Checkpoint) -> tuple[Checkpoint, str | None]:
    """A checkpoint that gives texts their own answers in the run's batches, and a note on what that took."""
    side = checkpoint.padding.side
    # The batches are those of the run's tokenizer, without what only the run's model takes.
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    taken = inspect.signature(loaded.module.forward).parameters
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    alike = replace(loaded, tokenizer=tokenizer, padding=Padding(side, loaded.padding.pad_id))
    settled = settle_padding(alike, sample_texts(alike), side=side)
    if settled.padding.side != side:
        raise RefusedError(
            f"{loaded.name} gives texts other answers where they are padded on the {side}, as those of "
            f"{checkpoint.name} are; pass --model with {loaded.name}."
        )
    return padded(alike, settled.padding), None if side == "none" else settled.note


def _same_tokens(one: Any, other: Any) -> bool:
    same: bool = one is other or (
        one.get_vocab() == other.get_vocab() and one(_PROBE)["input_ids"] == other(_PROBE)["input_ids"]
    )
    return same


def mean_of_models(
    plan: Plan,
    models: Iterable[Callable[[Batch], Tensor]],
    *,
    independent: bool,
    notes: tuple[str, ...] = (),
) -> Predictive:
    """The mean of the softmaxes of several models, and how far they disagree; one model at a time.

    Scores, in nats and as a probability squared:

    - `mutual_information`: H(mean_m p_m) - mean_m H(p_m), how much of the entropy of the mean the models'
      own entropies do not explain;
    - `variation`: sum_c Var_m p_m(c), the variance over models, summed over classes.

    Args:
        plan: N examples.
        models: M functions from a batch to logits [B, C], called for the whole plan before the next is taken.
        independent: whether the models are independent draws, so that the mean has a standard error.
        notes: for the record.

    Returns:
        With `samples` [M, N, C] and M passes for each example.

    Raises:
        CalibenchError: a logit is not finite.
    """
    samples = []
    mean = spread = entropy = np.zeros(())
    for logits in models:

        def softmax(batch: Batch, logits: Callable[[Batch], Tensor] = logits) -> FloatArray:
            probs: FloatArray = checked_softmax(logits(batch)[None], plan.rows[batch.index])[0]
            return probs

        probs = map_batches(plan, softmax)
        samples.append(probs.astype(np.float32))
        # Welford's update: no difference of large sums.
        before = probs - mean
        mean = mean + before / len(samples)
        spread = spread + before * (probs - mean)
        entropy = entropy + entr(probs).sum(axis=1)
    count = len(samples)
    variance = spread / count
    return Predictive(
        probs=mean,
        passes=np.full(len(plan), count, dtype=np.int64),
        samples=np.stack(samples),
        standard_error=standard_error(mean, variance, count) if independent else None,
        scores={
            "mutual_information": np.maximum(entr(mean).sum(axis=1) - entropy / count, 0.0),
            "variation": variance.sum(axis=1),
        },
        notes=notes,
    )
