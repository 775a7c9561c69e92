"""MC-Dropout in the head alone: one encoder pass, the law of every head pass, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.sharing import charges, sharing
from calibench.types import FloatArray, Plan
from calibench_methods.dropout import mc_dropout_last
from calibench_methods.dropout.mc_dropout_last import McDropoutLast
from calibench_methods.sampling.live import seeded
from scenarios import disturbance, enumerable, same
from tiny_models import plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")
#: Sites behind the encoder, of all: RoBERTa's and ELECTRA's one module is called twice.
SITES = {"distilbert": (1, 6), "bert": (1, 8), "roberta": (1, 8), "electra": (1, 8), "deberta-v2": (2, 12)}
#: A head that averages over tokens, which copies of the first token cannot stand for.
AVERAGING: dict[str, Any] = {"classifier_pooling": "mean", "classifier_dropout": 0.3}


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """One thread: models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_head(checkpoint: Checkpoint, plan: Plan, passes: int, seed: int) -> FloatArray:
    """Softmax [T, N, C] of a loop with the encoder in eval mode and all the rest under `train()`."""
    twin = checkpoint.twin().train()
    twin.base_model.eval()
    samples = np.empty((passes, len(plan), len(checkpoint.labels)))
    with torch.no_grad(), seeded(seed, CPU):
        for batch in plan.batches:
            for sample in samples:
                sample[batch.index] = twin(**batch.inputs).logits.double().softmax(dim=-1).numpy()
    return samples


@pytest.mark.parametrize("architecture", SITES)
def test_copies_have_the_law_of_a_head_in_training(architecture: str) -> None:
    """Per text, copies and a loop under `train()` pass a two-sample Kolmogorov-Smirnov test.

    Rounded, because behind a ReLU a text has few values and the two compute them with other last bits.
    False alarms: 4 texts tested at 1e-5 each, below 1e-4 per architecture.
    """
    checkpoint = tiny_checkpoint(architecture, "eager")
    plan = plan_of(checkpoint, [*sentences(4)], token_budget=1000)
    method = McDropoutLast(checkpoint, passes=250)
    samples = method.predict(plan, seed=2).samples
    loop = train_head(checkpoint, plan, 250, seed=1)
    assert samples is not None
    for example in range(len(plan)):
        first, second = loop[:, example, 0].round(5), samples[:, example, 0].astype(np.float64).round(5)
        assert first.std() > 1e-3
        assert stats.ks_2samp(first, second).pvalue > 1e-5


@pytest.mark.parametrize("architecture", SITES)
def test_coverage_counts_the_sites_behind_the_encoder(architecture: str) -> None:
    """What is live is what draws outside the encoder, measured, of all that draws in training."""
    method = McDropoutLast(tiny_checkpoint(architecture, "eager"))
    assert method.coverage is not None
    assert (method.coverage.active, method.coverage.expected) == SITES[architecture]


def test_passes_and_texts_are_independent() -> None:
    """Copies in one call share no mask: correlations between passes and between texts are those of chance.

    False alarms: 15 + 18 correlations within 5 / sqrt(2000), below 1e-4.
    """
    checkpoint = tiny_checkpoint()
    samples = (
        McDropoutLast(checkpoint, passes=2000).predict(plan_of(checkpoint, [*sentences(6)]), seed=9).samples
    )
    assert samples is not None
    series = samples[:, :, 0].astype(np.float64)
    series = (series - series.mean(axis=0)) / series.std(axis=0)
    bound = 5 / np.sqrt(2000)
    for lag in (1, 2, 3):
        assert np.abs((series[lag:] * series[:-lag]).mean(axis=0)).max() < bound
    between = series.T @ series / 2000
    assert np.abs(between[~np.eye(6, dtype=bool)]).max() < bound


def test_head_that_reads_all_tokens_is_bit_identical_to_train() -> None:
    """A head that averages over tokens runs in a loop: the very bits of a head under `train()`."""
    checkpoint = tiny_checkpoint("modernbert", **AVERAGING)
    plan = plan_of(checkpoint, [*sentences(9)])
    predictive = McDropoutLast(checkpoint, passes=4).predict(plan, seed=5)
    assert np.array_equal(predictive.probs, train_head(checkpoint, plan, 4, seed=5).mean(axis=0))


class SharedMask(nn.Dropout):
    """Dropout with one mask for all rows of a call."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * nn.functional.dropout(torch.ones_like(values[0]), self.p, self.training)


def test_mask_without_batch_axis_is_bit_identical_to_train() -> None:
    """Copies in one call would share such a mask, so passes run in a loop: the bits of a head in training."""
    checkpoint = tiny_checkpoint()
    checkpoint.module.dropout = SharedMask(0.3)
    checkpoint.module.eval()
    plan = plan_of(checkpoint, [*sentences(5)])
    predictive = McDropoutLast(checkpoint, passes=4).predict(plan, seed=5)
    assert np.array_equal(predictive.probs, train_head(checkpoint, plan, 4, seed=5).mean(axis=0))


def test_chunks_are_cut_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """T that does not divide by a chunk still gives T passes, in calls of no more rows than allowed."""
    monkeypatch.setattr(mc_dropout_last, "MOST_ROWS", 12)
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)], token_budget=1000)
    method = McDropoutLast(checkpoint, passes=7)
    rows: list[int] = []
    head = method.modules[1].get_submodule("classifier")
    head.register_forward_hook(lambda _, __, output: rows.append(len(output)))
    samples = method.predict(plan, seed=3).samples
    assert rows == [10, 10, 10, 5]
    assert samples is not None
    assert len(np.unique(samples[:, :, 0], axis=0)) == 7


def test_encoder_runs_once_and_is_shared() -> None:
    """One encoder pass per batch, none where another method has made it, and then its time is charged."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(9)])
    method = McDropoutLast(checkpoint)
    calls: list[int] = []
    checkpoint.module.base_model.register_forward_hook(lambda *_: calls.append(1))
    alone = method.predict(plan, seed=3)
    assert len(calls) == len(plan.batches)
    encoder = Encoder(checkpoint)
    calls.clear()
    with sharing(), charges() as charged:
        for batch in plan.batches:
            encoder(batch)
        assert np.array_equal(method.predict(plan, seed=3).probs, alone.probs)
    assert len(calls) == len(plan.batches)
    assert charged.seconds > 0


