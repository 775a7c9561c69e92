"""In scope or not, and which class: C + 1 answers from C probabilities and a threshold.

A text whose largest probability falls below the threshold is answered "out of scope", any other with its most
probable class. The threshold is the one with the most right answers on a split of its own (as Larson et al.
2019 choose theirs); if several have as many, the middle of the widest stretch of them, the lower of equals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from calibench.intervals import wilson
from calibench.metrics.selective import MAX_PROBABILITY
from calibench.stats import Interval
from calibench.types import Evaluation, FloatArray

LEVEL = 0.95


def choose_threshold(evaluation: Evaluation) -> float:
    """The threshold on the largest probability with the most right answers.

    Args:
        evaluation: examples in scope and out of scope (label -1).
    """
    confidence, right = _answers(evaluation)
    beyond = evaluation.labels < 0
    order = np.argsort(confidence, kind="stable")
    # With the k least confident texts answered "out of scope": those of them that are, and the rest if right.
    gained = np.concatenate([[0], np.cumsum(beyond[order])])
    kept = right.sum() - np.concatenate([[0], np.cumsum(right[order])])
    ends = np.concatenate([[0.0], confidence[order], [1.0]])
    width = np.diff(ends)
    correct = np.where(width > 0.0, gained + kept, -1)
    best = np.flatnonzero(correct == correct.max())
    k = int(best[width[best].argmax()])
    return float((ends[k] + ends[k + 1]) / 2.0)


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
    beyond, taken = scored.labels < 0, confidence < threshold
    correct = np.where(beyond, taken, right.astype(bool) & ~taken)
    return {
        "score": MAX_PROBABILITY,
        "threshold": threshold,
        "split": split,
        "examples": len(chosen_on),
        "out_of_scope": int((chosen_on.labels < 0).sum()),
        "accuracy": _share(correct),
        "oos_recall": _share(correct[beyond]),
        "in_scope_accuracy": _share(correct[~beyond]),
    }


def _answers(evaluation: Evaluation) -> tuple[FloatArray, FloatArray]:
    """Largest probability, and 1 where its class is the label; float64 [N] each."""
    predicted = evaluation.probs.argmax(axis=1)
    confidence = evaluation.probs[np.arange(len(predicted)), predicted]
    return np.minimum(confidence, 1.0), (predicted == evaluation.labels).astype(np.float64)


def _share(correct: Any) -> dict[str, Any]:
    if not len(correct):
        return Interval(None, None, None, "no such example was scored").as_dict()
    return Interval(float(correct.mean()), *wilson(float(correct.sum()), len(correct), LEVEL)).as_dict()
