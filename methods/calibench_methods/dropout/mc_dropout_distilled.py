"""MC-Dropout distilled into the last layer: many passes over training texts once, then one per text.

    p(y | x) = softmax(W h(x) + b)
    (W, b) = argmin  1/N sum_n KL(q_n || softmax(W h_n + b)) + s v/2 |(W, b) - a (W0, b0)|^2
    a = argmin  1/N sum_n KL(q_n || softmax(a (W0 h_n + b0)))
    q_n = 1/T sum_t softmax(f(x_n; m_t)),    v = 1/(N P) sum_n |phi_n|^2

with h the features without dropout, phi_n = (h_n, 1) of P numbers, (W0, b0) the model's own last layer, a
one over a temperature, and m_t the masks of pass t. The labels of the texts are not used.

Bulò, Porzi and Kontschieder, "Dropout Distillation" (ICML 2016), who fit a whole network to the passes by
stochastic gradients, from the trained one on. Here the last layer alone is fitted, to the mean of stratified
passes, so that both losses are convex and their minima are found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import entr, logsumexp, softmax

from calibench.errors import CalibenchError, UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.passes import at_least, checked_softmax
from calibench.models.plan import map_batches
from calibench.models.train_features import train_features
from calibench.types import Batch, FloatArray, IntArray, LabelledPlan, Plan, Predictive
from calibench_methods.sampling.copies import Copies

#: Copies per stratum of the teacher's passes.
STRATUM = 10
#: Candidates for s, strongest first.
STRENGTHS = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
FOLDS = 3
#: Bound of a.
CAP = 20.0
#: Fewest texts among which a strength is chosen; with fewer, folds agree by luck.
FEWEST = 30
#: Fits aim for a gradient below the first, in nats per standard deviation of a parameter, and fail above the
#: second.
TOLERANCE, WORST = 1e-5, 1e-3


class McDropoutDistilled(Method):
    """A last layer that answers in one pass what the mean of T passes would, as far as it can.

    Everything before the last layer is the checkpoint's, without dropout. Fitting takes T passes over the
    training texts, in strata of ten, and one to read the features; it is charged as such. With masks keyed by
    (teacher_seed, data set row, site, unit, stratum) no batch plan changes what the teacher says, and the
    seed of `predict` has no effect.

    The penalty pulls towards the model's own layer at the temperature that is nearest to the teacher, from
    which the fit departs only as far as it pays: s is chosen by three-fold cross-validation of the divergence
    from the teacher's answers, from the strongest of `STRENGTHS` down until it rises. Where none lowers the
    divergence, the temperature is all that is learnt; with fewer than `FEWEST` texts nothing is.

    What is not linear in the features is not learnt, and how far the passes of a text spread is not. Nor is
    what the texts do not show: those that the model was trained on show passes that agree. On CLINC150, 500
    texts that it had not seen taught more than 10,000 that it had, and little beyond the temperature.

    It runs on PyTorch alone, for its teacher needs dropout that is live.

    Args:
        checkpoint: the model; the teacher works on a twin of it.
        teacher_passes: T, at least 1.
        strength: s, above 0; 0 to choose it.
        teacher_seed: of the teacher's masks.
        memory_budget_mb: MiB of tensors that a forward pass of the teacher may make; 0 means a share of what
            is free when the method is made, 80% on a CUDA device and 25% on a host.

    Raises:
        UsageError: a parameter is out of range, or `predict` comes before `fit`.
        RefusedError: the model has no dropout, or draws in a way that keyed masks cannot answer, or its
            logits are not the output of a linear layer of one vector per text.
    """

    encoder: Encoder
    needs_train: ClassVar[bool] = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        teacher_passes: int = 10,
        strength: float = 0.0,
        teacher_seed: int = 0,
        memory_budget_mb: int = 0,
    ) -> None:
        super().__init__(checkpoint)
        self._passes = at_least(1, "teacher_passes", teacher_passes)
        if not 0.0 <= strength < math.inf:
            raise UsageError(f"strength is {strength:g}, but must be above 0, or 0 to choose it by the data.")
        self._stated = strength
        self._seed = teacher_seed
        self._checkpoint = checkpoint
        self.encoder = Encoder(checkpoint)
        self._teacher = Copies(
            checkpoint,
            method="mc-dropout-distilled",
            stratum=STRATUM,
            independent=False,
            memory_budget_mb=memory_budget_mb,
            first_token=True,
        )
        self._distilled: Distilled | None = None

    def fit(self, train: LabelledPlan) -> None:
        found = train_features(self._checkpoint, self.encoder, train)
        taught = self._teacher.predict(train.plan, self._passes, seed=self._seed, keep_samples=False)
        self._distilled = distil(
            found.features, found.logits, taught.probs, strength=self._stated, rows=train.plan.rows
        )

    @property
    def learnt(self) -> Mapping[str, Any]:
        """Temperature, strength (None where there is only the temperature), and divergences from the teacher.

        Those of the fitted layer and of the model's own are over the texts it was fitted to, in nats; a part
        of both is the noise of the teacher's own passes.
        """
        found = self._distilled
        if found is None:
            return {}
        return {
            "temperature": 1 / found.sharpness,
            "strength": found.strength,
            "divergence": found.divergence,
            "divergence_of_own_layer": found.divergence_of_own_layer,
        }

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        found = self._distilled
        if found is None:
            raise UsageError("mc-dropout-distilled learns from training texts: call fit before predict.")

        def probs(batch: Batch) -> FloatArray:
            encoded = self.encoder(batch)
            checked_softmax(encoded.logits[None], plan.rows[batch.index])
            features = encoded.features.to("cpu").double().numpy()
            return found.probs(features, encoded.logits.to("cpu").double().numpy())

        return Predictive(
            map_batches(plan, probs), passes=np.ones(len(plan), dtype=np.int64), notes=self._teacher.notes()
        )


@dataclass(frozen=True, eq=False)
class Distilled:
    """A last layer, as what it makes of the model's own.

    Attributes:
        sharpness: a, by which the model's own layer is multiplied.
        change: float64 [C, P], what is added to its weights and, in the last column, its bias.
        strength: s, or None where nothing is added.
        divergence, divergence_of_own_layer: mean over the texts of the fit, in nats, from the teacher.
    """

    sharpness: float
    change: FloatArray
    strength: float | None
    divergence: float
    divergence_of_own_layer: float

    def probs(self, features: FloatArray, logits: FloatArray) -> FloatArray:
        """The distribution over classes, float64 [B, C].

        Args:
            features: float64 [B, P - 1].
            logits: float64 [B, C], of the model's own layer.
        """
        found: FloatArray = softmax(self.sharpness * logits + _with_one(features) @ self.change.T, axis=1)
        return found


def distil(features: Any, logits: Any, teacher: FloatArray, *, strength: float, rows: IntArray) -> Distilled:
    """The last layer nearest to the teacher's answers.

    Args:
        features: [N, P - 1], in any float type.
        logits: [N, C], of the model's own layer.
        teacher: float64 [N, C], distributions.
        strength: s, or 0 to choose it.
        rows: int64 [N], data set rows, by which texts are dealt into folds.

    Raises:
        CalibenchError: the fit did not converge.
    """
    phi, own = _with_one(np.asarray(features, dtype=np.float64)), np.asarray(logits, dtype=np.float64)
    sharpness = nearest_sharpness(own, teacher) if strength or len(phi) >= FEWEST else 1.0
    scores = sharpness * own
    chosen = strength or _chosen(phi, scores, teacher, rows)
    change = np.zeros((own.shape[1], phi.shape[1]))
    if chosen is not None:
        change = Fit(phi, scores, teacher).minimum(chosen)
    divergences = (float(_divergence(teacher, x).mean()) for x in (scores + phi @ change.T, own))
    return Distilled(sharpness, change, chosen, *divergences)


def nearest_sharpness(own: FloatArray, teacher: FloatArray) -> float:
    """The a in 1 / `CAP` to `CAP` for which softmax(a own) is nearest to the teacher, over texts [N, C].

    The loss is convex in a: its derivative changes sign once.
    """

    def slope(sharpness: float) -> float:
        return float(((softmax(sharpness * own, axis=1) - teacher) * own).sum()) / len(own)

    if slope(1 / CAP) >= 0:
        return 1 / CAP
    return CAP if slope(CAP) <= 0 else float(brentq(slope, 1 / CAP, CAP, xtol=1e-12))


def _chosen(phi: FloatArray, own: FloatArray, teacher: FloatArray, rows: IntArray) -> float | None:
    """The strength before the one at which the held-out divergence rises; None for no change."""
    if len(phi) < FEWEST:
        return None
    held_out = [folds(rows) == fold for fold in range(FOLDS)]
    fits = [Fit(phi[~out], own[~out], teacher[~out]) for out in held_out]
    best, least = None, float(_divergence(teacher, own).sum())
    changes = [np.zeros((own.shape[1], phi.shape[1]))] * FOLDS
    for strength in STRENGTHS:
        changes = [fit.minimum(strength, start) for fit, start in zip(fits, changes, strict=True)]
        scores = np.empty_like(own)
        for out, change in zip(held_out, changes, strict=True):
            scores[out] = own[out] + phi[out] @ change.T
        total = float(_divergence(teacher, scores).sum())
        if total >= least:
            break
        best, least = strength, total
    return best


def folds(rows: IntArray) -> IntArray:
    """The fold of each text, int64 [N], by its data set row: the order of a plan is of no account."""
    fold = np.empty(len(rows), dtype=np.int64)
    fold[np.argsort(rows, kind="stable")] = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    return fold


class Fit:
    """The strictly convex loss over changes of the last layer, [C, P], and its minimum.

    L-BFGS in the eigenvectors of the features' second moments, each scaled to a curvature of about one:
    features are all but collinear, and without it there are many times as many steps.

    Args:
        phi: float64 [N, P], features with a 1.
        own: float64 [N, C], logits of the layer that is changed.
        teacher: float64 [N, C], distributions.
    """

    def __init__(self, phi: FloatArray, own: FloatArray, teacher: FloatArray) -> None:
        self._phi, self._own, self._teacher = phi, own, teacher
        values, self._vectors = np.linalg.eigh(phi.T @ phi / len(phi))
        self._moments = np.maximum(values, 0.0)
        probs = softmax(own, axis=1)
        self._curvature = float((probs * (1 - probs)).mean())

    def penalty(self, strength: float) -> float:
        """By what half the squared norm of a change is multiplied: s v."""
        return strength * float(self._moments.mean())

    def loss(self, change: FloatArray, strength: float) -> tuple[float, FloatArray]:
        """The loss in nats, less the teacher's own entropy, and its gradient [C, P]."""
        weight = self.penalty(strength)
        loss, residual = self._cross_entropy(self._own + self._phi @ change.T)
        gradient = residual.T @ self._phi + weight * change
        return loss + weight / 2 * float(np.square(change).sum()), gradient

    def minimum(self, strength: float, start: FloatArray | None = None) -> FloatArray:
        """The change with the least loss, [C, P].

        Args:
            start: where the search begins; None for no change.

        Raises:
            CalibenchError: the fit did not converge.
        """
        weight = self.penalty(strength)
        scale = 1 / np.sqrt(self._curvature * self._moments + weight)
        basis = self._vectors * scale
        phi = self._phi @ basis
        shape = self._own.shape[1], len(scale)

        def objective(steps: FloatArray) -> tuple[float, FloatArray]:
            z = steps.reshape(shape)
            loss, residual = self._cross_entropy(self._own + phi @ z.T)
            penalised = weight * np.square(scale) * z
            return loss + float((penalised * z).sum()) / 2, (residual.T @ phi + penalised).ravel()

        begin = np.zeros(shape) if start is None else (start @ self._vectors) / scale
        options = {"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 0.0, "gtol": TOLERANCE}
        found = minimize(objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
        steepest = float(np.abs(found.jac).max())
        if not steepest < WORST:
            raise CalibenchError(
                f"The distillation stopped at a gradient of {steepest:.2g} where {TOLERANCE:g} was wanted "
                f"({found.message}); state a larger strength."
            )
        change: FloatArray = found.x.reshape(shape) @ basis.T
        return change

    def _cross_entropy(self, scores: FloatArray) -> tuple[float, FloatArray]:
        """Mean of -sum_c q_c log softmax(scores)_c, and its derivative by the scores, [N, C]."""
        log_probs = scores - logsumexp(scores, axis=1, keepdims=True)
        residual = (np.exp(log_probs) - self._teacher) / len(scores)
        return -float((self._teacher * log_probs).sum()) / len(scores), residual


def _with_one(features: FloatArray) -> FloatArray:
    """Features with the 1 that the bias multiplies, also where the model's own layer has none."""
    return np.pad(features, ((0, 0), (0, 1)), constant_values=1.0)


def _divergence(teacher: FloatArray, scores: FloatArray) -> FloatArray:
    """KL(q || softmax(scores)) by text, float64 [N]."""
    log_probs = scores - logsumexp(scores, axis=1, keepdims=True)
    found: FloatArray = -(entr(teacher) + teacher * log_probs).sum(axis=1)
    return found
