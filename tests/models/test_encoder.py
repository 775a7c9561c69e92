"""The head, the features before it, and forward passes that methods share and are charged for."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.errors import RefusedError
from calibench.measure.clocks import time_prediction
from calibench.method import Method
from calibench.models import sharing
from calibench.models.encoder import Encoder
from calibench.models.head import find_head
from calibench.models.plan import Planner
from calibench.models.sharing import alone, charge, charges, shared
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.max_logit import MaxLogit
from scenarios import disturbance, same
from tiny_models import CONFIGS, MAX_LENGTH, plan_of, sentences, tiny_checkpoint, tiny_tokenizer, wrap

ARCHITECTURES = pytest.mark.parametrize("architecture", sorted(CONFIGS))
CPU = torch.device("cpu")


class Counted:
    """How often a module has run."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


class Twist(nn.Module):
    """A last layer whose output is not what a linear layer gave."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 1.5 * self.inner(features)


class PerToken(nn.Module):
    """Gives every token its logits, and takes those of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        del attention_mask
        return SequenceClassifierOutput(logits=self.classifier(self.words(input_ids))[:, 0])


# --- head and encoder --------------------------------------------------------------------------------------


@ARCHITECTURES
def test_the_head_makes_the_logits(architecture: str) -> None:
    """The layer found has a row per class, and the logits are its output on the features, bit by bit."""
    checkpoint = tiny_checkpoint(architecture, "eager", classes=3)
    head = find_head(checkpoint)
    assert dict(checkpoint.module.named_modules())[head.name] is head.linear
    assert head.linear.out_features == 3
    encoded = Encoder(checkpoint)(plan_of(checkpoint, [*sentences(4)]).batches[0])
    with torch.inference_mode():
        assert torch.equal(head.linear(encoded.features), encoded.logits)


@ARCHITECTURES
def test_an_encoder_sees_the_plain_pass(architecture: str) -> None:
    """Logits, and what the model's encoder returns, are those of a plain pass; no hook stays behind."""
    checkpoint = tiny_checkpoint(architecture, "eager")
    before = disturbance(checkpoint.module)
    encoder = Encoder(checkpoint)
    base = getattr(checkpoint.module, checkpoint.module.base_model_prefix)
    for batch in plan_of(checkpoint, [*sentences(9)]).batches:
        encoded = encoder(batch)
        with torch.inference_mode():
            assert torch.equal(encoded.logits, checkpoint.module(**batch.inputs).logits)
            assert torch.equal(encoded.hidden[0], base(**batch.inputs)[0])
        assert encoded.features.shape == (len(batch), encoder.head.linear.in_features)
    assert same(before, disturbance(checkpoint.module))


def test_hooks_go_where_the_pass_fails() -> None:
    """A forward pass that raises leaves no hook on the model, in the head's search as in the encoder."""
    checkpoint = tiny_checkpoint()
    encoder = Encoder(checkpoint)
    before = disturbance(checkpoint.module)
    batch = plan_of(checkpoint, ["the film"]).batches[0]
    object.__setattr__(batch, "inputs", {"input_ids": torch.full((1, 3), 10**6)})
    with pytest.raises(IndexError):
        encoder(batch)
    assert same(before, disturbance(checkpoint.module))


def test_a_model_without_such_a_head_is_refused() -> None:
    """Where something comes between the last linear layer and the logits, the refusal names the model."""
    checkpoint = tiny_checkpoint()
    checkpoint.module.classifier = Twist(checkpoint.module.classifier)
    before = disturbance(checkpoint.module)
    with pytest.raises(RefusedError, match=r"tiny-DistilBert\w+ does not make its logits by a linear layer"):
        find_head(checkpoint)
    assert same(before, disturbance(checkpoint.module))


def test_a_linear_layer_for_every_token_is_no_head() -> None:
    """A layer that gives each token its logits, of which the model takes one, is refused too."""
    checkpoint = wrap(PerToken(), tiny_tokenizer(), 2)
    with pytest.raises(
        RefusedError, match=r"tiny-PerToken does not make its logits .* from one vector per text"
    ):
        find_head(checkpoint)


# --- sharing -----------------------------------------------------------------------------------------------


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


# --- charging ----------------------------------------------------------------------------------------------


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


def test_a_pass_taken_over_is_charged_to_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes a pass has the seconds of who made it added, end to end and forward; alone pays in person."""
    checkpoint = tiny_checkpoint()
    planner = Planner(checkpoint.tokenizer, CPU, MAX_LENGTH, 10_000)
    plan = plan_of(checkpoint, [*sentences(5)], token_budget=10_000)
    groups = [plan.batches[0].index]
    clock = Clock(checkpoint.module)
    monkeypatch.setattr("time.perf_counter", clock)
    methods: list[Method] = [Energy(checkpoint), MaxLogit(checkpoint)]
    with sharing.sharing():
        made, taken = (time_prediction(method, planner, plan, groups, seed=0)[1] for method in methods)
        with alone():
            paid = time_prediction(methods[0], planner, plan, groups, seed=0)[1]
    assert clock.passes == 2
    for timed in (made, taken, paid):
        assert timed.end_to_end_s == 100
        assert timed.forward_s == 100


class Clock:
    """A clock that stands still but for 100 seconds per forward pass."""

    def __init__(self, module: nn.Module) -> None:
        self.passes = -2  # the searches for the head
        module.base_model.register_forward_hook(self._tick)

    def _tick(self, *_: Any) -> None:
        self.passes += 1

    def __call__(self) -> float:
        return 100.0 * self.passes
