"""Which sites are found, and that looking for them leaves no trace."""

from __future__ import annotations

import pytest
import torch

from calibench.models.checkpoint import example_inputs
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.sites import find_sites, measure_coverage, sites_without_batch_axis
from noisy_layers import INPUT, Layers
from scenarios import disturbance, same
from tiny_models import EXACT, tiny_checkpoint


@pytest.mark.parametrize(("architecture", "attention"), EXACT)
def test_sites_have_kind_and_probability(architecture: str, attention: str) -> None:
    """Hidden, attention and classifier dropout are each found with the probability of the configuration."""
    checkpoint = tiny_checkpoint(architecture, attention)
    sites = find_sites(checkpoint.module, example_inputs(checkpoint))
    assert {site.p for site in sites} == {0.1, 0.2, 0.3}
    attention_sites = [site for site in sites if site.p == 0.2]
    assert len(attention_sites) == 2
    # DeBERTa-v2 still applies a dropout module to its attention weights.
    kind = "hidden" if architecture == "deberta-v2" else "attention"
    assert {site.kind for site in attention_sites} == {kind}


def test_sites_are_the_modules_that_draw_themselves() -> None:
    """A module that draws beside its child is a site like the child; p = 0 is none; BatchNorm is none."""
    sites = find_sites(Layers(), INPUT)
    assert [(site.name, site.kind, site.p) for site in sites] == [
        ("first", "hidden", 0.4),
        ("noisy.dropout", "hidden", 0.2),
        ("noisy", "Noisy", None),
    ]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("fail", [False, True])
def test_probe_leaves_no_trace(mode: bool, fail: bool) -> None:
    """Parameters, buffers, flags, hooks and the caller's generator survive a probe, even one that fails."""
    module = Layers(fail=fail).train(mode)
    before, state = disturbance(module), torch.get_rng_state()
    if fail:
        with pytest.raises(ValueError, match="the forward pass fails"):
            find_sites(module, INPUT)
    else:
        find_sites(module, INPUT)
        sites_without_batch_axis(module, INPUT)
    assert same(before, disturbance(module))
    assert torch.equal(state, torch.get_rng_state())


def test_coverage_counts_what_draws() -> None:
    """Coverage is measured on the model as it is: none in eval, all with live dropout, part with a part."""
    module = Layers().eval()
    sites = find_sites(module, INPUT)
    assert measure_coverage(module, sites, INPUT).active == 0
    with LiveDropout(module, sites[:1]):
        assert [site.active for site in measure_coverage(module, sites, INPUT).sites] == [True, False, False]
    with LiveDropout(module, sites):
        assert measure_coverage(module, sites, INPUT).active == 3


def test_masks_without_a_batch_axis_are_found() -> None:
    """Of the covered architectures only DeBERTa-v2 has such sites: its `pos_dropout`, one per layer."""
    for architecture, attention in EXACT:
        checkpoint = tiny_checkpoint(architecture, attention)
        found = sites_without_batch_axis(checkpoint.module, example_inputs(checkpoint))
        if architecture == "deberta-v2":
            assert [name.rpartition(".")[2] for name in found] == ["pos_dropout", "pos_dropout"]
        else:
            assert found == ()


def test_draw_on_an_unseen_tensor_counts_as_without_batch_axis() -> None:
    """A scalar drawn for the whole batch is reported with the shared masks."""
    assert sites_without_batch_axis(Layers(), INPUT) == ("noisy",)
