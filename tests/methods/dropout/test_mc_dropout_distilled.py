"""The distilled last layer: the minimum of its loss, against scikit-learn, against 64 masks, the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from calibench.errors import RefusedError, UsageError
from calibench.types import FloatArray, LabelledPlan
from calibench_methods.dropout.mc_dropout_distilled import (
    CAP,
    FEWEST,
    STRENGTHS,
    Distilled,
    Fit,
    McDropoutDistilled,
    distil,
    folds,
    nearest_sharpness,
)
from calibench_methods.one_pass.frequentist import Frequentist
from scenarios import enumerable, labelled
from tiny_models import plan_of, sentences, tiny_checkpoint

N, P, C = 40, 5, 3


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """One thread: models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads another's features: the tiny checkpoints all say that they have the same hash."""
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path))


def problem(count: int = N, seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features with the 1 of the bias [N, P], logits [N, C], and a teacher that is another layer of them."""
    rng = np.random.default_rng(seed)
    phi = np.hstack([rng.normal(size=(count, P - 1)) * [3, 1, 0.3, 0.1], np.ones((count, 1))])
    layers = np.random.default_rng(1).normal(size=(2, C, P))
    return phi, phi @ layers[0].T, softmax(phi @ layers[1].T, axis=1)


def fitted(strength: float = 0.0, *, teacher_passes: int = 10, teacher_seed: int = 0) -> McDropoutDistilled:
    checkpoint = tiny_checkpoint(classes=3)
    method = McDropoutDistilled(
        checkpoint, teacher_passes=teacher_passes, strength=strength, teacher_seed=teacher_seed
    )
    method.fit(labelled(checkpoint))
    return method


@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_gradient_is_zero_at_the_minimum(strength: float) -> None:
    """The gradient is that of the loss by finite differences, and vanishes where the fit ends."""
    fit = Fit(*problem())
    at = np.cos(np.arange(C * P)).reshape(C, P)
    numeric = approx_fprime(at.ravel(), lambda x: fit.loss(x.reshape(C, P), strength)[0], 1e-6)
    np.testing.assert_allclose(fit.loss(at, strength)[1].ravel(), numeric, rtol=0, atol=1e-4)
    assert np.abs(fit.loss(at, strength)[1]).max() > 0.01
    best = fit.minimum(strength)
    assert np.abs(fit.loss(best, strength)[1]).max() < 1e-5
    np.testing.assert_allclose(fit.minimum(strength, at), best, rtol=0, atol=1e-3)


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_agrees_with_scikit_learn(strength: float) -> None:
    """Where the model's own layer is zero, the fit is a ridge-penalised softmax regression on soft labels."""
    phi, _, teacher = problem()
    fit = Fit(phi, np.zeros((N, C)), teacher)
    # Each text once with each class, weighted by what the teacher gives it.
    regression = LogisticRegression(
        C=1 / (N * fit.penalty(strength)), fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    regression.fit(np.repeat(phi, C, axis=0), np.tile(np.arange(C), N), sample_weight=teacher.ravel())
    np.testing.assert_allclose(fit.minimum(strength), regression.coef_, rtol=0, atol=1e-4)


def test_another_layer_is_found() -> None:
    """A teacher that is a linear layer of the features is found, and little is left of the divergence."""
    phi, own, teacher = problem(2000)
    found = distil(phi[:, :-1], own, teacher, strength=0.0, rows=np.arange(2000))
    fresh, logits, answers = problem(300, seed=5)
    assert found.strength == STRENGTHS[-1]
    assert found.divergence < 1e-3 < 0.1 < found.divergence_of_own_layer
    np.testing.assert_allclose(found.probs(fresh[:, :-1], logits), answers, rtol=0, atol=0.05)


@pytest.mark.parametrize("count", [FEWEST, 60])
def test_few_texts_do_no_harm(count: int) -> None:
    """A teacher that scatters around the model's own answers leaves them about what they were.

    Each class has about as many weights as there are texts, which with little penalty follow the teacher.
    """
    rng = np.random.default_rng(2)
    features, layer = rng.normal(size=(count, 20)), rng.normal(size=(C, 20)) / 4
    own = features @ layer.T
    teacher = softmax(own + rng.normal(size=own.shape), axis=1)
    fresh = rng.normal(size=(500, 20))
    truth = softmax(fresh @ layer.T, axis=1)

    def distance(found: Distilled) -> float:
        return float(np.sqrt(np.square(found.probs(fresh, fresh @ layer.T) - truth).mean()))

    chosen, free = (distil(features, own, teacher, strength=s, rows=np.arange(count)) for s in (0.0, 1e-4))
    assert distance(chosen) < 0.08
    assert distance(free) > 2 * distance(chosen)


def test_own_answers_leave_the_layer_alone() -> None:
    """A teacher that says what the model says changes nothing."""
    phi, own, _ = problem()
    found = distil(phi[:, :-1], own, softmax(own, axis=1), strength=0.0, rows=np.arange(N))
    assert found.strength is None
    assert not found.change.any()
    np.testing.assert_allclose(found.probs(phi[:, :-1], own), softmax(own, axis=1), rtol=0, atol=1e-9)


def test_a_temperature_is_found() -> None:
    """A teacher that is the model at temperature 2.5 is learnt as such; out of bounds, the bound is."""
    phi, own, _ = problem()
    found = distil(phi[:, :-1], own, softmax(own / 2.5, axis=1), strength=0.0, rows=np.arange(N))
    assert found.sharpness == pytest.approx(1 / 2.5, abs=1e-9)
    assert found.strength is None
    assert nearest_sharpness(own, np.full((N, C), 1 / C)) == 1 / CAP
    assert nearest_sharpness(own, np.eye(C)[own.argmax(axis=1)]) == CAP


def test_too_few_texts_leave_the_layer_alone() -> None:
    """With a handful of texts held out ones agree by luck, and the model's own layer stays."""
    phi, own, teacher = problem(FEWEST - 1)
    found = distil(phi[:, :-1], own, teacher, strength=0.0, rows=np.arange(len(phi)))
    assert (found.sharpness, found.strength) == (1.0, None)


def test_without_dropout_it_is_the_softmax() -> None:
    """With dropout all but off, the teacher says what the model does, and so does the student."""
    checkpoint = tiny_checkpoint(dropout=1e-7, attention_dropout=1e-7, seq_classif_dropout=1e-7)
    method = McDropoutDistilled(checkpoint)
    method.fit(labelled(checkpoint))
    plan = plan_of(checkpoint, [*sentences(9)])
    expected = Frequentist(checkpoint).predict(plan, seed=0).probs
    np.testing.assert_allclose(method.predict(plan, seed=0).probs, expected, rtol=0, atol=1e-5)


def test_many_passes_teach_the_exact_mean() -> None:
    """With 4,000 passes the layer is that fitted to the mean over all 64 masks, and near to that mean.

    False alarms: errors of the teacher's mean are below .01, and the layer moves by less.
    """
    known = enumerable(count=60)
    method = McDropoutDistilled(known.checkpoint, teacher_passes=4000, strength=0.01)
    method.fit(LabelledPlan(known.plan, np.zeros(60, dtype=np.int64)))
    plain = Frequentist(known.checkpoint).predict(known.plan, seed=0).probs
    encoded = [method.encoder(batch) for batch in known.plan.batches]
    order = np.concatenate([batch.index for batch in known.plan.batches])
    features, logits = (
        torch.cat([getattr(part, name) for part in encoded]).double().numpy()
        for name in ("features", "logits")
    )
    exact = distil(features, logits, known.mean[order], strength=0.01, rows=order)
    found = method.predict(known.plan, seed=0).probs
    np.testing.assert_allclose(found[order], exact.probs(features, logits), rtol=0, atol=0.005)
    assert np.abs(found - known.mean).mean() < 0.5 * np.abs(plain - known.mean).mean()


def test_labels_are_not_used() -> None:
    """Other labels give the same bits."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(9)])
    train = labelled(checkpoint)
    found = []
    for labels in (train.labels, np.zeros_like(train.labels)):
        method = McDropoutDistilled(checkpoint)
        method.fit(LabelledPlan(train.plan, labels))
        found.append(method.predict(plan, seed=0).probs)
    assert np.array_equal(*found)


def test_batch_plans_change_nothing() -> None:
    """Training texts and texts one by one or all at once: the same layer, up to the last bits of float32."""
    checkpoint = tiny_checkpoint(classes=3)
    train = labelled(checkpoint)
    found = []
    for budget in (1, 10_000):
        method = McDropoutDistilled(checkpoint)
        plan = plan_of(checkpoint, list(train.plan.texts), token_budget=budget)
        method.fit(LabelledPlan(plan, train.labels))
        test = plan_of(checkpoint, [*sentences(20)], token_budget=budget)
        found.append((method.learnt["strength"], method.predict(test, seed=0).probs))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0, atol=1e-4)


def test_order_of_texts_changes_nothing() -> None:
    """Folds go with data set rows, not with places, and are of one size."""
    rows = np.random.default_rng(3).permutation(200)[:100]
    order = np.argsort(rows)
    assert np.array_equal(folds(rows)[order], folds(rows[order]))
    assert sorted(np.bincount(folds(rows))) == [33, 33, 34]


def test_teacher_seed_decides_what_is_taught() -> None:
    """One seed of the teacher gives the same bits, another others; the seed of predict does nothing."""
    methods = [fitted(0.1, teacher_seed=seed) for seed in (0, 0, 1)]
    plan = plan_of(tiny_checkpoint(classes=3), [*sentences(9)])
    first, again, other = (method.predict(plan, seed=k).probs for k, method in enumerate(methods))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_learnt_says_how_near_it_came() -> None:
    """The record holds the strength and the divergence before and after, which the fit has lowered."""
    found = fitted(0.01).learnt
    assert found["strength"] == 0.01
    assert 0 < found["divergence"] < found["divergence_of_own_layer"]


def test_what_cannot_be_is_refused() -> None:
    """Parameters out of range, a model without dropout, and predicting before fitting."""
    checkpoint = tiny_checkpoint()
    with pytest.raises(UsageError, match="teacher_passes is 0"):
        McDropoutDistilled(checkpoint, teacher_passes=0)
    with pytest.raises(UsageError, match="strength is -1"):
        McDropoutDistilled(checkpoint, strength=-1)
    with pytest.raises(RefusedError, match="mc-dropout-distilled is deterministic on tiny-ModernBert"):
        McDropoutDistilled(tiny_checkpoint("modernbert"))
    method = McDropoutDistilled(checkpoint)
    assert method.learnt == {}
    with pytest.raises(UsageError, match="call fit before predict"):
        method.predict(plan_of(checkpoint, [*sentences(2)]), seed=0)
