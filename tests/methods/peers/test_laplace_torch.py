"""laplace-torch beside `laplace-last`: two implementations of one posterior, each driven its own way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.types import FloatArray
from calibench_methods.one_pass.laplace_last import LaplaceLast
from calibench_methods.peers.laplace_torch import LaplaceTorch
from scenarios import PRESENT, labelled
from tiny_models import plan_of, sentences, tiny_checkpoint

needs_laplace = pytest.mark.skipif("laplace-torch" not in PRESENT, reason="no laplace-torch that imports")


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads another's features: the tiny checkpoints all say that they have the same hash."""
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path))


def model(*, biased: bool) -> Checkpoint:
    """Of three classes, sure enough that the posterior's width shows."""
    checkpoint = tiny_checkpoint(classes=3)
    with torch.no_grad():
        checkpoint.module.classifier.weight *= 40
    if not biased:
        checkpoint.module.classifier.bias = None
    return checkpoint


def said(kind: type[Any], checkpoint: Checkpoint, seed: int = 0, **params: Any) -> FloatArray:
    """Probabilities of eleven texts by a method fitted on others."""
    method = kind(checkpoint, **params)
    method.fit(labelled(checkpoint))
    probs: FloatArray = method.predict(plan_of(checkpoint, [*sentences(11)]), seed=seed).probs
    return probs


@needs_laplace
@pytest.mark.parametrize(
    ("structure", "biased"),
    [("full", True), ("full", False), ("diag", True), ("diag", False), ("kron", False)],
)
def test_both_say_the_same_at_one_prior_precision(structure: str, biased: bool) -> None:
    """Within float32; the texts' posterior moves what the softmax says by far more."""
    checkpoint = model(biased=biased)
    theirs = said(LaplaceTorch, checkpoint, structure=structure)
    ours = said(LaplaceLast, checkpoint, structure=structure, prior_precision=1.0)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=2e-5)
    certain = said(LaplaceLast, checkpoint, structure=structure, prior_precision=1e16)
    assert np.abs(certain - ours).max() > 0.01


@needs_laplace
def test_in_kron_its_bias_stands_alone() -> None:
    """Which ours does not: near each other, and not the same."""
    checkpoint = model(biased=True)
    theirs = said(LaplaceTorch, checkpoint)
    ours = said(LaplaceLast, checkpoint, prior_precision=1.0)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=0.02)
    assert np.abs(theirs - ours).max() > 1e-4


@needs_laplace
def test_both_find_the_same_evidence() -> None:
    """At what its tuning ends with; ours has found no less, and both have left where they began."""
    checkpoint = model(biased=False)

    def learnt(kind: type[Any], **params: Any) -> tuple[float, float]:
        method = kind(checkpoint, **params)
        method.fit(labelled(checkpoint))
        return method.learnt["prior_precision"], method.learnt["log_marginal_likelihood"]

    precision, found = learnt(LaplaceTorch, prior="marglik")
    assert learnt(LaplaceLast, prior_precision=precision)[1] == pytest.approx(found, rel=1e-5)
    start = learnt(LaplaceTorch)[1]
    assert start < found < learnt(LaplaceLast, prior="evidence")[1] + 1e-3


@needs_laplace
def test_draws_go_by_the_seed_and_agree_with_ours() -> None:
    """The same bits from one seed, others from another; on average over texts what ours draws says."""
    checkpoint = model(biased=False)
    first, again, other = (said(LaplaceTorch, checkpoint, seed, link_approx="mc") for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    ours = said(LaplaceLast, checkpoint, predictive="sampled", samples=2000, prior_precision=1.0)
    assert np.abs(first - ours).mean() < 0.03


@needs_laplace
def test_answers_come_back_to_their_texts() -> None:
    """In either order, in batches of three."""
    checkpoint = model(biased=True)
    found = [said(LaplaceTorch, checkpoint, order=order, batch_size=3) for order in ("dataset", "sorted")]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)
    assert len(np.unique(found[0].round(4), axis=0)) > 5


@needs_laplace
def test_unfitted_is_an_error() -> None:
    """Before `fit` there is nothing learnt, and predicting says what to do."""
    checkpoint = tiny_checkpoint()
    method = LaplaceTorch(checkpoint)
    assert method.learnt == {}
    with pytest.raises(UsageError, match="call fit before predict"):
        method.predict(plan_of(checkpoint, ["good"]), seed=0)


@needs_laplace
def test_full_of_many_classes_is_refused() -> None:
    """With its size."""
    with pytest.raises(RefusedError, match=r"matrix of 5100 x 5100.*use structure=kron"):
        LaplaceTorch(tiny_checkpoint(classes=300), structure="full")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"structure": "block"}, "structure is 'block': choose kron, full, diag"),
        ({"prior": "wide"}, "prior is 'wide': choose default, marglik"),
        ({"link_approx": "bridge"}, "link_approx is 'bridge': choose probit, mc"),
        ({"order": "random"}, "choose dataset or sorted"),
    ],
)
def test_parameters_out_of_range(params: dict[str, Any], message: str) -> None:
    """Before laplace-torch is asked for."""
    with pytest.raises(UsageError, match=message):
        LaplaceTorch(tiny_checkpoint(), **params)


def test_it_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the line that installs it."""
    monkeypatch.setitem(sys.modules, "laplace", None)
    with pytest.raises(RefusedError, match=r'pip install "calibench\[laplace\]"'):
        LaplaceTorch(tiny_checkpoint())
