"""The loops of others: what they are given, and that their answers come back to the right texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibench.errors import RefusedError, UsageError
from calibench.registry import METHODS
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.peers import baal_trainer
from calibench_methods.peers.own_batches import length_order
from tiny_models import plan_of, sentences, tiny_checkpoint

#: Its own imports fail where torchvision was built for another torch, so that only trying tells.
TORCH_UNCERTAINTY = "torch-uncertainty"
PEERS = ("hf-pipeline-baal", "baal-wrapper", "baal-trainer")
LOOPS = [(name, {}) for name in PEERS] + [(name, {"replicate": True}) for name in PEERS[1:]]
LOOPS += [(TORCH_UNCERTAINTY, {"replicate": replicate}) for replicate in (True, False)]
#: Every site draws, and drops next to nothing: all passes are the deterministic one.
HARDLY = {"dropout": 1e-7, "attention_dropout": 1e-7, "seq_classif_dropout": 1e-7}


def peer(name: str, *args: Any, **params: Any) -> Any:
    """The method, or a skip where torch-uncertainty is not there."""
    try:
        return METHODS.load(name)(*args, **params)
    except RefusedError as error:
        if name != TORCH_UNCERTAINTY:
            raise
        return pytest.skip(str(error))


@pytest.mark.parametrize("order", ["dataset", "sorted"])
@pytest.mark.parametrize(("name", "params"), LOOPS)
def test_answers_come_back_to_their_texts(
    name: str, params: dict[str, Any], order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either order, in batches of three: the deterministic probabilities; and no file is written."""
    monkeypatch.chdir(tmp_path)
    checkpoint = tiny_checkpoint("distilbert", classes=3, **HARDLY)
    plan = plan_of(checkpoint, [*sentences(11)])
    method = peer(name, checkpoint, passes=2, batch_size=3, order=order, **params)
    found = method.predict(plan, seed=1)
    expected = Frequentist(checkpoint).predict(plan, seed=1)
    np.testing.assert_allclose(found.probs, expected.probs, rtol=0, atol=1e-5)
    assert len(np.unique(expected.probs.round(4), axis=0)) > 5
    assert found.samples is not None
    assert found.samples.shape == (2, 11, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*PEERS, TORCH_UNCERTAINTY])
def test_bfloat16_rounds_and_no_more(name: str) -> None:
    """Within .05 of float32, and not equal to it."""
    checkpoint = tiny_checkpoint("distilbert", **HARDLY)
    plan = plan_of(checkpoint, [*sentences(6)])
    full, half = (
        peer(name, checkpoint, passes=1, dtype=dtype).predict(plan, seed=1).probs
        for dtype in ("same", "bfloat16")
    )
    np.testing.assert_allclose(half, full, rtol=0, atol=0.05)
    assert not np.allclose(half, full, rtol=0, atol=1e-7)


def test_sorted_means_by_length() -> None:
    """Of a text, or of both texts of a pair."""
    assert length_order(["ccc", "a", "bb"]).tolist() == [1, 2, 0]
    assert length_order([("aa", "bb"), ("c", "d")]).tolist() == [1, 0]


@pytest.mark.parametrize("name", [*PEERS, TORCH_UNCERTAINTY])
def test_an_order_that_is_none_is_refused(name: str) -> None:
    """With the choices."""
    with pytest.raises(UsageError, match="choose dataset or sorted"):
        METHODS.load(name)(tiny_checkpoint("distilbert"), order="random")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the line that installs it."""
    monkeypatch.setattr(baal_trainer, "find_spec", lambda _: None)
    with pytest.raises(RefusedError, match=r'pip install "calibench\[peers\]"'):
        METHODS.load("baal-trainer")(tiny_checkpoint("distilbert"))


def test_torch_uncertainty_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the line that installs it."""
    monkeypatch.setitem(sys.modules, "torch_uncertainty", None)
    monkeypatch.setitem(sys.modules, "torch_uncertainty.methods", None)
    with pytest.raises(RefusedError, match=r'pip install "calibench\[torch-uncertainty\]"'):
        METHODS.load(TORCH_UNCERTAINTY)(tiny_checkpoint("distilbert"))


def test_torch_uncertainty_reaches_dropout_modules_and_no_attention() -> None:
    """Of a DistilBERT's sites, those that are modules."""
    coverage = peer(TORCH_UNCERTAINTY, tiny_checkpoint("distilbert")).coverage
    assert {site.kind for site in coverage.sites if site.active} == {"hidden"}
    assert {site.kind for site in coverage.sites if not site.active} == {"attention"}
