"""Generated tasks: their posterior is the truth, and they are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from calibench.data.generated import TASKS, Law, Task, label_names, load, vocabulary
from calibench.errors import UsageError


@pytest.mark.parametrize("name", TASKS)
def test_the_posterior_is_the_truth(name: str) -> None:
    """Of 12,000 texts, the mean confidence in the likeliest class is the rate at which it is the label.

    A right posterior is beyond 4 standard errors in 1 of 15,000 draws.
    """
    data = load(name, split="train")
    assert data.posterior is not None
    confidence, right = data.posterior.max(1), data.posterior.argmax(1) == data.labels
    error = np.sqrt((confidence * (1 - confidence)).sum()) / len(data)
    assert abs(confidence.mean() - right.mean()) < 4 * error
    assert np.allclose(data.posterior.sum(1), 1.0, atol=1e-12)


def test_the_posterior_is_bayes_rule() -> None:
    """On a law small enough to multiply out in exact fractions."""
    from fractions import Fraction

    law = Law.of(Task(3, 5, 10, tail=1.0))
    texts, _, posterior = law.sample(10, np.random.default_rng(0))
    for words, found in zip(texts, posterior, strict=True):
        joint = []
        for weights, prior in zip(law.weights, law.priors, strict=True):
            p = Fraction(int(prior))
            for word in words:
                p *= Fraction(int(weights[word]), int(weights.sum()))
            joint.append(p)
        np.testing.assert_allclose(found, [float(p / sum(joint)) for p in joint], rtol=1e-10)


def test_a_text_is_the_same_on_every_machine() -> None:
    """Draws compare integers."""
    texts = "\n".join(str(text) for text in load("77-classes-tail-3000").texts)
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "55027e3ea5a5b13d"


@pytest.mark.parametrize("name", TASKS)
def test_words_and_labels_are_told_apart(name: str) -> None:
    """No two words are spelt alike, and names sort as classes do."""
    task = TASKS[name]
    assert len(set(vocabulary(task))) == len(vocabulary(task)) == Law.of(task).weights.shape[1]
    assert list(label_names(task)) == sorted(set(label_names(task)))


def test_a_tail_is_long() -> None:
    """The first class of a long-tailed task is common and the last one rare."""
    counts = np.bincount(load("20-classes-tail-2000").labels, minlength=20)
    assert counts[0] > 5 * counts[-1] > 0


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("2-classes-30", None, "did you mean 2-classes-300"),
        (None, None, "choose 2-classes-300, "),
        ("2-classes-300", "dev", "choose test or validation or train"),
    ],
)
def test_what_is_not_there_is_refused(name: str | None, split: str | None, said: str) -> None:
    """In one sentence that says what is."""
    with pytest.raises(UsageError, match=said):
        load(name, split=split)


def test_options_of_files_are_refused() -> None:
    """A generated data set has no columns."""
    with pytest.raises(UsageError, match="takes no label_column"):
        load("2-classes-300", label_column="label")
