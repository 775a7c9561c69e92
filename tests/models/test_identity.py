"""A config's and a tokenizer's hash: another where answers may differ, the same where only the place does."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import DistilBertConfig

from calibench.models.identity import config_sha256, tokenizer_sha256
from calibench.models.loading import load_checkpoint
from tiny_models import tiny_tokenizer


@pytest.mark.parametrize(
    "change",
    [
        {"id2label": {0: "POSITIVE", 1: "NEGATIVE"}},
        {"attention_dropout": 0.2},
        {"seq_classif_dropout": 0.0},
        {"activation": "relu"},
    ],
)
def test_what_changes_an_answer_changes_the_hash(change: dict[str, Any]) -> None:
    """Labels, dropout and activation, which the weights do not tell."""
    assert config_sha256(DistilBertConfig(**change)) != config_sha256(DistilBertConfig())


def test_what_differs_between_machines_does_not() -> None:
    """Where the files were, which version wrote them, a default that one of them spells out."""
    plain, moved = DistilBertConfig(), DistilBertConfig(dim=768, architectures=["X"])
    moved._name_or_path = "/elsewhere"
    moved.transformers_version = "4.0.0"
    assert config_sha256(plain) == config_sha256(moved)


def test_a_tokenizer_is_what_it_makes_of_texts() -> None:
    """A word more is another; padding and truncation that a call left set are not."""
    tokenizer = load_checkpoint("embedded", device="cpu").tokenizer
    before = tokenizer_sha256(tokenizer)
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_sha256(tokenizer) == before
    tokenizer.add_tokens(["unheard-of"])
    assert tokenizer_sha256(tokenizer) != before


def test_one_that_reads_characters_has_a_hash_too() -> None:
    """CANINE's has no backend to serialise."""
    assert tokenizer_sha256(tiny_tokenizer("canine")) == tokenizer_sha256(tiny_tokenizer("canine"))
