"""The contract of the sampling methods, over many architectures of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.dropout.mc_dropout_adaptive import McDropoutAdaptive
from calibench_methods.dropout.mc_dropout_batch import McDropoutBatch
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified
from calibench_methods.one_pass.moment_propagation import MomentPropagation
from calibench_methods.sampling.copies import Copies
from calibench_methods.sampling.keyed_dropout import KeyedDropout
from calibench_methods.sampling.live import seeded
from scenarios import disturbance, same

SKIPS = "skips whole layers for all texts of a forward pass at once .layerdrop"
AXIS = "whose first axis is not the batch"
OTHERWISE = r"of the sites of \w+ draw otherwise"
RESEEDS = "gives torch's generator another one"
NOTHING = "deterministic on mpt .* draws no random numbers"
#: What mc-dropout cannot be right on, and why.
WITHOUT_SEED = {"reformer": RESEEDS, "mpt": NOTHING}
#: What keyed methods cannot be right on.
WITHOUT_KEYS = WITHOUT_SEED | {
    "bart, LayerDrop": SKIPS,
    "flaubert, LayerDrop": SKIPS,
    "longformer": AXIS,
    "mixtral": OTHERWISE,
    "mvp": AXIS,
    "opt": AXIS,
    "opt, LayerDrop": SKIPS,
    "xlnet": AXIS,
}
MADE = [(name, attention) for name in zoo.ZOO for attention in zoo.attentions(name)]
SEEDED = [pair for pair in MADE if pair[0] not in WITHOUT_SEED]
KEYED = [pair for pair in MADE if pair[0] not in WITHOUT_KEYS]
CPU = torch.device("cpu")
COPIES = 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_zoo_is_large() -> None:
    """Forty architectures and more, of every kind that there is in it."""
    assert len({zoo.ZOO[name].kind for name, _ in SEEDED}) >= 40
    assert len({zoo.ZOO[name].kind for name, _ in KEYED}) >= 40


@pytest.mark.parametrize(("name", "attention"), SEEDED)
def test_mc_dropout_is_train(name: str, attention: str) -> None:
    """Every site is live, the bits are those of `train()` over the same batches, and nothing is changed."""
    checkpoint = zoo.checkpoint(name, attention)
    before, state = disturbance(checkpoint.module), torch.get_rng_state()
    plan = zoo.plan(checkpoint)
    assert len(plan.batches) > 1
    method = McDropout(checkpoint, passes=3)
    predictive = method.predict(plan, seed=5)
    assert same(before, disturbance(checkpoint.module))
    assert torch.equal(state, torch.get_rng_state())
    assert method.coverage is not None
    assert method.coverage.active == method.coverage.expected > 0
    twin = checkpoint.twin().train()
    reference = np.empty((3, len(plan), zoo.CLASSES))
    with torch.no_grad(), seeded(5, CPU):
        for batch in plan.batches:
            for sample in reference:
                sample[batch.index] = twin(**batch.inputs).logits.double().softmax(dim=-1).numpy()
    assert np.array_equal(predictive.probs, reference.mean(axis=0))
    assert predictive.samples is not None
    assert (predictive.samples.std(axis=0).max(axis=1) > 0).all()


@pytest.mark.parametrize(("name", "attention"), KEYED)
def test_keyed_masks_have_their_law(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are dropped at the site's rate, independently of the next draw, text and copy.

    Four means over thousands of units of a model, each within 5 standard errors: false alarms below 3e-6.
    """
    checkpoint = zoo.checkpoint(name, attention)
    before = disturbance(checkpoint.module)
    drops = _drops(checkpoint, monkeypatch)
    assert same(before, disturbance(checkpoint.module))
    assert drops
    products: dict[str, list[Tensor]] = {"rate": [], "copy": [], "text": [], "draw": []}
    for here, following in zip(drops, [*drops[1:], None], strict=True):
        products["rate"].append(here)
        products["copy"].append(here[1:] * here[:-1])
        products["text"].append(here[:, 1:] * here[:, :-1])
        if following is not None and following.shape == here.shape:
            products["draw"].append(following * here)
    for values in products.values():
        pooled = torch.cat([value.flatten() for value in values] or [torch.zeros(1)])
        pooled = pooled[~pooled.isnan()]
        assert pooled.sum().abs() < 5 * pooled.square().sum().sqrt() + 1e-9


