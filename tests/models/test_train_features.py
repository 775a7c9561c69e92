"""Features of training texts, and the cache of these."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibench.errors import CalibenchError
from calibench.models import train_features as module
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.sharing import charges
from calibench.models.train_features import _BATCHES as BATCHES
from calibench.models.train_features import FOLDER_VARIABLE, TrainFeatures, cache_folder, train_features
from calibench.types import LabelledPlan
from scenarios import labelled
from tiny_models import plan_of, tiny_checkpoint


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Passes:
    """Forward passes made since the last look."""

    def __init__(self, module: nn.Module) -> None:
        self._count = 0
        module.register_forward_hook(self._one_more)

    def _one_more(self, *_: Any) -> None:
        self._count += 1

    def __call__(self) -> int:
        count, self._count = self._count, 0
        return count


def make(checkpoint: Checkpoint, train: LabelledPlan) -> tuple[TrainFeatures, float]:
    """The features, and the seconds that were charged."""
    with charges() as charged:
        found = train_features(checkpoint, Encoder(checkpoint), train)
    return found, charged.seconds


def stored(cache: Path) -> list[Path]:
    return sorted((cache / "features").iterdir())


# --- features ----------------------------------------------------------------------------------------------


def test_features_are_those_of_the_pass(cache: Path) -> None:
    """In the order of the plan, float32; the head makes the logits of them."""
    checkpoint = tiny_checkpoint(classes=3)
    train = labelled(checkpoint, 25)
    found, charged = make(checkpoint, train)
    head = Encoder(checkpoint).head.linear
    with torch.inference_mode():
        logits = head(torch.from_numpy(found.features)).numpy()
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    alone = plan_of(checkpoint, [train.plan.texts[17]])
    np.testing.assert_allclose(
        found.features[17], Encoder(checkpoint)(alone.batches[0]).features[0], atol=1e-5
    )
    assert found.features.dtype == found.logits.dtype == np.float32
    assert np.array_equal(found.labels, train.labels)
    assert charged == 0
    assert len(stored(cache)) == 1


def test_what_is_cached_is_charged(cache: Path) -> None:
    """A second use makes no pass, gives the same bits, and is charged what the first took."""
    checkpoint = tiny_checkpoint()
    passes, train = Passes(checkpoint.module), labelled(checkpoint, 25)
    start = time.perf_counter()
    first, _ = make(checkpoint, train)
    took = time.perf_counter() - start
    assert passes() == 1 + len(train.plan.batches)
    other = LabelledPlan(train.plan, 1 - train.labels)
    second, charged = make(checkpoint, other)
    assert passes() == 1  # the search for the head
    assert 0 < charged < took
    assert len(stored(cache)) == 1
    assert np.array_equal(first.features, second.features)
    assert np.array_equal(first.logits, second.logits)
    assert np.array_equal(second.labels, other.labels)


def test_what_another_run_has_made_is_timed_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By some batches, for all positions, less the time that took: that other run may have been slow."""
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    checkpoint = tiny_checkpoint()
    texts = list(labelled(checkpoint, 200).plan.texts)
    train = LabelledPlan(plan_of(checkpoint, texts, token_budget=30), np.zeros(len(texts), dtype=np.int64))
    batches = train.plan.batches
    assert len(batches) > 3 * BATCHES

    def later(slowness: float) -> Any:
        """A batch takes a second for each of its positions."""

        def hook(_: nn.Module, __: Any, inputs: dict[str, torch.Tensor], ___: Any) -> None:
            clock[0] += slowness * inputs["input_ids"].numel()

        return checkpoint.module.register_forward_hook(hook, with_kwargs=True)

    slow = later(1000.0)
    make(checkpoint, train)
    slow.remove()
    monkeypatch.setattr(module, "_known", {})  # as in another process
    now, encoder = later(1.0), Encoder(checkpoint)
    start, passes = clock[0], Passes(checkpoint.module)
    train_features(checkpoint, encoder, train)
    assert passes() == 0  # nobody counts
    with charges() as charged:
        train_features(checkpoint, encoder, train)
    positions = sum(batch.inputs["input_ids"].numel() for batch in batches)
    assert passes() == 1 + BATCHES
    assert clock[0] - start + charged.seconds == pytest.approx(positions)
    with charges() as again:
        train_features(checkpoint, encoder, train)
    now.remove()
    assert passes() == 0
    assert again.seconds == pytest.approx(positions)
    assert len(stored(cache)) == 1


def test_another_model_text_or_dtype_is_another_entry(cache: Path) -> None:
    """Weights, texts, their order, dtype and threads each have features of their own."""
    checkpoint = tiny_checkpoint()
    train = labelled(checkpoint, 6)
    make(checkpoint, train)
    make(tiny_checkpoint(hidden_dim=24), train)
    other = plan_of(checkpoint, list(train.plan.texts[::-1]), token_budget=1024)
    make(checkpoint, LabelledPlan(other, train.labels))
    make(replace(checkpoint, dtype=torch.bfloat16), train)
    assert len(stored(cache)) == 4
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        make(checkpoint, train)
    finally:
        torch.set_num_threads(threads)
    assert len(stored(cache)) == 5
    make(checkpoint, train)
    assert len(stored(cache)) == 5


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "array", "lacking"])
def test_a_damaged_entry_is_made_anew(damage: str, cache: Path) -> None:
    """A file cut off while it was written, or anything else in its place, costs the time and no more."""
    checkpoint = tiny_checkpoint()
    train = labelled(checkpoint, 6)
    first, _ = make(checkpoint, train)
    file = stored(cache)[0]
    whole = file.read_bytes()
    if damage == "array":
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "lacking":
        np.savez(file, features=first.features)
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"nothing"}[damage])
    again, charged = make(checkpoint, train)
    assert charged == 0
    assert np.array_equal(first.features, again.features)
    assert file.read_bytes()[:2] == b"PK"
    assert make(checkpoint, train)[1] > 0


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, cache: Path) -> None:
    """Where a file stands in the folder's place, the passes are made each time."""
    del tmp_path
    cache.write_text("in the way")
    checkpoint = tiny_checkpoint()
    passes, train = Passes(checkpoint.module), labelled(checkpoint, 6)
    for _ in range(2):
        _, charged = make(checkpoint, train)
        assert charged == 0
        assert passes() == 1 + len(train.plan.batches)


def test_the_cache_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, or with an empty one, it is in the platform's folder for caches."""
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert cache_folder().name == "calibench"
    monkeypatch.setenv(FOLDER_VARIABLE, "elsewhere")
    assert cache_folder() == Path("elsewhere")


def test_features_that_are_not_finite_name_the_row(cache: Path) -> None:
    """The first such row of the training split is named, from the cache as well."""
    del cache
    checkpoint = tiny_checkpoint()
    with torch.no_grad():
        checkpoint.module.get_input_embeddings().weight[4 + 1] = torch.nan  # "a"
    plan = plan_of(checkpoint, ["the film", "good plot", "a film", "a"], token_budget=1000)
    for _ in range(2):
        with pytest.raises(CalibenchError, match="not finite for row 102 of the training split"):
            make(checkpoint, LabelledPlan(plan, np.zeros(4, dtype=np.int64)))
