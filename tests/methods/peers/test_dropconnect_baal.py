"""DropConnect: the trained weights are there, and each is dropped with the law that is stated."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from calibench.errors import CalibenchError, RefusedError, UsageError
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.peers.dropconnect_baal import DropConnectBaal, drop_weights, load_weight_drop
from calibench_methods.sampling.live import seeded
from scenarios import enumerable
from tiny_models import plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")


def test_weights_are_the_trained_ones() -> None:
    """The patched twin holds the very parameters of the checkpoint, also where a layer has no bias."""
    checkpoint = tiny_checkpoint("modernbert")
    method = DropConnectBaal(checkpoint)
    assert any(child.bias is None for child in checkpoint.module.modules() if isinstance(child, nn.Linear))
    patched = dict(method._module.named_parameters())
    assert patched.keys() == dict(checkpoint.module.named_parameters()).keys()
    assert all(patched[name] is value for name, value in checkpoint.module.named_parameters())


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_law_of_one_weight(p: float) -> None:
    """Each weight is 0 with probability p, else itself over 1 - p, independently within and between passes.

    False alarms: 20 frequencies and 380 products within 5 standard errors, below 1e-3 in all.
    """
    passes = 2000
    model = nn.Sequential(nn.Linear(5, 4))
    original = model[0].weight.detach().clone()
    assert drop_weights(model, p) == 1
    with torch.inference_mode(), seeded(3, CPU):
        bias = model[0].bias
        rows = torch.stack([(model(torch.eye(5)) - bias).T for _ in range(passes)])
    kept = rows != 0
    torch.testing.assert_close(rows, kept * original / (1 - p))
    dropped = (~kept).double().flatten(1).numpy()
    error = np.sqrt(p * (1 - p) / passes)
    assert np.abs(dropped.mean(axis=0) - p).max() < 5 * error
    centred = (dropped - p) / np.sqrt(p * (1 - p))
    between = centred.T @ centred / passes
    assert np.abs(between[~np.eye(20, dtype=bool)]).max() < 5 / np.sqrt(passes)
    assert np.abs((centred[1:] * centred[:-1]).mean(axis=0)).max() < 5 / np.sqrt(passes)


def test_mean_of_a_linear_model_is_the_deterministic_one() -> None:
    """Logits that are linear in the dropped weights have the deterministic ones as their mean.

    False alarms: 24 means within 5 standard errors, below 1e-4.
    """
    known = enumerable()
    module, batch = known.checkpoint.twin(), known.plan.batches[0]
    expected = module(**batch.inputs).logits.detach()
    assert drop_weights(module, 0.3) == 1
    with torch.inference_mode(), seeded(4, CPU):
        logits = torch.stack([module(**batch.inputs).logits for _ in range(2000)])
    assert ((logits.mean(dim=0) - expected).abs() < 5 * logits.std(dim=0) / np.sqrt(2000)).all()


def test_texts_of_a_pass_share_the_mask_and_passes_do_not() -> None:
    """Equal texts in one batch agree in each pass, and passes differ; in batches of one, texts differ too."""
    checkpoint = tiny_checkpoint()
    together = DropConnectBaal(checkpoint, passes=6).predict(
        plan_of(checkpoint, ["good film"] * 3, token_budget=1000), seed=1
    )
    assert together.samples is not None
    np.testing.assert_allclose(together.samples, together.samples[:, :1].repeat(3, axis=1), atol=1e-6)
    assert len(np.unique(together.samples[:, 0, 0])) == 6
    apart = DropConnectBaal(checkpoint, passes=6).predict(
        plan_of(checkpoint, ["good film"] * 3, token_budget=1), seed=1
    )
    assert apart.samples is not None
    assert len(np.unique(apart.samples[..., 0])) == 18


def test_law_does_not_depend_on_the_plan() -> None:
    """Means under two batch plans and seeds agree within their standard errors.

    False alarms: 5 differences within 5 standard errors, below 1e-5.
    """
    checkpoint = tiny_checkpoint()
    method = DropConnectBaal(checkpoint, passes=100)
    a = method.predict(plan_of(checkpoint, [*sentences(5)], token_budget=1), seed=1)
    b = method.predict(plan_of(checkpoint, [*sentences(5)], token_budget=1000), seed=2)
    assert a.standard_error is not None
    assert b.standard_error is not None
    error = np.sqrt(a.standard_error**2 + b.standard_error**2)
    assert (np.abs(a.probs - b.probs)[:, 0] < 5 * error).all()
    assert (a.probs != b.probs).all()


def test_layers_are_chosen_by_name() -> None:
    """Only layers whose name holds one of the parts are patched; the rest is what it was."""
    checkpoint = tiny_checkpoint()
    method = DropConnectBaal(checkpoint, layers=("ffn", "classifier"))
    kind = load_weight_drop()
    patched = {name for name, child in method._module.named_modules() if isinstance(child, kind)}
    linear = {name for name, child in checkpoint.module.named_modules() if type(child) is nn.Linear}
    assert patched == {name for name in linear if "ffn" in name or "classifier" in name}
    assert 0 < len(patched) < len(linear)


def test_a_layer_in_two_places_stays_one() -> None:
    """A shared layer is replaced once, in both places."""
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert drop_weights(model, 0.1) == 1
    assert model[0] is model[2]
    assert isinstance(model[0], load_weight_drop())


def test_few_dropped_weights_approach_the_deterministic_pass() -> None:
    """With p near 0 the prediction is that of the trained model: nothing else was changed."""
    checkpoint = tiny_checkpoint(classes=5)
    plan = plan_of(checkpoint, [*sentences(9)])
    expected = Frequentist(checkpoint).predict(plan, seed=0).probs
    actual = DropConnectBaal(checkpoint, p=1e-9, passes=2).predict(plan, seed=0).probs
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
def test_p_out_of_range_is_refused(p: float) -> None:
    """Dropping no weight, or all of them, is a usage error that names the value."""
    with pytest.raises(UsageError, match=rf"p is {p}, but must be above 0"):
        DropConnectBaal(tiny_checkpoint(), p=p)


def test_no_layer_and_no_pass_are_refused() -> None:
    """A name that no layer has is refused, and so is less than one pass."""
    with pytest.raises(RefusedError, match="no linear layer whose name holds 'conv'"):
        DropConnectBaal(tiny_checkpoint(), layers=("conv",))
    with pytest.raises(UsageError, match="passes is 0, but must be at least 1"):
        DropConnectBaal(tiny_checkpoint(), passes=0)


def test_missing_baal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without BaaL the error holds the exact pip line."""
    monkeypatch.setitem(sys.modules, "baal.bayesian.weight_drop", None)
    with pytest.raises(CalibenchError, match=r'run: pip install "baal>=2\.0"'):
        DropConnectBaal(tiny_checkpoint())
