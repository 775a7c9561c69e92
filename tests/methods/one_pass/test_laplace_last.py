"""The Laplace approximation of the last layer: against laplace-torch, against brute force, the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_softmax, softmax
from torch import nn

from calibench.errors import CalibenchError, RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.types import FloatArray, IntArray, LabelledPlan, Plan
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.one_pass.laplace_last import (
    STRUCTURES,
    LaplaceLast,
    Posterior,
    Texts,
    best_precision,
    confidence,
    confident_precision,
    effective,
    log_evidence,
    narrowed,
    too_unsure,
)
from scenarios import disturbance, same
from tiny_models import plan_of, sentences, tiny_checkpoint

EVERY = pytest.mark.parametrize("structure", STRUCTURES)
# A small last layer, [C, P] = [3, 4] on 12 texts; the last feature is the 1 that the bias multiplies.
N, P, C = 12, 4, 3
PHI = np.sin(1 + np.arange(N * P).reshape(N, P) ** 1.5)
PHI[:, -1] = 1
WEIGHT = np.cos(np.arange(C * P).reshape(C, P) ** 1.3)
LABELS = np.arange(N) % C
LOGITS = PHI @ WEIGHT.T
PROBS = softmax(LOGITS, axis=1)
LIKELIHOOD = float(log_softmax(LOGITS, axis=1)[np.arange(N), LABELS].sum())
NORM = float((WEIGHT**2).sum())
# From laplace-torch 0.3 on torch 2.13, in float64, for each structure, with `phi`, `labels` and a
# `layer = torch.nn.Linear(4, 3, bias=False)` as above (so that the bias is inside the Kronecker factor, too):
#     la = Laplace(layer, "classification", "all", structure, prior_precision=0.7, backend=CurvlinopsGGN)
#     la.fit(DataLoader(TensorDataset(phi, labels), batch_size=12))
#     la._glm_predictive_distribution(phi[:2])[1][1]        # covariance of the logits of the second text
#     la(phi[:2], link_approx="probit")
#     la.log_marginal_likelihood()
#     la.optimize_prior_precision(method="marglik", pred_type="glm", n_steps=20000, lr=0.05)
#     la.prior_precision, la.log_marginal_likelihood()
REFERENCE: dict[str, dict[str, Any]] = {
    "full": {
        "covariance": [
            [1.177670705944, 0.474444873662, 0.221778906248],
            [0.474444873662, 1.056993016868, 0.342456595324],
            [0.221778906248, 0.342456595324, 1.309658984282],
        ],
        "probit": [
            [0.352177982005, 0.603726785954, 0.044095232041],
            [0.165667247352, 0.750734894966, 0.083597857681],
        ],
        "evidence": -25.72399434694433,
        "precision": 0.780132738112,
        "best": -25.70577558186421,
    },
    "kron": {
        "covariance": [
            [1.132345860528, 0.442583355973, 0.298965269354],
            [0.442583355973, 1.000233307973, 0.431077821908],
            [0.298965269354, 0.431077821908, 1.143851394593],
        ],
        "probit": [
            [0.348526800630, 0.609856879177, 0.041616320193],
            [0.164494556828, 0.754092929520, 0.081412513652],
        ],
        "evidence": -25.853145065953512,
        "precision": 0.804731066002,
        "best": -25.82238129378123,
    },
    "diag": {
        "covariance": np.diag([0.655021284675, 0.481263960163, 0.683827396309]),
        "probit": [
            [0.336571268904, 0.627074262625, 0.036354468471],
            [0.150279448228, 0.778800621881, 0.070919929892],
        ],
        "evidence": -27.039730583402537,
        "precision": 1.011269796564,
        "best": -26.760370163059882,
    },
}


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


def posterior(
    structure: str, precision: float = 0.7, phi: FloatArray = PHI, probs: FloatArray = PROBS
) -> Posterior:
    found = STRUCTURES[structure](phi, probs)
    found.settle(precision)
    return found


def covariance(of: Posterior, phi: FloatArray) -> FloatArray:
    """S [B, C, C]: what `deviations` makes of the unit vectors is its root, whose square S is."""
    classes = of.variances(phi).shape[1]
    units = np.broadcast_to(np.eye(classes)[:, None], (classes, len(phi), classes))
    root = of.deviations(phi, units)
    return np.einsum("ibc,ibd->bcd", root, root)


def hessian() -> FloatArray:
    """That of the summed cross-entropy in the weights, [C P, C P], by differentiating it twice."""

    def loss(weight: torch.Tensor) -> torch.Tensor:
        logits = torch.from_numpy(PHI) @ weight.view(C, P).T
        return nn.functional.cross_entropy(logits, torch.from_numpy(LABELS), reduction="sum")

    result: FloatArray = torch.autograd.functional.hessian(loss, torch.from_numpy(WEIGHT.ravel())).numpy()
    return result


def projected(sigma: FloatArray, phi: FloatArray) -> FloatArray:
    """S [B, C, C] of a posterior covariance [C P, C P]."""
    return np.einsum("bp,cpdq,bq->bcd", phi, sigma.reshape(C, P, C, P), phi)


@EVERY
def test_agrees_with_laplace_torch(structure: str) -> None:
    """Covariance, probit and evidence to 1e-10, the tuned precision to 1e-9 (its optimiser takes steps)."""
    expected = REFERENCE[structure]
    ours = posterior(structure)
    np.testing.assert_allclose(
        covariance(ours, PHI[:2])[1], np.array(expected["covariance"]), rtol=0, atol=1e-10
    )
    scaled = LOGITS[:2] / np.sqrt(1 + np.pi / 8 * ours.variances(PHI[:2]))
    np.testing.assert_allclose(softmax(scaled, axis=1), expected["probit"], rtol=0, atol=1e-10)
    evidence = log_evidence(LIKELIHOOD, NORM, ours.eigenvalues, 0.7)
    assert evidence == pytest.approx(expected["evidence"], abs=1e-10)
    precision = best_precision(ours.eigenvalues, NORM)
    assert precision == pytest.approx(expected["precision"], rel=1e-9)
    assert log_evidence(LIKELIHOOD, NORM, ours.eigenvalues, precision) == pytest.approx(
        expected["best"], abs=1e-10
    )


def test_full_curvature_is_the_hessian() -> None:
    """Differentiating the cross-entropy twice gives eigenvalues, covariance and log determinant."""
    exact = hessian()
    ours = posterior("full")
    np.testing.assert_allclose(np.sort(ours.eigenvalues), np.linalg.eigvalsh(exact), rtol=0, atol=1e-12)
    sigma = np.linalg.inv(exact + 0.7 * np.eye(C * P))
    np.testing.assert_allclose(covariance(ours, PHI), projected(sigma, PHI), rtol=0, atol=1e-12)
    prior = stats.multivariate_normal(np.zeros(C * P), np.eye(C * P) / 0.7).logpdf(WEIGHT.ravel())
    log_det = np.linalg.slogdet(sigma / (1 / (2 * np.pi)))[1]
    evidence = log_evidence(LIKELIHOOD, NORM, ours.eigenvalues, 0.7)
    assert evidence == pytest.approx(LIKELIHOOD + prior + log_det / 2, abs=1e-10)


def test_diag_is_the_diagonal_of_the_hessian() -> None:
    """All but the diagonal of the Hessian is left out before it is inverted."""
    sigma = np.diag(1 / (np.diag(hessian()) + 0.7))
    np.testing.assert_allclose(covariance(posterior("diag"), PHI), projected(sigma, PHI), rtol=0, atol=1e-12)


def test_kron_is_the_inverse_of_its_product() -> None:
    """The factored covariance is that of the Kronecker product, written out and inverted."""
    g = sum(np.diag(p) - np.outer(p, p) for p in PROBS)
    sigma = np.linalg.inv(np.kron(g, PHI.T @ PHI / N) + 0.7 * np.eye(C * P))
    np.testing.assert_allclose(covariance(posterior("kron"), PHI), projected(sigma, PHI), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["one text", "equal features", "equal probabilities"])
def test_kron_is_exact_where_it_should_be(case: str) -> None:
    """With one text, or a factor that is constant over texts, the factored posterior is the full one."""
    phi = {"one text": PHI[:1], "equal features": np.tile(PHI[3], (N, 1))}.get(case, PHI)
    probs = np.tile(PROBS[2], (N, 1)) if case == "equal probabilities" else PROBS[: len(phi)]
    factored, full = (posterior(name, phi=phi, probs=probs) for name in ("kron", "full"))
    np.testing.assert_allclose(covariance(factored, PHI), covariance(full, PHI), rtol=0, atol=1e-12)


@EVERY
def test_variances_are_the_diagonal(structure: str) -> None:
    """What the probit takes alone agrees with the covariance that is sampled from."""
    ours = posterior(structure)
    diagonal = np.diagonal(covariance(ours, PHI), axis1=1, axis2=2)
    np.testing.assert_allclose(ours.variances(PHI), diagonal, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@EVERY
def test_best_precision_maximises_the_evidence(structure: str, scale: float) -> None:
    """No other precision over 16 decades has more, and MacKay's condition holds, whatever the scales."""
    eigenvalues = scale * posterior(structure).eigenvalues
    best = best_precision(eigenvalues, NORM)
    assert effective(eigenvalues, best) == pytest.approx(best * NORM, rel=1e-9)
    most = log_evidence(LIKELIHOOD, NORM, eigenvalues, best)
    assert all(log_evidence(LIKELIHOOD, NORM, eigenvalues, 10.0**k) < most for k in range(-8, 9))


