"""Dropout switched on gives the bits of a training pass and disturbs nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from calibench.errors import CalibenchError, RefusedError
from calibench.models.checkpoint import example_inputs
from calibench.types import DropoutSite
from calibench_methods.sampling.live import LiveDropout, seeded
from calibench_methods.sampling.sites import find_sites, require_sites
from noisy_layers import INPUT, Layers
from scenarios import disturbance, same
from tiny_models import EXACT, plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")


def train_logits(module: nn.Module, inputs: dict[str, Tensor], passes: int) -> list[Tensor]:
    """The reference: `train()` and a loop."""
    with torch.no_grad():
        return [module.train()(**inputs).logits for _ in range(passes)]


@pytest.mark.parametrize(("architecture", "attention"), EXACT)
def test_live_dropout_is_bit_identical_to_train(architecture: str, attention: str) -> None:
    """On padded batches, live sites give the logits of `train()` to the last bit, over several passes."""
    checkpoint = tiny_checkpoint(architecture, attention)
    sites = find_sites(checkpoint.module, example_inputs(checkpoint))
    plan = plan_of(checkpoint, sentences(9))
    assert plan.padding_ratio > 0
    before = disturbance(checkpoint.module)
    for batch in plan.batches:
        with seeded(5, CPU):
            reference = train_logits(checkpoint.twin(), batch.inputs, 3)
        with seeded(5, CPU), torch.no_grad(), LiveDropout(checkpoint.module, sites):
            live = [checkpoint.module(**batch.inputs).logits for _ in range(3)]
        assert not torch.equal(reference[0], reference[1])
        assert all(torch.equal(a, b) for a, b in zip(reference, live, strict=True))
    assert same(before, disturbance(checkpoint.module))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_modernbert_without_dropout_is_refused(attention: str) -> None:
    """ModernBERT's default probability of 0 leaves nothing to sample, which the error says."""
    checkpoint = tiny_checkpoint("modernbert", attention)
    with pytest.raises(RefusedError, match=r"deterministic on tiny-ModernBert.* all 0"):
        require_sites(checkpoint, example_inputs(checkpoint))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_modernbert_with_dropout_is_covered(attention: str) -> None:
    """Given probabilities above 0, ModernBERT's sites are found and give the bits of `train()`."""
    dropout = dict.fromkeys(
        ["attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"], 0.1
    )
    checkpoint = tiny_checkpoint("modernbert", attention, **dropout)
    inputs = example_inputs(checkpoint)
    sites = require_sites(checkpoint, inputs)
    with seeded(5, CPU):
        (reference,) = train_logits(checkpoint.twin(), inputs, 1)
    with seeded(5, CPU), torch.no_grad(), LiveDropout(checkpoint.module, sites):
        assert torch.equal(checkpoint.module(**inputs).logits, reference)


def test_batchnorm_keeps_its_running_statistics() -> None:
    """Live dropout leaves BatchNorm in eval mode: the buffers stay, and its output is the eval output."""
    module = Layers().eval()
    module.norm.running_mean += 3
    sites, before = find_sites(module, INPUT), disturbance(module)
    seen: list[Tensor] = []
    handle = module.norm.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        module(**INPUT)
        with LiveDropout(module, sites):
            module(**INPUT)
    handle.remove()
    assert torch.equal(seen[0], seen[1])
    assert same(before, disturbance(module))


def test_live_dropout_survives_eval() -> None:
    """A later `model.eval()` does not switch the sites off, and `remove` does."""
    module = Layers().eval()
    live = LiveDropout(module, find_sites(module, INPUT))
    module.eval()
    assert not torch.equal(module(**INPUT), module(**INPUT))
    live.remove()
    live.remove()
    assert torch.equal(module(**INPUT), module(**INPUT))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_flags_are_restored_when_a_site_raises(error: type[BaseException]) -> None:
    """An exception inside a site leaves every training flag as it was, also one that is no `Exception`."""

    def interrupt(*_: object) -> None:
        raise error("inside the site")

    module = Layers().eval()
    before = disturbance(module)
    sites = find_sites(module, INPUT)
    with LiveDropout(module, sites):
        handle = module.noisy.dropout.register_forward_pre_hook(interrupt)
        with pytest.raises(error, match="inside the site"):
            module(**INPUT)
        handle.remove()
    assert same(before, disturbance(module))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("fail", [False, True])
def test_flag_is_restored_after_each_call(mode: bool, fail: bool) -> None:
    """While dropout is live, every flag is as it was between the calls, even after a site raised."""
    module = Layers(fail=fail).train(mode)
    before = disturbance(module)["modules"]
    with LiveDropout(module, find_sites(Layers(), INPUT)):
        if fail:
            with pytest.raises(ValueError, match="fails"):
                module(**INPUT)
        else:
            module(**INPUT)
        assert disturbance(module)["modules"] == before


def test_unknown_site_is_an_error() -> None:
    """A site of another model is refused by name."""
    with pytest.raises(CalibenchError, match="Layers has no module 'elsewhere'"):
        LiveDropout(Layers(), [DropoutSite("elsewhere", "hidden", 0.1, active=True)])


@given(seed=st.integers(-(2**63), 2**64 - 1))
def test_seeded_is_reproducible_and_leaves_no_trace(seed: int) -> None:
    """Any seed that torch takes gives its numbers twice, and the caller's generator goes on undisturbed."""
    state = torch.get_rng_state()
    with seeded(seed, CPU):
        first = torch.rand(4)
    with seeded(seed, CPU):
        second = torch.rand(4)
    torch.manual_seed(seed)
    reference = torch.rand(4)
    torch.set_rng_state(state)
    assert torch.equal(first, second)
    assert torch.equal(first, reference)


def test_seeded_restores_after_an_error() -> None:
    """An exception inside the block does not leave the caller with our seed."""
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"), seeded(1, CPU):
        raise ValueError("inside")
    assert torch.equal(state, torch.get_rng_state())
