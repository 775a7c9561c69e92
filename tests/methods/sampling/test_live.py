"""Dropout switched on gives the bits of a training pass and disturbs nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import zoo
from calibench.errors import CalibenchError, RefusedError
from calibench.models.checkpoint import example_inputs
from calibench.registry import METHODS
from calibench.types import DropoutSite
from calibench_methods.sampling.live import LiveDropout, seeded
from calibench_methods.sampling.sites import find_sites, measure_coverage, require_sites
from noisy_layers import INPUT, Layers
from scenarios import disturbance, same
from tiny_models import EXACT, plan_of, sentences, tiny_checkpoint, wrap

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


class Skipping(nn.Module):
    """Skips its layer, and draws units, at random."""

    def __init__(self, draw: str, rate: float = 0.5) -> None:
        super().__init__()
        self.layer = nn.Dropout(0.2)
        self.layerdrop = rate
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(x, 0.1, training=self.training)
        number = torch.rand([]) if self.draw == "scalar" else torch.rand(1)
        return x if self.training and number < self.layerdrop else self.layer(x)


@pytest.mark.parametrize("draw", ["scalar", "vector"])
def test_layers_that_may_be_skipped_are_found_whatever_is_drawn(draw: str) -> None:
    """LayerDrop is a site beside the units of its module; the layer's own site is found under every seed."""
    expected = [("", "Skipping", 0.1), ("", "layerdrop", 0.5), ("layer", "hidden", 0.2)]
    module = Skipping(draw).eval()
    for seed in range(8):
        torch.manual_seed(seed)
        sites = find_sites(module, INPUT)
        assert [(site.name, site.kind, site.p) for site in sites] == expected
        with LiveDropout(module, sites):
            assert measure_coverage(module, sites, INPUT).active == 3
        with LiveDropout(module, sites[2:]):
            active = [site.active for site in measure_coverage(module, sites, INPUT).sites]
        # Out of training the module draws its number all the same, and does not look at it.
        assert active == [False, True, True]


def test_live_layerdrop_skips_as_often_as_it_says() -> None:
    """Watching answers single numbers for the model; running it does not. False alarms: 5 standard errors."""
    module = Skipping("scalar", 0.3).eval()
    ran = []
    module.layer.register_forward_hook(lambda *_: ran.append(1))
    with LiveDropout(module, find_sites(module, INPUT)):
        ran.clear()
        for _ in range(2000):
            module(**INPUT)
    assert abs(len(ran) / 2000 - 0.7) < 5 * (0.3 * 0.7 / 2000) ** 0.5


class HostNoise(nn.Module):
    """Draws from the generators that are not torch's."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x * float(np.random.random()) + random.random()  # noqa: NPY002
        return x


def test_draws_from_numpy_and_python_are_sites_too() -> None:
    """A seed decides them, and the caller's generators go on undisturbed."""
    module = nn.Sequential(HostNoise()).eval()
    before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr] # noqa: NPY002
    sites = find_sites(module, {"input": torch.ones(2, 3)})
    assert [(site.name, site.kind) for site in sites] == [("0", "HostNoise")]
    with LiveDropout(module, sites):
        results = []
        for seed in (1, 1, 2):
            with seeded(seed, CPU):
                results.append(module(torch.ones(1)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[union-attr] # noqa: NPY002


def big_bird() -> nn.Module:
    """A BigBird as the library makes it: block-sparse, and not yet run on a short text."""
    module: nn.Module = zoo.raw("big_bird")
    assert "BigBirdBlockSparseAttention" in {type(child).__name__ for child in module.modules()}
    return module


def test_a_model_that_changes_itself_is_settled_before_it_is_probed() -> None:
    """No method changes the caller's BigBird; sites are those of what runs, and it draws nothing at first."""
    module = big_bird()
    classes = [type(child) for child in module.modules()]
    checkpoint = wrap(module, zoo.tokenizer(zoo.ZOO["big_bird"]), 3)
    settled = [type(child) for child in checkpoint.module.modules()]
    assert {id(value) for value in checkpoint.module.parameters()} == {id(v) for v in module.parameters()}
    inputs = example_inputs(checkpoint)
    sites = require_sites(checkpoint, inputs)
    assert [site.name for site in sites if site.p == 0.2] == [
        f"bert.encoder.layer.{layer}.attention.self.dropout" for layer in (0, 1)
    ]
    # Probed as it came, it is seen behind its change, and stays what it was.
    assert find_sites(module, inputs) == sites
    before = disturbance(checkpoint.module)
    for name in ("mc-dropout", "mc-dropout-batch", "frequentist", "mc-dropout-last", "moment-propagation"):
        METHODS.load(name)(checkpoint).predict(zoo.plan(checkpoint), seed=1)
    assert same(before, disturbance(checkpoint.module))
    assert [type(child) for child in checkpoint.module.modules()] == settled
    assert [type(child) for child in module.modules()] == classes


def test_a_training_pass_that_fails_is_refused() -> None:
    """In one sentence with the model's own reason."""
    checkpoint = tiny_checkpoint()

    def fail(*_: object) -> None:
        raise ValueError("texts must be longer\nand more")

    checkpoint.module.register_forward_pre_hook(fail)
    with pytest.raises(
        RefusedError, match=r"^mc-dropout needs .* fails on a short text .texts must be longer.; use .*[.]$"
    ):
        METHODS.load("mc-dropout")(checkpoint)
