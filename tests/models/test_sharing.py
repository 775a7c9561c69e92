"""Forward passes that methods share, and are charged for."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

from calibench.models import sharing
from calibench.models.encoder import Encoder
from calibench.models.sharing import alone, charge, charges, shared
from tiny_models import plan_of, tiny_checkpoint

CPU = torch.device("cpu")


class Counted:
    """How often a module has run."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


def inputs_of(*rows: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([*rows])}


def test_the_same_inputs_give_the_same_object_inside_sharing_only() -> None:
    """Equal content is one pass inside the block, whichever tensor holds it; outside nothing is kept."""
    checkpoint = tiny_checkpoint()
    encoder, count = Encoder(checkpoint), Counted(checkpoint.module)
    one, other = (plan_of(checkpoint, ["the film", "a plot"]).batches[0] for _ in range(2))
    with sharing.sharing():
        first = encoder(one)
        assert encoder(other) is first
        assert Encoder(checkpoint)(one) is first
    assert count.calls == 1 + 1  # one of them the search for the head
    assert encoder(one) is not encoder(one)
    with sharing.sharing():
        assert encoder(one) is not first
        with alone():
            assert encoder(one) is not encoder(one)


@pytest.mark.parametrize(
    "changed",
    [
        inputs_of([1, 2], [3, 5]),
        inputs_of([1, 2, 3, 4]),
        {"input_ids": torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)},
        {"token_type_ids": torch.tensor([[1, 2], [3, 4]])},
        {**inputs_of([1, 2], [3, 4]), "attention_mask": torch.ones(2, 2, dtype=torch.int64)},
    ],
    ids=["value", "shape", "dtype", "name", "more"],
)
def test_what_differs_is_not_shared(changed: dict[str, torch.Tensor]) -> None:
    """Another value, shape, dtype or name of an input, or one more, is another pass; so is another module."""
    module, given = nn.Identity(), inputs_of([1, 2], [3, 4])
    with sharing.sharing():
        assert shared(module, given, CPU, lambda: torch.zeros(1)).item() == 0
        assert shared(module, changed, CPU, lambda: torch.ones(1)).item() == 1
        assert shared(nn.Identity(), given, CPU, lambda: torch.ones(1)).item() == 1
        assert shared(module, inputs_of([1, 2], [3, 4]), CPU, lambda: torch.ones(1)).item() == 0


def test_a_module_that_is_gone_lends_its_identity_to_none() -> None:
    """Modules made and dropped one after the other, often at one address, never get each other's result."""
    with sharing.sharing():
        for number in range(50):
            module = nn.Identity()
            result = shared(module, inputs_of([1]), CPU, lambda n=number: torch.tensor(n))
            assert result.item() == number
            del module
            gc.collect(0)


def test_tensors_that_are_views_can_be_told_apart() -> None:
    """Inputs that do not lie in memory in order are compared by their content too."""
    grid = torch.arange(6).reshape(2, 3)
    with sharing.sharing():
        module = nn.Identity()
        shared(module, {"input_ids": grid.T}, CPU, lambda: torch.zeros(1))
        same_content = {"input_ids": grid.T.clone(memory_format=torch.contiguous_format)}
        assert shared(module, same_content, CPU, lambda: torch.ones(1)).item() == 0


def test_results_beyond_the_bound_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take more bytes than the bound is made anew, and what is kept already stays."""
    monkeypatch.setattr(sharing, "MOST_BYTES", 100)
    module = nn.Identity()
    nested = {"a": [torch.zeros(10)], "b": (torch.zeros(10),)}
    with sharing.sharing():
        small = shared(module, inputs_of([1]), CPU, lambda: nested)  # 80 bytes
        large = shared(module, inputs_of([2]), CPU, lambda: torch.zeros(6))  # 24 more
        fits = shared(module, inputs_of([3]), CPU, lambda: torch.zeros(5))  # 20 more
        assert shared(module, inputs_of([1]), CPU, lambda: None) is small
        assert shared(module, inputs_of([2]), CPU, lambda: None) is None
        assert shared(module, inputs_of([3]), CPU, lambda: None) is fits
    assert large.shape == (6,)


def test_what_failed_is_not_kept() -> None:
    """An error goes to the caller, and the next one tries again."""

    def fail() -> None:
        raise RuntimeError("no")

    with sharing.sharing():
        with pytest.raises(RuntimeError):
            shared(nn.Identity(), inputs_of([1]), CPU, fail)
        assert shared(nn.Identity(), inputs_of([1]), CPU, lambda: 1) == 1


def test_charges_count_inside_their_block_only() -> None:
    """Seconds go to the innermost block, and nowhere without one."""
    charge(1.0)
    with charges() as outer:
        charge(2.0)
        with charges() as inner:
            charge(4.0)
        charge(8.0)
    charge(16.0)
    assert (outer.seconds, inner.seconds) == (10.0, 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_result_that_was_written_to_is_forgotten(dtype: torch.dtype) -> None:
    """In place and behind torch's back, another value or another order; the next one computes it anew."""
    module, given = nn.Identity(), inputs_of([1, 2])

    def compute() -> dict[str, list[torch.Tensor]]:
        return {"logits": [torch.arange(6).to(dtype).view(2, 3)]}

    assert not sharing.forget_written()
    with sharing.sharing():
        for write in (
            lambda x: x.mul_(0.5),
            lambda x: x.data.copy_(x.flip(1)),
            lambda x: x.data[0, 1:2].zero_(),
        ):
            (lent,) = shared(module, given, CPU, compute)["logits"]
            assert not sharing.forget_written()
            assert torch.equal(lent, *compute()["logits"])
            write(lent)
            assert sharing.forget_written()
