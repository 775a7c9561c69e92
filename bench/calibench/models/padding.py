"""How texts of unlike lengths share a batch so that each gets the answer that it gets alone.

Learnt positions shift where a tokenizer pads on the left; a head that reads the last token reads padding
where tokenizer and config do not agree on the pad id; some architectures have no full attention mask. None of
this raises an error. So before anything is measured, a few texts are asked alone and padded, and what gives
the same answers is taken: the tokenizer's side, else the other one, with either pad id, and where nothing
does, no padding: then batches hold texts of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from calibench.models.checkpoint import Checkpoint, Padding, Side
from calibench.models.plan import Planner
from calibench.types import FloatArray, Text

#: Texts that are tried: the shortest, the longest, and others at random.
TRIED = 8
#: What rounding alone may change in a probability, by dtype; where a batch without padding changes more, four
#: times that.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
#: A pad id that no token has.
NO_PAD = -1


@dataclass(frozen=True)
class Settled:
    """What was tried and taken.

    Attributes:
        padding: what is used.
        difference: the largest change of a probability between a text alone and in a padded batch, as used;
            of "none", in a batch of texts of one length.
        note: a sentence where that is not what tokenizer and config say; else None.
    """

    padding: Padding
    difference: float
    note: str | None


def stated(module: Any, tokenizer: Any) -> Padding:
    """What tokenizer and config say; a config of transformers 5 may know no such id."""
    pad_id = getattr(_config(module), "pad_token_id", None)
    return Padding("none" if tokenizer.pad_token_id is None else tokenizer.padding_side, pad_id)


def padded(checkpoint: Checkpoint, padding: Padding) -> Checkpoint:
    """The checkpoint with this padding, its config included: to be called before any method has it."""
    _config(checkpoint.module).pad_token_id = padding.pad_id
    if padding.side != "none":
        checkpoint.tokenizer.padding_side = padding.side
    return replace(checkpoint, padding=padding)


def settle_padding(checkpoint: Checkpoint, texts: Sequence[Text], seed: int = 0) -> Settled:
    """Find the padding that gives every text the answer that it gets alone; the checkpoint is left as it was.

    Args:
        texts: those of the run, of which a few are tried.
        seed: of the choice.
    """
    before = checkpoint.padding
    encoded = Planner.of(checkpoint, batch_size=1).plan(texts, np.arange(len(texts), dtype=np.int64))
    lengths = np.array([len(ids) for ids in encoded.token_ids])
    chosen = _chosen(lengths, seed)
    answers = {texts[i]: _alone(checkpoint, [texts[i]]) for i in chosen}
    # A text too short for the model fails alone, which is for the methods to say.
    tried = [text for text, answer in answers.items() if np.isfinite(answer).all()]
    if not tried:
        return Settled(before, 0.0, None)
    alone = np.concatenate([answers[text] for text in tried])
    try:
        noise = _noise(checkpoint, tried, alone)
        allowed = max(ROUNDING[checkpoint.dtype], 4.0 * noise)
        seen = None
        for padding in _candidates(checkpoint):
            trial = padded(checkpoint, padding)
            difference = max(
                _distance(_alone(trial, tried), alone), _distance(_together(trial, tried), alone)
            )
            if difference <= allowed:
                return Settled(padding, difference, _note(checkpoint, before, padding, seen))
            seen = difference if seen is None else seen
        padding = _unpadded(checkpoint)
        return Settled(padding, noise, _note(checkpoint, before, padding, seen))
    finally:
        padded(checkpoint, before)


def _config(module: Any) -> Any:
    return module.config.get_text_config()


def _chosen(lengths: Any, seed: int) -> list[int]:
    """Positions of the shortest, the longest, and others at random."""
    order = np.argsort(lengths, kind="stable")
    rest = np.random.default_rng(seed).permutation(order[1:-1])[: TRIED - 2]
    return [int(i) for i in dict.fromkeys([order[0], order[-1], *rest])]


def _candidates(checkpoint: Checkpoint) -> Iterator[Padding]:
    """What tokenizer and config say, then the tokenizer's pad id, then the same on the other side."""
    tokenizer, config_id = checkpoint.tokenizer, checkpoint.padding.pad_id
    if tokenizer.pad_token_id is None:
        return
    other: Side = "left" if tokenizer.padding_side == "right" else "right"
    ids = dict.fromkeys([config_id, tokenizer.pad_token_id])
    for side in (tokenizer.padding_side, other):
        yield from (Padding(side, number) for number in ids if number is not None)


def _unpadded(checkpoint: Checkpoint) -> Padding:
    pad_id = checkpoint.padding.pad_id
    # A head that looks for padding refuses several texts where none is named.
    return Padding("none", NO_PAD if pad_id is None else pad_id)


def _alone(checkpoint: Checkpoint, texts: Sequence[Text]) -> FloatArray:
    """The answer to each text by itself, float64 [N, C]."""
    return np.concatenate([_together(checkpoint, [text]) for text in texts])


def _together(checkpoint: Checkpoint, texts: Sequence[Text]) -> FloatArray:
    """The answers to texts in one batch, float64 [N, C]; NaN where the model cannot take them."""
    planner = Planner.of(checkpoint)
    rows = np.arange(len(texts), dtype=np.int64)
    plan = planner.assemble(texts, rows, [rows])
    try:
        with torch.inference_mode():
            logits = checkpoint.module(**plan.batches[0].inputs).logits
    except (ValueError, RuntimeError, IndexError):
        return np.full((len(texts), len(checkpoint.labels)), np.nan)
    found: FloatArray = logits.double().softmax(-1).cpu().numpy()
    return found


def _noise(checkpoint: Checkpoint, texts: Sequence[Text], alone: FloatArray) -> float:
    """How far a batch of one text, several times over, is from that text alone."""
    trial = padded(checkpoint, _unpadded(checkpoint))
    copies = [_together(trial, [text] * 3) for text in texts]
    found = [_distance(copy, one[None]) for copy, one in zip(copies, alone, strict=True)]
    padded(checkpoint, checkpoint.padding)
    return max((value for value in found if np.isfinite(value)), default=0.0)


def _distance(found: FloatArray, alone: FloatArray) -> float:
    """The largest difference; infinite where one of them is no number."""
    difference = float(np.abs(found - alone).max())
    return difference if np.isfinite(difference) else float("inf")


def _note(checkpoint: Checkpoint, before: Padding, now: Padding, seen: float | None) -> str | None:
    if now == before and now.side != "none":
        return None
    size = "fails" if seen is None or not np.isfinite(seen) else f"changes by up to {seen:.2g}"
    if now.side == "none":
        if checkpoint.tokenizer.pad_token_id is None:
            return "The tokenizer has no padding token: batches hold texts of one length."
        return f"Padded, an answer of this model {size}: nothing is padded, batches hold texts of one length."
    changed = []
    if now.side != before.side:
        changed.append(f"texts are padded on the {now.side}")
    if now.pad_id != before.pad_id:
        changed.append(f"the config's pad_token_id is {now.pad_id}, as the tokenizer's, not {before.pad_id}")
    return f"Padded as tokenizer and config say, an answer {size}: {' and '.join(changed)}."