@pytest.mark.parametrize(("eigenvalue", "norm"), [(0.0, 1.0), (1.0, 0.0)])
def test_evidence_without_maximum_is_an_error(eigenvalue: float, norm: float) -> None:
    """A layer of zeros, or one that is certain of all texts, leaves nothing to choose by."""
    with pytest.raises(CalibenchError, match="no maximum"):
        best_precision(np.full(4, eigenvalue), norm)


def said(of: Posterior, texts: Texts) -> FloatArray:
    """The texts' probabilities by "probit"."""
    probs: FloatArray = softmax(narrowed(texts.logits, of.variances(texts.phi)), axis=1)
    return probs


#: Texts with labels of which a layer that is sure of all gets eleven in twelve right.
TEXTS = Texts(PHI, 8 * LOGITS, np.where(np.arange(N), LOGITS.argmax(axis=1), 0), np.arange(N))


@EVERY
def test_confidence_stops_at_a_point_below_accuracy(structure: str) -> None:
    """No smaller delta keeps it, and from one that keeps it nothing is taken."""
    certain = softmax(TEXTS.logits, axis=1)
    ours, aim = posterior(structure, 0.02, probs=certain), TEXTS.accuracy - 0.01
    assert confidence(said(ours, TEXTS)) < aim < confidence(certain)
    found = confident_precision(ours, TEXTS, 0.02)
    for factor, sure in ((0.99, False), (1.01, True)):
        ours.settle(factor * found)
        assert (confidence(said(ours, TEXTS)) > aim) == sure
    assert confident_precision(ours, TEXTS, 2 * found) == 2 * found