@pytest.mark.parametrize("architecture", ["distilbert", "modernbert"])
def test_checkpoint_is_left_alone(architecture: str) -> None:
    """The caller's model and generator are bit for bit as before, for a head of copies and for a loop."""
    checkpoint = tiny_checkpoint(architecture, **(AVERAGING if architecture == "modernbert" else {}))
    before, state = disturbance(checkpoint.module), torch.get_rng_state()
    McDropoutLast(checkpoint).predict(plan_of(checkpoint, [*sentences(5)]), seed=3)
    assert same(before, disturbance(checkpoint.module))
    assert torch.equal(state, torch.get_rng_state())


def test_samples_can_be_left_out() -> None:
    """Without samples, probabilities and standard errors are the same bits."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    kept = McDropoutLast(checkpoint).predict(plan, seed=3)
    lean = McDropoutLast(checkpoint, keep_samples=False).predict(plan, seed=3)
    assert lean.samples is None
    assert np.array_equal(kept.probs, lean.probs)
    assert np.array_equal(kept.standard_error, lean.standard_error)


def test_what_is_refused() -> None:
    """No passes, no dropout, none in the head and no encoder are each refused in a sentence that says so."""
    with pytest.raises(UsageError, match=r"passes is 0, but must be at least 1"):
        McDropoutLast(tiny_checkpoint(), passes=0)
    with pytest.raises(RefusedError, match="deterministic on tiny-ModernBert"):
        McDropoutLast(tiny_checkpoint("modernbert"))
    with pytest.raises(RefusedError, match=r"head of tiny-DistilBert.* has no dropout"):
        McDropoutLast(tiny_checkpoint(seq_classif_dropout=0.0))
    with pytest.raises(RefusedError, match="no encoder apart from its head"):
        McDropoutLast(enumerable().checkpoint)


# peft 0.21 asks for an attribute that transformers 5.23 has renamed.
@pytest.mark.parametrize("rank", [0, 4])
def test_the_head_of_an_adapted_model_reads_the_text(rank: int) -> None:
    """Behind a LoRA adapter too, passes are those of the head under `train()` on what the encoder returned.

    An adapter's encoder lies deeper than its model says; a rank of 0 stands for no adapter.
    """
    peft = pytest.importorskip("peft", reason="peft is not installed")
    checkpoint = tiny_checkpoint("roberta", classes=3)
    plan = plan_of(checkpoint, sentences(6), token_budget=1000)
    encoder = checkpoint.module.roberta
    if rank:
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=rank, lora_dropout=0.3, target_modules=["query"], init_lora_weights=False
        )
        with torch.random.fork_rng(devices=[]):
            adapted = peft.get_peft_model(checkpoint.module, config).eval()
        checkpoint, encoder = replace(checkpoint, module=adapted), adapted.base_model.model.roberta
    predictive = McDropoutLast(checkpoint, passes=400).predict(plan, seed=2)
    (batch,) = plan.batches
    train = checkpoint.twin().train()
    (name,) = (name for name, child in checkpoint.module.named_modules() if child is encoder)
    train.get_submodule(name).eval()
    with torch.no_grad(), seeded(5, CPU):
        samples = np.stack([train(**batch.inputs).logits.softmax(dim=-1).numpy() for _ in range(400)])
    assert predictive.samples is not None
    found = predictive.samples[:, batch.index]
    error = np.sqrt((found.var(axis=0) + samples.var(axis=0)) / 400)
    # 12 free means at 5 standard errors: false alarms below 1e-5.
    assert (np.abs(found.mean(axis=0) - samples.mean(axis=0)) < 5 * error).all()
    assert (samples.mean(axis=0).max(axis=0) - samples.mean(axis=0).min(axis=0)).max() > 10 * error.max()


@pytest.mark.parametrize(("wrong", "reason"), [("error", r"fails .no past"), ("other", "gives other logits")])
def test_a_head_that_does_not_run_by_itself_is_refused(wrong: str, reason: str) -> None:
    """A model that asks its encoder for more than its output, as prefix tuning does, is noticed when made."""

    class Asking(nn.Module):
        """Adds to the model what it finds out about the encoder."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.base_model_prefix = "distilbert"
            self.distilbert = inner.distilbert

        def forward(self, **inputs: torch.Tensor) -> object:
            if hasattr(self.inner.distilbert, "config"):
                return self.inner(**inputs)
            if wrong == "error":
                raise ValueError("no past")
            output = self.inner(**inputs)
            output.logits = output.logits + 1
            return output

    checkpoint = tiny_checkpoint()
    asking = replace(checkpoint, module=Asking(checkpoint.module).eval())
    with pytest.raises(RefusedError, match=f"^mc-dropout-last .*{reason}.*; use mc-dropout or"):
        McDropoutLast(asking)
