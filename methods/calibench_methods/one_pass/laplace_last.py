"""Laplace approximation of the last layer: a Gaussian over its weights, one pass, fitted on training texts.

With phi = (h, 1) the features of a text, f = W phi, theta = vec(W) [M], p_n the softmax of training text n:

    H = sum_n (diag p_n - p_n p_n^T) (x) phi_n phi_n^T,  theta ~ N(theta*, (H + delta I)^-1)
    log Z(delta) = sum_n log p_n[y_n] - delta/2 |theta*|^2 + 1/2 sum_m log(delta / (e_m + delta))
    f(x) ~ N(W* phi, S(x)),  S(x) = (I (x) phi)^T (H + delta I)^-1 (I (x) phi)
    probit:   p(y | x) = softmax(f_y / sqrt(1 + pi/8 S_yy))
    sampled:  p(y | x) = mean over draws z ~ N(0, I) of softmax(f + S^1/2 z)

with e_m the eigenvalues of H, the generalised Gauss-Newton matrix of the cross-entropy. Since logits are
linear in the weights, H is its Hessian, and the Gaussian of the logits is that of the weights.

MacKay, "The Evidence Framework Applied to Classification Networks" (Neural Computation 1992); Ritter et al.,
"A Scalable Laplace Approximation for Neural Networks" (ICLR 2018), for "kron"; Kristiadi et al., "Being
Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks" (ICML 2020); Daxberger et al., "Laplace
Redux" (NeurIPS 2021). The probit for many classes is Gibbs's (thesis, Cambridge 1997), as used there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import softmax

from calibench.errors import CalibenchError, RefusedError, UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.passes import at_least, checked_softmax
from calibench.models.plan import map_batches
from calibench.models.train_features import train_features
from calibench.seeds import derived_seed
from calibench.types import Batch, FloatArray, IntArray, LabelledPlan, Plan, Predictive

PREDICTIVES = ("probit", "sampled")
PRIORS = ("confidence", "evidence")
#: How much less than their accuracy the probabilities of training texts may say with the prior "confidence".
SLACK = 0.01
#: What `log delta` may rise by above that of the evidence; the Gaussian is then a point.
RISE = 20.0
#: Training texts on which confidence is compared with accuracy, at most.
COMPARED = 2000
#: Probabilities of training texts that say so much less than their accuracy, and than the softmax, are named.
TOO_UNSURE = 0.1
#: Most parameters of a full posterior: its matrix then takes 128 MiB, and its eigenvectors the same again.
MOST_FULL = 4096


class LaplaceLast(Method):
    """A Gaussian posterior over weights and bias of the last layer; encoder and mode stay the checkpoint's.

    The mode is assumed, not sought: the checkpoint was trained with dropout, with a weight decay that is
    unknown and perhaps stopped early, so that the gradient of the loss it is taken to minimise is not zero.
    What that would add to the expansion is left out, as is customary. Features are those without dropout.
    The texts that `fit` is given count as all that the layer was trained on: fewer give a wider posterior.

    How wide the Gaussian is depends on delta more than on the data, and nothing but held-out labels could say
    how unsure a model should be. With the prior "confidence" it widens as far as the evidence asks, but stops
    where the probabilities of training texts, on which the model is at its best, would say more than a point
    less than their accuracy. With "evidence" it does not stop: right for ranking, as texts out of scope, and
    too unsure to be served where a model is certain of its training texts. H is then next to nothing, so that
    most directions keep the prior's variance: with the 150 intents of CLINC, log Z takes 2,117 of 57,750
    parameters for determined, and the NLL is .772, where it is .169 without the method and .168 with
    "confidence". results/laplace.md has more of this, on 28 checkpoints.

    "probit" takes each logit by itself, so that adding a constant to all of them changes it, and S_yy counts
    the variance along (1, ..., 1), which no softmax sees and no data reduce: with two classes that is nearly
    all of S_yy, and "probit" in effect a temperature that grows with the norm of the features; with 150 it is
    a few hundredths. "sampled" is free of it.

    Args:
        checkpoint: the model.
        structure: "full" for H itself; "kron" for sum_n (diag p_n - p_n p_n^T) (x) mean_n phi_n phi_n^T,
            exact where the two are uncorrelated over training texts; "diag" for the diagonal of H.
        predictive: "probit", which needs the diagonal of S alone, for "kron" and "diag" about as much work
            per text as one more layer; or "sampled".
        samples: draws for "sampled", at least 1, keyed by (seed, data set row): no batch plan changes them.
        prior: "evidence" for the delta that maximises log Z. As a function of log delta, log Z is concave,
            with one maximum where delta |theta*|^2 = sum_m e_m / (e_m + delta). "confidence" for the smallest
            from there up with which "probit" says of training texts at most a point less than their accuracy.
        prior_precision: delta, above 0, whatever `prior` says; 0 to go by that.

    Raises:
        UsageError: a parameter is out of range, or `predict` comes before `fit`.
        RefusedError: the logits are not the output of a linear layer of one vector per text, or the matrix of
            a full posterior would be too large.
    """

    encoder: Encoder
    needs_train: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        structure: str = "kron",
        predictive: str = "probit",
        samples: int = 100,
        prior: str = "confidence",
        prior_precision: float = 0.0,
    ) -> None:
        super().__init__(checkpoint)
        _one_of("structure", structure, tuple(STRUCTURES))
        self._sampled = _one_of("predictive", predictive, PREDICTIVES) == "sampled"
        self._samples = at_least(1, "samples", samples)
        self._cautious = _one_of("prior", prior, PRIORS) == "confidence"
        if not 0.0 <= prior_precision < math.inf:
            raise UsageError(
                f"prior_precision is {prior_precision:g}, but must be above 0, or 0 to go by the prior."
            )
        self._stated = prior_precision
        self._checkpoint = checkpoint
        self._structure = STRUCTURES[structure]
        self.encoder = Encoder(checkpoint)
        linear = self.encoder.head.linear
        self._biased = linear.bias is not None
        count = linear.out_features * (linear.in_features + self._biased)
        if structure == "full" and count > MOST_FULL:
            raise RefusedError(
                f"A full posterior over the last layer of {checkpoint.name} takes a matrix of {count} x "
                f"{count}, and {MOST_FULL} parameters are the most it is made for; use structure=kron."
            )
        self._posterior: Posterior | None = None
        self._evidence = math.nan
        self._notes: tuple[str, ...] = ()

    def fit(self, train: LabelledPlan) -> None:
        found = train_features(self._checkpoint, self.encoder, train)
        logits = found.logits.astype(np.float64)
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        likelihood = float(np.take_along_axis(log_probs, found.labels[:, None], axis=1).sum())
        tensors = self.encoder.head.linear.parameters()
        norm = sum(float(value.detach().to("cpu").double().square().sum()) for value in tensors)

        phi = self._phi(found.features)
        posterior = self._structure(phi, np.exp(log_probs))
        chosen = np.linspace(0, len(phi) - 1, min(len(phi), COMPARED)).astype(np.int64)
        texts = Texts(phi[chosen], logits[chosen], found.labels[chosen], train.plan.rows[chosen])
        precision = self._stated or best_precision(posterior.eigenvalues, norm)
        if self._cautious and not self._stated:
            precision = confident_precision(posterior, texts, precision)
        posterior.settle(precision)
        parts = np.array_split(np.arange(len(chosen)), math.ceil(len(chosen) / 100))
        said = [self._probs(posterior, texts.phi[i], texts.logits[i], texts.rows[i], 0) for i in parts]
        self._notes = too_unsure(texts, np.concatenate(said))
        self._evidence = log_evidence(likelihood, norm, posterior.eigenvalues, precision)
        self._posterior = posterior

    @property
    def learnt(self) -> Mapping[str, Any]:
        """Prior precision, log Z, and the parameters that the data determine, sum_m e_m / (e_m + delta)."""
        if self._posterior is None:
            return {}
        return {
            "prior_precision": self._posterior.precision,
            "log_marginal_likelihood": self._evidence,
            "effective_parameters": effective(self._posterior.eigenvalues, self._posterior.precision),
        }

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        posterior = self._posterior
        if posterior is None:
            raise UsageError("laplace-last learns from training data: call fit before predict.")

        def probs(batch: Batch) -> FloatArray:
            encoded = self.encoder(batch)
            rows = plan.rows[batch.index]
            checked_softmax(encoded.logits[None], rows)
            logits = encoded.logits.to("cpu").double().numpy()
            phi = self._phi(encoded.features.to("cpu").double().numpy())
            return self._probs(posterior, phi, logits, rows, seed)

        found = map_batches(plan, probs)
        return Predictive(found, passes=np.ones(len(plan), dtype=np.int64), notes=self._notes)

    def _probs(
        self, posterior: Posterior, phi: FloatArray, logits: FloatArray, rows: IntArray, seed: int
    ) -> FloatArray:
        """What the method says, [B, C], for phi [B, P] and logits at the mode [B, C]."""
        if self._sampled:
            spread = logits + posterior.deviations(phi, self._normal(rows, logits.shape[1], seed))
        else:
            spread = narrowed(logits, posterior.variances(phi))[None]
        mean: FloatArray = checked_softmax(torch.from_numpy(spread), rows).mean(axis=0)
        return mean

    def _phi(self, features: Any) -> FloatArray:
        """Features [N, D] in float64, with the 1 that the bias multiplies: [N, P]."""
        values = np.asarray(features, dtype=np.float64)
        return np.pad(values, ((0, 0), (0, 1)), constant_values=1.0) if self._biased else values

    def _normal(self, rows: IntArray, classes: int, seed: int) -> FloatArray:
        """Standard normal draws [samples, B, C], for each text from its row."""
        shape = (self._samples, classes)
        keyed = (np.random.default_rng(derived_seed(seed, "laplace", int(row))) for row in rows)
        return np.stack([generator.standard_normal(shape) for generator in keyed], axis=1)


class Posterior(ABC):
    """A Gaussian over W around the mode, [C, P], once its delta is settled; all arrays are float64.

    Args:
        phi: [N, P], of training texts.
        probs: [N, C], their softmax.
    """

    #: Of this structure's H, [M], with M = C P.
    eigenvalues: FloatArray
    precision: float

    @abstractmethod
    def __init__(self, phi: FloatArray, probs: FloatArray) -> None: ...

    @abstractmethod
    def settle(self, precision: float) -> None:
        """Take this delta: what follows is under it."""

    @abstractmethod
    def variances(self, phi: FloatArray) -> FloatArray:
        """The diagonal of S, [B, C], for phi [B, P]."""

    @abstractmethod
    def deviations(self, phi: FloatArray, normal: FloatArray) -> FloatArray:
        """S^1/2 z, [..., B, C], for phi [B, P] and z [..., B, C]."""


class Kron(Posterior):
    """H = G (x) A with G = U diag(g) U^T, [C, C], and A = V diag(a) V^T, [P, P].

    S = U diag(q) U^T with q_i = sum_j (V^T phi)_j^2 / (g_i a_j + delta): no matrix grows with C P.
    """

    def __init__(self, phi: FloatArray, probs: FloatArray) -> None:
        g, self._u = _eigh(np.diag(probs.sum(axis=0)) - probs.T @ probs)
        a, self._v = _eigh(phi.T @ phi / len(phi))
        self._products = np.outer(g, a)
        self.eigenvalues = self._products.ravel()

    def settle(self, precision: float) -> None:
        self.precision = precision
        self._shrunk = 1 / (self._products + precision)

    def _q(self, phi: FloatArray) -> FloatArray:
        q: FloatArray = np.square(phi @ self._v) @ self._shrunk.T
        return q

    def variances(self, phi: FloatArray) -> FloatArray:
        values: FloatArray = self._q(phi) @ np.square(self._u).T
        return values

    def deviations(self, phi: FloatArray, normal: FloatArray) -> FloatArray:
        values: FloatArray = (normal * np.sqrt(self._q(phi))) @ self._u.T
        return values


class Full(Posterior):
    """H as it is, [M, M]."""

    def __init__(self, phi: FloatArray, probs: FloatArray) -> None:
        classes, width = self._shape = probs.shape[1], phi.shape[1]
        hessian = np.empty((classes, width, classes, width))
        for c in range(classes):
            for d in range(c + 1):
                weights = probs[:, c] * ((c == d) - probs[:, d])
                hessian[c, :, d] = hessian[d, :, c] = (phi * weights[:, None]).T @ phi
        self.eigenvalues, self._vectors = _eigh(hessian.reshape(classes * width, -1))

    def settle(self, precision: float) -> None:
        self.precision = precision
        covariance = (self._vectors / (self.eigenvalues + precision)) @ self._vectors.T
        self._covariance = covariance.reshape(*self._shape, *self._shape)

    def _between(self, phi: FloatArray, c: int, d: int) -> FloatArray:
        """S_cd, [B]."""
        values: FloatArray = ((phi @ self._covariance[c, :, d]) * phi).sum(axis=1)
        return values

    def variances(self, phi: FloatArray) -> FloatArray:
        return np.stack([self._between(phi, c, c) for c in range(len(self._covariance))], axis=1)

    def deviations(self, phi: FloatArray, normal: FloatArray) -> FloatArray:
        classes = range(len(self._covariance))
        s = np.stack([np.stack([self._between(phi, c, d) for d in classes], axis=1) for c in classes], axis=1)
        values, vectors = np.linalg.eigh(s)
        scaled = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        # The symmetric root: eigenvectors alone change sign with the last bit of S.
        root = scaled @ vectors.transpose(0, 2, 1)
        moved: FloatArray = np.einsum("bci,...bi->...bc", root, normal)
        return moved


class Diag(Posterior):
    """The diagonal of H: S is diagonal too."""

    def __init__(self, phi: FloatArray, probs: FloatArray) -> None:
        self._diagonal = (probs * (1 - probs)).T @ np.square(phi)
        self.eigenvalues = self._diagonal.ravel()

    def settle(self, precision: float) -> None:
        self.precision = precision
        self._shrunk = 1 / (self._diagonal + precision)

    def variances(self, phi: FloatArray) -> FloatArray:
        values: FloatArray = np.square(phi) @ self._shrunk.T
        return values

    def deviations(self, phi: FloatArray, normal: FloatArray) -> FloatArray:
        return normal * np.sqrt(self.variances(phi))


STRUCTURES: Mapping[str, type[Posterior]] = {"kron": Kron, "full": Full, "diag": Diag}


def log_evidence(likelihood: float, norm: float, eigenvalues: FloatArray, precision: float) -> float:
    """log Z(delta) of the log likelihood at the mode, |theta*|^2 and the eigenvalues of H [M]."""
    return likelihood - precision * norm / 2 - float(np.log1p(eigenvalues / precision).sum()) / 2


def effective(eigenvalues: FloatArray, precision: float) -> float:
    """MacKay's gamma, the number of parameters that the data determine."""
    return float((eigenvalues / (eigenvalues + precision)).sum())


