"""How texts of unlike lengths share a batch so that each gets the answer that it gets alone.

Learnt positions shift where a tokenizer pads on the left; a head that reads the last token reads padding
where tokenizer and config do not agree on the pad id; some architectures have no full attention mask. None of
this raises an error. So before anything is measured, a few texts are asked alone and padded, and what gives
the same answers is taken: the tokenizer's side, else the other one, with either pad id, and where nothing
does, no padding: then batches hold texts of one length. In float16 and bfloat16 the same is asked in float32
too, where rounding hides less.
"""

from __future__ import annotations

import copy
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
#: Of them, at most so many that hold a padding token as a word, which heads may take for a text's end.
MARKED = 4
#: Parameters up to which what is tried in a narrow dtype is tried in float32 too, where rounding hides less.
MOST_WIDENED = 10**9
#: What rounding alone may change in a probability, by dtype; where a batch without padding changes more, four
#: times that.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
#: A pad id that no token has.
NO_PAD = -1
RESTLESS = (
    "This model draws random numbers whenever it runs: asked twice, a text's answer changes by up to {:.2g}."
)


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


def settle_padding(
    checkpoint: Checkpoint, texts: Sequence[Text], seed: int = 0, *, side: Side | None = None
) -> Settled:
    """Find the padding that gives every text the answer that it gets alone; the checkpoint is left as it was.

    Args:
        texts: those of the run, of which a few are tried.
        seed: of the choice.
        side: the only one that there is, as batches are made for another checkpoint; None for any. Where it
            does not do, what is taken is "none".
    """
    before = checkpoint.padding
    encoded = Planner.of(checkpoint, batch_size=1).plan(texts, np.arange(len(texts), dtype=np.int64))
    chosen = _chosen(encoded.token_ids, {before.pad_id, checkpoint.tokenizer.pad_token_id}, seed)
    answers = {texts[i]: _alone(checkpoint, [texts[i]]) for i in chosen}
    # A text too short for the model fails alone, which is for the methods to say.
    tried = [text for text, answer in answers.items() if np.isfinite(answer).all()]
    if not tried:
        return Settled(before, 0.0, None)
    alone = np.concatenate([answers[text] for text in tried])
    again = _distance(_alone(checkpoint, tried), alone)
    if again > ROUNDING[checkpoint.dtype]:
        return Settled(before, again, RESTLESS.format(again))
    try:
        trials = [_Trial(one, tried) for one in (checkpoint, *_widened(checkpoint))]
        noise = trials[0].noise
        seen = None
        for padding in _candidates(checkpoint, side):
            differences = [trial.difference(padding) for trial in trials]
            if all(found <= trial.allowed for found, trial in zip(differences, trials, strict=True)):
                note = _note(checkpoint, before, padding, seen)
                return Settled(padding, differences[0], _crowded(trials[0], note))
            seen = max(differences) if seen is None else seen
        padding = _unpadded(checkpoint)
        note = _note(checkpoint, before, padding, seen)
        return Settled(padding, noise, _crowded(trials[0], note))
    finally:
        padded(checkpoint, before)


def sample_texts(checkpoint: Checkpoint) -> list[str]:
    """Texts of unlike lengths, of tokens at random, where there are none of a run to try."""
    tokenizer, draw = checkpoint.tokenizer, np.random.default_rng(0)
    special = {*tokenizer.all_special_ids, checkpoint.padding.pad_id}
    words = [number for number in range(min(len(tokenizer), 30_000)) if number not in special]
    lengths = [min(length, checkpoint.max_length - 8) for length in (1, 3, 5, 9, 15, 24)]
    texts = [tokenizer.decode(draw.choice(words, size=max(1, length)).tolist()) for length in lengths]
    return [text if text.strip() else "a" for text in texts]


class _Trial:
    """A few texts asked of one checkpoint, alone and padded.

    Attributes:
        noise: how far a text is, in a batch of copies of itself, from itself alone.
        allowed: how far it may be in a padded batch.
    """

    def __init__(self, checkpoint: Checkpoint, texts: Sequence[Text]) -> None:
        self.checkpoint, self.texts = checkpoint, texts
        self.alone = _alone(checkpoint, texts)
        self.rounding = ROUNDING[checkpoint.dtype]
        self.noise = _noise(checkpoint, texts, self.alone)
        self.allowed = max(self.rounding, 4.0 * self.noise)

    def difference(self, padding: Padding) -> float:
        """The largest change of a probability, also of a text alone."""
        trial = padded(self.checkpoint, padding)
        found = (_alone(trial, self.texts), _together(trial, self.texts))
        return max(_distance(answers, self.alone) for answers in found)


def _widened(checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
    """In a narrow dtype the same in float32, if it is not too large; its config and tokenizer are its own."""
    narrow = checkpoint.dtype in {torch.float16, torch.bfloat16}
    if not narrow or sum(value.numel() for value in checkpoint.module.parameters()) > MOST_WIDENED:
        return ()
    wide = checkpoint.twin("float32")
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    return (replace(checkpoint, module=wide, tokenizer=tokenizer, dtype=torch.float32),)


def _crowded(trial: _Trial, note: str | None) -> str | None:
    """The note, and that answers depend on the batch where copies of a text change more than rounding."""
    if trial.noise <= 4.0 * trial.rounding:
        return note
    said = f"Beside copies of itself a text's answer changes by up to {trial.noise:.2g}: pass -b 1."
    return said if note is None else f"{note} {said}"


def _config(module: Any) -> Any:
    return module.config.get_text_config()


def _chosen(token_ids: Sequence[Sequence[int]], pads: set[int | None], seed: int) -> list[int]:
    """Positions of the shortest, the longest, a few that hold a padding token, and others at random."""
    order = np.argsort([len(ids) for ids in token_ids], kind="stable")
    marked = [i for i, ids in enumerate(token_ids) if not pads.isdisjoint(ids)]
    # First those where it stands at an end, where heads look for it.
    marked.sort(key=lambda i: pads.isdisjoint((token_ids[i][0], token_ids[i][-1])))
    rest = np.random.default_rng(seed).permutation(order[1:-1])[: TRIED - 2]
    return [int(i) for i in dict.fromkeys([order[0], order[-1], *marked[:MARKED], *rest])]


def _candidates(checkpoint: Checkpoint, only: Side | None) -> Iterator[Padding]:
    """What tokenizer and config say, then the tokenizer's pad id, then the same on the other side."""
    tokenizer, config_id = checkpoint.tokenizer, checkpoint.padding.pad_id
    if tokenizer.pad_token_id is None:
        return
    other: Side = "left" if tokenizer.padding_side == "right" else "right"
    ids = dict.fromkeys([config_id, tokenizer.pad_token_id])
    for side in (tokenizer.padding_side, other) if only is None else (only,):
        if side != "none":
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
