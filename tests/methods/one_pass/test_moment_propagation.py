"""Moments of MC-Dropout without sampling: exact where they must be, close to many passes elsewhere."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.errors import RefusedError, UsageError
from calibench.types import FloatArray
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.one_pass.moment_propagation import MomentPropagation, sigmoid_moments
from scenarios import UNITS, EnumerableModel, Known, P, enumerable
from tiny_models import plan_of, sentences, tiny_checkpoint


def enumerated(known: Known) -> FloatArray:
    """Logits over all 64 masks of an enumerable model, [64, B, C], of its first batch."""
    model, batch = known.checkpoint.module, known.plan.batches[0]
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=UNITS)))
    with torch.no_grad():
        features = model.features(**batch.inputs)
        return model.classifier(masks[:, None] * features / (1 - P)).double().numpy()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_variance_is_exact_for_a_linear_model(classes: int, shared: bool) -> None:
    """Where logits are linear in the masks, the variances are those over all 64 masks, to float32.

    Three classes: of the probe's direction, which two of them span.
    """
    known = enumerable(classes, shared=shared)
    logits = enumerated(known)
    weights = np.array(
        [np.prod([1 - P if m else P for m in mask]) for mask in itertools.product([0, 1], repeat=6)]
    )
    method = MomentPropagation(known.checkpoint)
    for position in range(len(known.plan.batches[0])):
        one = {name: value[position : position + 1] for name, value in known.plan.batches[0].inputs.items()}
        centre, variance = method._moments(one)
        if classes == 2:
            direction = np.array([1.0, -1.0])
        else:
            order = centre[0].numpy().argsort()[::-1]
            q = special.softmax(centre[0].numpy()[order[1:]])
            direction = np.zeros(3)
            direction[order[1:]] = np.sqrt(q) * [1, -1] - q * (np.sqrt(q) * [1, -1]).sum()
        values = logits[:, position] @ direction
        exact = weights @ (values - weights @ values) ** 2
        assert variance[0 if classes == 2 else 1, 0] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_known_answer(shared: bool) -> None:
    """Six units are few for a normal law, but means are within 0.05 of the enumerated ones, spreads 0.06."""
    known = enumerable(2, shared=shared)
    predictive = MomentPropagation(known.checkpoint).predict(known.plan, seed=0)
    deterministic = Frequentist(known.checkpoint).predict(known.plan, seed=0).probs
    error = np.abs(predictive.probs - known.mean).max()
    assert error < 0.05
    assert error < np.abs(deterministic - known.mean).max() / 2
    deviation = predictive.scores["standard_deviation"]
    assert np.abs(deviation - known.deviation[:, 0]).max() < 0.06


class WritingModel(EnumerableModel):
    """Writes into what its dropout returns, and into what it was given."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        features = self.features(input_ids, attention_mask)
        dropped = self.dropout(features)
        features *= 7
        dropped += 5
        dropped *= 2
        return SequenceClassifierOutput(logits=self.classifier(dropped))


def test_variance_is_exact_where_the_model_writes_into_what_dropout_returns() -> None:
    """Adding a constant leaves the variance, doubling makes it four times that of the same model without."""
    known = enumerable(2)
    writing = WritingModel(known.checkpoint.module.config).eval()
    writing.load_state_dict(known.checkpoint.module.state_dict())
    method = MomentPropagation(replace(known.checkpoint, module=writing))
    plain = MomentPropagation(known.checkpoint)
    for batch in known.plan.batches:
        expected = plain._moments(batch.inputs)[1]
        np.testing.assert_allclose(method._moments(batch.inputs)[1], 4 * expected, rtol=1e-5)


LIMIT = {
    ("distilbert", "sdpa"): ("dropout", "attention_dropout", "seq_classif_dropout"),
    ("electra", "eager"): ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    ("deberta-v2", "eager"): ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout"),
}


@pytest.mark.parametrize(("architecture", "attention"), LIMIT)
def test_small_dropout_agrees_with_passes(architecture: str, attention: str) -> None:
    """With p = 0.02 and small weights, log-odds vary as over 300 passes: within 25%, averaged over 6 texts.

    A text's variance over passes is known to 15% or so, from few dropped units.
    """
    small = dict.fromkeys(LIMIT[architecture, attention], 0.02)
    checkpoint = tiny_checkpoint(architecture, attention, initializer_range=0.1, **small)
    plan = plan_of(checkpoint, [*sentences(6)], token_budget=1000)
    samples = McDropout(checkpoint, passes=300).predict(plan, seed=2).samples
    assert samples is not None
    sampled = special.logit(samples[..., 0].astype(np.float64)).var(axis=0)
    method = MomentPropagation(checkpoint)
    batch = plan.batches[0]
    first_order = np.empty(len(plan))
    for position, index in enumerate(batch.index):
        one = {name: value[position : position + 1] for name, value in batch.inputs.items()}
        first_order[index] = method._moments(one)[1][0, 0]
    assert abs(np.log(first_order / sampled).mean()) < np.log(1.25)