@EVERY
def test_a_softmax_less_sure_than_right_is_left_as_it_is(structure: str) -> None:
    """Where no delta makes it sure enough the variances are as good as none."""
    texts = Texts(PHI, LOGITS, LOGITS.argmax(axis=1), np.arange(N))
    ours = posterior(structure)
    ours.settle(confident_precision(ours, texts, 0.7))
    np.testing.assert_allclose(said(ours, texts), PROBS, rtol=0, atol=1e-7)


def test_too_unsure_is_said() -> None:
    """Of texts of which more are right, and the softmax is surer; not of those which it is too sure of."""
    plain = softmax(TEXTS.logits, axis=1)
    assert too_unsure(TEXTS, 0.9 * plain + 0.1 / C) == ()
    (note,) = too_unsure(TEXTS, 0.7 * plain + 0.3 / C)
    assert "do not serve them as probabilities" in note
    assert f"{confidence(plain):.0%}" in note
    wrong = replace(TEXTS, labels=(TEXTS.labels + 1) % C)
    assert too_unsure(wrong, 0.7 * plain + 0.3 / C) == ()


@pytest.mark.parametrize("predictive", ["probit", "sampled"])
def test_a_run_says_what_not_to_serve(predictive: str) -> None:
    """With so wide a prior that nothing is left of what the model knows; by default not."""
    checkpoint = tiny_checkpoint(classes=3)
    with torch.no_grad():
        checkpoint.module.classifier.weight *= 400
    plan = labelled(checkpoint).plan
    right = LabelledPlan(plan, Frequentist(checkpoint).predict(plan, seed=0).probs.argmax(axis=1))

    def notes(**params: Any) -> tuple[str, ...]:
        method = LaplaceLast(checkpoint, predictive=predictive, samples=50, **params)
        method.fit(right)
        return method.predict(plan, seed=0).notes

    assert "do not serve them" in notes(prior_precision=1e-6)[0]
    assert notes() == ()


def labelled(checkpoint: Checkpoint, count: int = 30, seed: int = 5) -> LabelledPlan:
    """Training texts with labels that the model does not all get right; a seed makes other texts."""
    labels: IntArray = np.arange(count, dtype=np.int64) % len(checkpoint.labels)
    return LabelledPlan(plan_of(checkpoint, [*sentences(count, seed=seed)]), labels)


