"""The warning for answers that are worse than a guess."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.score.quality import below_guessing
from calibench.types import Evaluation


def evaluation(labels: np.ndarray, answers: np.ndarray) -> Evaluation:
    return Evaluation(np.eye(3)[answers], labels)


def test_swapped_labels_are_warned_of() -> None:
    """A good model under labels that are turned round."""
    labels = np.repeat([0, 1, 2], [40, 35, 25])
    warning = below_guessing(evaluation(labels, (labels + 1) % 3), ("joy", "anger", "fear"))
    assert warning is not None
    assert warning.startswith("Accuracy 0.000 is below the 0.400 of always answering 'joy'")


@pytest.mark.parametrize("right", [0.45, 0.9, 1.0])
def test_a_model_that_is_as_good_as_a_guess_is_not(right: float) -> None:
    """Nor one that is better."""
    labels = np.repeat([0, 1, 2], [40, 35, 25])
    answers = np.where(np.arange(100) % 100 < 100 * right, labels, (labels + 1) % 3)
    assert below_guessing(evaluation(labels, answers), ("a", "b", "c")) is None


def test_false_alarms_are_one_in_a_thousand() -> None:
    """Answers drawn without regard to the labels, of two classes alike: 3 or more of 400 have p < .01."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        labels, answers = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
        alarms += below_guessing(evaluation(labels, answers), ("a", "b", "c")) is not None
    assert alarms <= 2


def test_of_one_class_always_guessing_it_is_no_rival() -> None:
    """Nothing can be better than that: 20 slips in 1000 are no sign of swapped labels, 900 are."""
    labels = np.zeros(1000, dtype=np.int64)
    few, many = (np.where(np.arange(1000) < slips, 1, labels) for slips in (20, 900))
    assert below_guessing(evaluation(labels, few), ("a", "b", "c")) is None
    warning = below_guessing(evaluation(labels, many), ("a", "b", "c"))
    assert warning is not None
    assert "Accuracy 0.100 is below the 0.333 of guessing at random" in warning
