"""Hashes of content: what counts changes them, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.subset import take
from calibench.hashing import text_sha256, weights_sha256
from made_data import example


def test_the_hash_of_a_data_set_is_that_of_its_content() -> None:
    """Texts, labels, names, split and order count; where the data came from does not."""
    base = example([0, 1, 0], ["a", "b"])
    variants = [
        take(base, np.array([1, 0, 2])),
        take(base, np.array([0, 1])),
        take(replace(base, labels=np.array([0, 1, 1])), np.arange(3)),
        take(replace(base, label_names=("b", "a")), np.arange(3)),
        take(replace(base, split="train"), np.arange(3)),
        take(replace(base, texts=("text 0", "text 1", "text 2 ")), np.arange(3)),
    ]
    assert len({base.sha256, *(variant.sha256 for variant in variants)}) == len(variants) + 1
    assert take(replace(base, name="elsewhere", source="hub"), np.arange(3)).sha256 == base.sha256


@given(st.text(), st.text(), st.text())
def test_a_text_is_not_the_pair_it_could_be_read_as(a: str, b: str, c: str) -> None:
    """Hashes tell a text from a pair, and pairs apart by where the border lies."""
    assert text_sha256(a) != text_sha256((a, b))
    if b:
        assert text_sha256((a + b, c)) != text_sha256((a, b + c))
    assert len(text_sha256(a)) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_the_hash_of_weights_is_that_of_names_dtypes_shapes_and_bytes(dtype: torch.dtype) -> None:
    """Order and memory layout do not count; each of the four does."""
    a, b = torch.arange(6).reshape(2, 3).to(dtype), torch.tensor(1).to(dtype)
    reference = weights_sha256({"a": a, "b": b})
    assert weights_sha256({"b": b, "a": a.T.contiguous().T}) == reference
    others = [
        {"a": a, "c": b},
        {"a": b, "b": a},
        {"a": a.reshape(3, 2), "b": b},
        {"a": a, "b": torch.zeros_like(b)},
        {"a": a, "b": b.view(-1)},
        {"a": a},
    ]
    assert reference not in {weights_sha256(other) for other in others}
    if dtype is torch.float16:
        assert weights_sha256({"a": a.view(torch.bfloat16), "b": b}) != reference
