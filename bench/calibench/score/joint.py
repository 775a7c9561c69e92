"""In scope or not, and which class: C + 1 answers from C probabilities and a threshold.

A text on the uncertain side of the threshold is answered "out of scope", any other with its most probable
class: below it where it is on the largest probability, above it where it is on a score of the method's own.
The threshold is the one with the most right answers on a split of its own (as Larson et al. 2019 choose
theirs); if several have as many, the middle of the widest stretch of them, the less certain of equals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from calibench.metrics.detection import score_of
from calibench.metrics.selective import MAX_PROBABILITY, own_score
from calibench.score.shares import share
from calibench.types import Evaluation, FloatArray


def choose_threshold(evaluation: Evaluation) -> float:
    """The threshold with the most right answers, on the score by which the method ranks texts.

    Args:
        evaluation: examples in scope and out of scope (label -1).
    """
    confidence, right = _answers(evaluation)
    beyond = evaluation.labels < 0
    least, most = _range(evaluation, confidence)
    order = np.argsort(confidence, kind="stable")
    # With the k least confident texts answered "out of scope": those of them that are, and the rest if right.
    gained = np.concatenate([[0], np.cumsum(beyond[order])])
    kept = right.sum() - np.concatenate([[0], np.cumsum(right[order])])
    ends = np.concatenate([[least], confidence[order], [most]])
    width = np.diff(ends)
    correct = np.where(width > 0.0, gained + kept, -1)
    best = np.flatnonzero(correct == correct.max())
    k = int(best[width[best].argmax()])
    middle = float((ends[k] + ends[k + 1]) / 2.0)
    return middle if own_score(evaluation) == MAX_PROBABILITY else -middle


def joint_fields(chosen_on: Evaluation, split: str, scored: Evaluation) -> dict[str, Any]:
    """`joint` of a record: the threshold, and what it gives on the scored examples.

    Intervals are Wilson's over the scored examples; the threshold is held fixed, whose own luck on its split
    they leave out.

    Args:
        chosen_on: predictions for the split that the threshold is chosen on.
        split: its name.
        scored: predictions for the scored examples, those out of scope included.
    """
    threshold = choose_threshold(chosen_on)
    confidence, right = _answers(scored)
    own = own_score(scored)
    beyond = scored.labels < 0
    taken = confidence < (threshold if own == MAX_PROBABILITY else -threshold)
    correct = np.where(beyond, taken, right.astype(bool) & ~taken)
    return {
        "score": own,
        "threshold": threshold,
        "split": split,
        "examples": len(chosen_on),
        "out_of_scope": int((chosen_on.labels < 0).sum()),
        "accuracy": share(correct).as_dict(),
        "oos_recall": share(correct[beyond]).as_dict(),
        "in_scope_accuracy": share(correct[~beyond]).as_dict(),
    }


def _answers(evaluation: Evaluation) -> tuple[FloatArray, FloatArray]:
    """Largest probability, or less the method's own score, and 1 for a right class; float64 [N] each."""
    predicted = evaluation.probs.argmax(axis=1)
    right = (predicted == evaluation.labels).astype(np.float64)
    if own_score(evaluation) == MAX_PROBABILITY:
        return np.minimum(evaluation.probs[np.arange(len(predicted)), predicted], 1.0), right
    return -score_of(evaluation), right


def _range(evaluation: Evaluation, confidence: FloatArray) -> tuple[float, float]:
    """Where a threshold may lie: a probability has ends, a score goes on for a mean gap beyond its own."""
    if own_score(evaluation) == MAX_PROBABILITY:
        return 0.0, 1.0
    least, most = float(confidence.min()), float(confidence.max())
    gap = (most - least) / len(confidence) or 1.0
    return least - gap, most + gap