def best_precision(eigenvalues: FloatArray, norm: float) -> float:
    """The delta that maximises log Z, given |theta*|^2.

    The derivative by log delta is (gamma - delta |theta*|^2) / 2, which falls: gamma does, and the rest too.

    Raises:
        CalibenchError: there is none, because all weights are zero or the layer is certain of every text.
    """

    def slope(log_precision: float) -> float:
        precision = math.exp(log_precision)
        return effective(eigenvalues, precision) - precision * norm

    # At `high`, delta |theta*|^2 is M, which gamma stays below. At `low` it is below 1/2, and gamma above,
    # by its largest term alone.
    most = float(eigenvalues.max())
    if not (norm > 0 and most > 0):
        raise CalibenchError(
            "The marginal likelihood has no maximum over the prior precision, because the last layer is zero "
            "or certain of every training text; state prior_precision."
        )
    high = math.log(len(eigenvalues) / norm)
    low = min(math.log(most), math.log(0.5 / norm)) - 1e-9
    return math.exp(brentq(slope, low, high, xtol=1e-12))


def narrowed(logits: FloatArray, variances: FloatArray) -> FloatArray:
    """The logits [B, C] of "probit", whose softmax it is, from those at the mode and their variances."""
    found: FloatArray = logits / np.sqrt(1 + np.pi / 8 * variances)
    return found