def fitted(checkpoint: Checkpoint, **params: Any) -> LaplaceLast:
    method = LaplaceLast(checkpoint, **params)
    method.fit(labelled(checkpoint))
    return method


def gathered(encoder: Encoder, plan: Plan) -> tuple[FloatArray, FloatArray]:
    """Features and logits of a plan, in its order."""
    features = np.empty((len(plan), encoder.head.linear.in_features))
    logits = np.empty((len(plan), encoder.head.linear.out_features))
    for batch in plan.batches:
        encoded = encoder(batch)
        features[batch.index], logits[batch.index] = encoded.features, encoded.logits
    return features, logits


@pytest.mark.parametrize("biased", [True, False])
@EVERY
def test_fit_and_predict_put_the_parts_together(structure: str, biased: bool) -> None:
    """What is recorded and predicted is what the parts give for the model's features, bias or none."""
    checkpoint = tiny_checkpoint(classes=3)
    if not biased:
        checkpoint.module.classifier.bias = None
    method, train = fitted(checkpoint, structure=structure, prior="evidence"), labelled(checkpoint)
    encoder = Encoder(checkpoint)
    features, logits = gathered(encoder, train.plan)
    phi = np.hstack([features, np.ones((len(features), 1))]) if biased else features
    norm = sum(float(value.detach().double().square().sum()) for value in encoder.head.linear.parameters())
    ours = STRUCTURES[structure](phi, softmax(logits, axis=1))
    ours.settle(best_precision(ours.eigenvalues, norm))
    likelihood = log_softmax(logits, axis=1)[np.arange(len(logits)), train.labels].sum()
    assert method.learnt == pytest.approx(
        {
            "prior_precision": ours.precision,
            "log_marginal_likelihood": log_evidence(likelihood, norm, ours.eigenvalues, ours.precision),
            "effective_parameters": effective(ours.eigenvalues, ours.precision),
        },
        rel=1e-5,
    )
    expected = softmax(logits / np.sqrt(1 + np.pi / 8 * ours.variances(phi)), axis=1)
    np.testing.assert_allclose(method.predict(train.plan, seed=0).probs, expected, rtol=0, atol=1e-6)
    assert np.abs(expected - softmax(logits, axis=1)).max() > 0.01


@pytest.mark.parametrize("predictive", ["probit", "sampled"])
@EVERY
def test_certain_weights_give_the_plain_softmax(structure: str, predictive: str) -> None:
    """With a prior precision towards infinity the prediction is that of the checkpoint."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(9)])
    method = fitted(checkpoint, structure=structure, predictive=predictive, prior_precision=1e16)
    expected = Frequentist(checkpoint).predict(plan, seed=0).probs
    np.testing.assert_allclose(method.predict(plan, seed=3).probs, expected, rtol=0, atol=1e-6)


@EVERY
def test_sampled_agrees_with_the_integral(structure: str) -> None:
    """For two classes the mean over draws is E sigmoid(N(d, v)), v from the covariance, by quadrature.

    False alarms: 18 means within 5 standard errors, below 2e-5.
    """
    checkpoint = tiny_checkpoint()
    draws = 10_000
    method = fitted(checkpoint, structure=structure, predictive="sampled", samples=draws, prior="evidence")
    plan = plan_of(checkpoint, [*sentences(6)])
    features, logits = gathered(Encoder(checkpoint), plan)
    train_phi, train_logits = gathered(Encoder(checkpoint), labelled(checkpoint).plan)
    ones = np.ones((len(train_phi), 1))
    ours = posterior(
        structure,
        method.learnt["prior_precision"],
        np.hstack([train_phi, ones]),
        softmax(train_logits, axis=1),
    )
    s = covariance(ours, np.hstack([features, ones[: len(features)]]))
    spread = np.sqrt(s[:, 0, 0] + s[:, 1, 1] - 2 * s[:, 0, 1])
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    difference = logits[:, :1] - logits[:, 1:]
    sigmoids, weights = expit(difference + spread[:, None] * nodes), weights / weights.sum()
    expected = sigmoids @ weights
    deviation = np.sqrt(sigmoids**2 @ weights - expected**2)
    actual = method.predict(plan, seed=9).probs[:, 0]
    error = deviation / np.sqrt(draws)
    assert (np.abs(actual - expected) < 5 * error).all()
    assert np.abs((expected - expit(difference[:, 0])) / error).max() > 10


@EVERY
def test_probit_approximates_sampling(structure: str) -> None:
    """Where the logits' variances are small the probit is near the mean over draws, and nearer than none."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(9)])
    params = {"structure": structure, "prior_precision": 40.0}
    probit = fitted(checkpoint, **params).predict(plan, seed=0).probs
    drawn = fitted(checkpoint, predictive="sampled", samples=5000, **params).predict(plan, seed=0).probs
    plain = Frequentist(checkpoint).predict(plan, seed=0).probs
    assert np.abs(probit - drawn).max() < 0.02
    assert np.abs(probit - drawn).sum() < 0.7 * np.abs(plain - drawn).sum()