def _drops(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Where units are dropped, (drop - p) / sqrt(p q) by draw: [T, B, units], NaN for a unit that was 0."""
    seen: list[Tensor] = []
    original = KeyedDropout._dropout

    def record(module: KeyedDropout, values: Tensor, p: float, scale: float) -> Tensor | None:
        dropped = original(module, values, p, scale)
        if dropped is not None and module._running[-1] not in module.shared:
            assert torch.allclose(dropped, values * scale * (dropped != 0), rtol=1e-5, atol=1e-7)
            standard = ((dropped == 0).float() - p) / (p * (1 - p)) ** 0.5
            standard[values == 0] = torch.nan
            seen.append(standard.view(len(module._passes), len(module._rows), -1))
        return dropped

    monkeypatch.setattr(KeyedDropout, "_dropout", record)
    copies = Copies(checkpoint, stratum=COPIES, independent=True)
    batch = max(zoo.plan(checkpoint, budget=10_000).batches, key=len)
    inputs = {key: value[-3:] for key, value in batch.inputs.items()}
    copies.measure(inputs, batch.index[-3:])
    seen.clear()
    copies.logits(inputs, batch.index[-3:], range(COPIES), seed=3)
    if not copies.module.shared:
        return seen
    # One copy to a forward pass: the draws of the passes lie behind one another.
    each = len(seen) // COPIES
    return [torch.cat(seen[draw::each]) for draw in range(each)]


@pytest.mark.parametrize("name", sorted({name for name, attention in KEYED if attention == "sdpa"}))
def test_keyed_attention_is_the_same_however_it_is_computed(name: str) -> None:
    """One key gives one mask in eager attention and in torch's: causal, grouped, crossed or padded."""
    sdpa, eager = (
        McDropoutStratified(zoo.checkpoint(name, attention), passes=3).predict(
            zoo.plan(zoo.checkpoint(name), budget=10_000), seed=3
        )
        for attention in ("sdpa", "eager")
    )
    np.testing.assert_allclose(sdpa.probs, eager.probs, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "reason"), WITHOUT_KEYS.items())
@pytest.mark.parametrize(
    ("method", "registered"),
    [
        (McDropoutBatch, "mc-dropout-batch"),
        (McDropoutStratified, "mc-dropout-stratified"),
        (McDropoutAdaptive, "mc-dropout-adaptive"),
    ],
)
def test_what_cannot_be_keyed_is_refused(method: Any, registered: str, name: str, reason: str) -> None:
    """In one sentence that names the method, and what works instead."""
    with pytest.raises(RefusedError, match=f"^{registered} .*{reason}.*; use .*[.]$") as caught:
        method(zoo.checkpoint(name))
    assert str(caught.value).count(". ") == 0
    assert "use mc-dropout." in str(caught.value) or name in WITHOUT_SEED


@pytest.mark.parametrize(("name", "reason"), WITHOUT_SEED.items())
@pytest.mark.parametrize(
    ("method", "registered"), [(McDropout, "mc-dropout"), (MomentPropagation, "moment-propagation")]
)
def test_what_no_seed_decides_is_refused(method: Any, registered: str, name: str, reason: str) -> None:
    """Nothing is drawn, or the model seeds the generator anew in each pass."""
    with pytest.raises(RefusedError, match=f"^{registered} .*{reason}.*; use .*[.]$"):
        method(zoo.checkpoint(name))


MOMENTS = [name for name in zoo.ZOO if WITHOUT_KEYS.get(name, AXIS) == AXIS]


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_are_predicted(name: str) -> None:
    """Of every architecture whose masks are not all keyed by text too, one text to a pass if need be."""
    checkpoint = zoo.checkpoint(name)
    before = disturbance(checkpoint.module)
    predictive = MomentPropagation(checkpoint).predict(zoo.plan(checkpoint, budget=10_000), seed=0)
    assert (predictive.scores["standard_deviation"] > 0).all()
    assert same(before, disturbance(checkpoint.module))


@pytest.mark.parametrize("name", ["bart, LayerDrop", "flaubert, LayerDrop", "opt, LayerDrop", "mixtral"])
def test_moments_are_refused(name: str) -> None:
    """What is no dropout has no moments."""
    with pytest.raises(RefusedError, match=rf"^moment-propagation .*{OTHERWISE}.*; use mc-dropout[.]$"):
        MomentPropagation(zoo.checkpoint(name))


SMALL = {"dropout": 0.02, "attention_dropout": 0.02, "summary_first_dropout": 0.02, "embed_init_std": 0.05}


@pytest.mark.parametrize("name", ["xlm", "flaubert"])
def test_moments_of_models_that_write_into_what_dropout_returns(name: str) -> None:
    """With p = 0.02 log-odds vary as over 600 passes: within 25%, averaged over 5 texts."""
    checkpoint = zoo.checkpoint(name, num_labels=2, **SMALL)
    with torch.no_grad():
        for value in checkpoint.module.parameters():
            value *= 0.5
    plan = zoo.plan(checkpoint, budget=10_000)
    samples = McDropout(checkpoint, passes=600).predict(plan, seed=2).samples
    assert samples is not None
    log_odds = np.log(samples[..., 0].astype(np.float64)) - np.log(samples[..., 1].astype(np.float64))
    (batch,) = plan.batches
    _, variance = MomentPropagation(checkpoint)._moments(batch.inputs)
    assert abs(np.log(variance[0] / log_odds.var(axis=0)[batch.index]).mean()) < np.log(1.25)