@dataclass(frozen=True, eq=False)
class Texts:
    """Training texts.

    Attributes:
        phi: float64 [B, P].
        logits: float64 [B, C], at the mode.
        labels, rows: int64 [B].
    """

    phi: FloatArray
    logits: FloatArray
    labels: IntArray
    rows: IntArray

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(axis=1) == self.labels).mean())


def confidence(probs: FloatArray) -> float:
    """The mean probability of the likeliest class."""
    return float(probs.max(axis=1).mean())


def confident_precision(posterior: Posterior, texts: Texts, least: float) -> float:
    """The smallest delta from `least` up with which "probit" is as confident of the texts as `SLACK` asks.

    That is as their accuracy, less `SLACK`. Where the softmax itself is not, the Gaussian is made a point.
    """

    def lacking(log_precision: float) -> float:
        posterior.settle(math.exp(log_precision))
        probs = softmax(narrowed(texts.logits, posterior.variances(texts.phi)), axis=1)
        return texts.accuracy - SLACK - confidence(probs)

    low = math.log(least)
    high = low + RISE
    if lacking(low) <= 0:
        return least
    return math.exp(high if lacking(high) >= 0 else brentq(lacking, low, high, xtol=1e-3))


def too_unsure(texts: Texts, probs: FloatArray) -> tuple[str, ...]:
    """A sentence where these probabilities say far less than the texts' accuracy, and than the softmax."""
    plain, ours = confidence(softmax(texts.logits, axis=1)), confidence(probs)
    if min(plain, texts.accuracy) - ours <= TOO_UNSURE:
        return ()
    return (
        f"On the model's own training texts, of which it answers {texts.accuracy:.0%} rightly, these "
        f"probabilities are {ours:.0%} sure on average, and the plain softmax {plain:.0%}: rank texts by "
        "them, and do not serve them as probabilities.",
    )


def _eigh(symmetric: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues, none below 0 by rounding, and eigenvectors of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.maximum(values, 0.0), vectors


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UsageError(f"{name} is {value!r}: choose {', '.join(choices)}.")
    return value