def test_many_classes_share_what_noise_gives_them() -> None:
    """With 30 classes and one dropout of p = 0.2, the error of the top class is below half that without."""
    off = {"dropout": 0.0, "attention_dropout": 0.0}
    checkpoint = tiny_checkpoint(classes=30, seq_classif_dropout=0.2, **off)
    plan = plan_of(checkpoint, [*sentences(8)], token_budget=1000)
    deterministic = Frequentist(checkpoint).predict(plan, seed=0).probs
    top = np.arange(8), deterministic.argmax(axis=1)
    mean = McDropout(checkpoint, passes=300).predict(plan, seed=1).probs[top]
    moments = MomentPropagation(checkpoint).predict(plan, seed=0).probs[top]
    assert np.square(moments - mean).sum() < np.square(deterministic[top] - mean).sum() / 4


def test_neither_seed_nor_plan_matter() -> None:
    """The seed has no effect, and another plan or a tiny budget changes float32 rounding only."""
    checkpoint = tiny_checkpoint(classes=4)
    texts = [*sentences(9)]
    method = MomentPropagation(checkpoint)
    first = method.predict(plan_of(checkpoint, texts), seed=1)
    assert np.array_equal(first.probs, method.predict(plan_of(checkpoint, texts), seed=2).probs)
    apart = method.predict(plan_of(checkpoint, texts, token_budget=1), seed=1)
    np.testing.assert_allclose(first.probs, apart.probs, rtol=0, atol=1e-5)
    assert (first.passes == 1).all()


def test_budget_bounds_the_texts_of_a_pass() -> None:
    """A budget of a few texts' worth splits a batch, and the measured need keeps it within the budget."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, ["the film was good"] * 200, token_budget=10_000)
    method = MomentPropagation(checkpoint, memory_budget_mb=1)
    seen: list[int] = []
    method.modules[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    method.predict(plan, seed=0)
    assert sum(seen[1:]) == 200
    assert 1 < max(seen) < 200
    assert max(seen) * 6 * method._bytes_per_position <= 2**20


def test_sigmoid_moments() -> None:
    """Quadrature agrees with numerical integration to 2e-3 in mean and deviation, up to a deviation of 6."""
    mean, deviation = (grid.ravel() for grid in np.meshgrid([-5.0, 0.0, 1.0, 8.0], [0.0, 0.5, 2.0, 6.0]))
    expected, spread = sigmoid_moments(mean, deviation**2)
    for m, s, e, d in zip(mean, deviation, expected, spread, strict=True):
        if s == 0:
            assert (e, d) == (pytest.approx(special.expit(m)), pytest.approx(0, abs=1e-12))
            continue
        first, second = (
            integrate.quad(lambda z, k=k, m=m, s=s: special.expit(m + s * z) ** k * stats.norm.pdf(z), -9, 9)[
                0
            ]
            for k in (1, 2)
        )
        assert e == pytest.approx(first, abs=2e-3)
        assert d == pytest.approx(np.sqrt(second - first**2), abs=2e-3)


def test_certain_predictions_stay_distributions() -> None:
    """Logits so far apart that every probability but one is 0 still give rows that sum to 1."""
    checkpoint = tiny_checkpoint(classes=3)
    with torch.no_grad():
        checkpoint.module.classifier.bias[1] = 1e4
    predictive = MomentPropagation(checkpoint).predict(plan_of(checkpoint, [*sentences(3)]), seed=0)
    np.testing.assert_allclose(predictive.probs, np.tile([0.0, 1.0, 0.0], (3, 1)), atol=1e-12)


def test_refusals() -> None:
    """No dropout is refused, naming the model, and so is a budget of nothing."""
    with pytest.raises(RefusedError, match="deterministic on tiny-ModernBert"):
        MomentPropagation(tiny_checkpoint("modernbert"))
    with pytest.raises(UsageError, match="memory_budget_mb is 0, but must be at least 1"):
        MomentPropagation(tiny_checkpoint(), memory_budget_mb=0)