@pytest.mark.parametrize("predictive", ["probit", "sampled"])
@pytest.mark.parametrize(("classes", "count"), [(2, 11), (150, 5), (3, 1)])
@EVERY
def test_contract(structure: str, predictive: str, classes: int, count: int) -> None:
    """Well formed; the same bits twice and from a new one; within 1e-5 under any plan; nothing disturbed."""
    checkpoint = tiny_checkpoint(classes=classes, **({"hidden_size": 4} if classes == 150 else {}))
    before, state = disturbance(checkpoint.module), torch.get_rng_state()
    texts = [*sentences(count)]
    params: dict[str, Any] = {"structure": structure, "predictive": predictive, "samples": 10}
    method = fitted(checkpoint, **params)
    found = method.predict(plan_of(checkpoint, texts), seed=3)
    assert found.probs.shape == (count, classes)
    assert found.probs.dtype == np.float64
    np.testing.assert_allclose(found.probs.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert (found.probs >= 0).all()
    assert np.array_equal(found.passes, np.ones(count, dtype=np.int64))
    other = method.predict(plan_of(checkpoint, texts), seed=4)
    assert np.array_equal(other.probs, found.probs) == (predictive == "probit")
    assert np.array_equal(method.predict(plan_of(checkpoint, texts), seed=3).probs, found.probs)
    again = fitted(checkpoint, **params).predict(plan_of(checkpoint, texts), seed=3)
    assert np.array_equal(again.probs, found.probs)
    for budget in (1, 10_000):
        replanned = method.predict(plan_of(checkpoint, texts, token_budget=budget), seed=3)
        np.testing.assert_allclose(replanned.probs, found.probs, rtol=0, atol=1e-5)
    assert same(before, disturbance(checkpoint.module))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("predictive", ["probit", "sampled"])
@EVERY
def test_not_finite_logits_name_the_row(structure: str, predictive: str) -> None:
    """NaN from the model is an error that names the first row of the data set it happens for."""
    checkpoint = tiny_checkpoint()
    method = fitted(checkpoint, structure=structure, predictive=predictive)
    with torch.no_grad():
        checkpoint.module.get_input_embeddings().weight[4 + 1] = torch.nan
    plan = plan_of(checkpoint, ["the film", "good plot", "a film", "the a a a a a a"], token_budget=1000)
    with pytest.raises(CalibenchError, match=r"not finite for row 102 "):
        method.predict(plan, seed=3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"structure": "block"}, "structure is 'block': choose kron, full, diag"),
        ({"predictive": "bridge"}, "predictive is 'bridge': choose probit, sampled"),
        ({"prior": "wide"}, "prior is 'wide': choose confidence, evidence"),
        ({"samples": 0}, "samples is 0, but must be at least 1"),
        ({"prior_precision": -1.0}, "prior_precision is -1, but must be above 0"),
        ({"prior_precision": float("nan")}, "prior_precision is nan, but"),
    ],
)
def test_parameters_out_of_range(params: dict[str, Any], message: str) -> None:
    """A parameter out of range is a usage error that names it and its value."""
    with pytest.raises(UsageError, match=message):
        LaplaceLast(tiny_checkpoint(), **params)


def test_unfitted_is_an_error() -> None:
    """Before `fit` there is nothing learnt, and predicting says what to do."""
    checkpoint = tiny_checkpoint()
    method = LaplaceLast(checkpoint)
    assert method.learnt == {}
    with pytest.raises(UsageError, match="call fit before predict"):
        method.predict(plan_of(checkpoint, ["good"]), seed=0)


def test_full_of_many_classes_is_refused() -> None:
    """A full posterior of 300 x 17 parameters is refused with its size, the others are not."""
    checkpoint = tiny_checkpoint(classes=300)
    with pytest.raises(RefusedError, match=r"matrix of 5100 x 5100.*use structure=kron"):
        LaplaceLast(checkpoint, structure="full")
    LaplaceLast(checkpoint)
