"""What is said of a file: contradictions are refused, and a record holds what was said."""

from __future__ import annotations

from typing import Any

import pytest

from calibench.errors import UsageError
from calibench.readers.asked import Asked


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"delimiter": "ab"}, "The delimiter is 'ab'"),
        ({"normalise": "words"}, "choose from none, characters, bytes"),
        ({"classes": ("a", "b", "a")}, "--classes says 'a' twice"),
        ({"renormalise": True, "logits": True}, "--logits says there are none"),
    ],
)
def test_contradictions_are_refused(said: dict[str, Any], message: str) -> None:
    """Where they are said, before a file is opened."""
    with pytest.raises(UsageError, match=message):
        Asked(**said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"label": "y"}, "none of them was given"),
        ({"label": "y", "probs": "p", "prob": "q"}, "--probs and --prob"),
        ({"probs": "p"}, "--label COLUMN"),
        ({"correct": "k"}, "--confidence is missing"),
        ({"confidence": "c", "correct": "k", "label": "y"}, "--label has no meaning"),
        ({"confidence": "c", "correct": "k", "probs": "p"}, "--probs and --confidence"),
    ],
)
def test_a_table_needs_one_way_to_its_probabilities(said: dict[str, Any], message: str) -> None:
    """Neither none nor two of them."""
    with pytest.raises(UsageError, match=message):
        Asked(**said).checked_columns()


def test_what_was_said_is_kept_and_what_was_not_is_not() -> None:
    """`as_options` holds the fields that are not as by default, as JSON can."""
    asked = Asked(label="y", probs="p_*", classes=("a", "b"), skip_nulls=True)
    assert asked.as_options() == {
        "label": "y",
        "probs": "p_*",
        "classes": ["a", "b"],
        "skip_nulls": True,
    }
    assert Asked().as_options() == {}


def test_a_reader_refuses_what_it_does_not_heed() -> None:
    """By the name of the option, so that nobody takes it for heeded."""
    with pytest.raises(UsageError, match="--prices COLUMN has no meaning with --from inspect"):
        Asked(price="usd").refuse_others("inspect", ("confidence",))
    Asked(confidence="c", skip_nulls=True).refuse_others("inspect", ("confidence",))
