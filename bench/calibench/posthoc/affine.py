"""Maximum a posteriori fits of softmax regressions whose scores are linear in features of each class.

N is the number of examples, C of classes, D of features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from calibench.errors import CalibenchError
from calibench.posthoc.base import softmax
from calibench.types import FloatArray, IntArray

#: Fits aim for a gradient below this, in nats per standard deviation that the data leave a parameter ...
TOLERANCE = 1e-5
#: ... and fail above this; between the two the line search has met the limit of float64.
WORST = 1e-3


@dataclass(frozen=True, eq=False)
class Prior:
    """A normal prior on the parameters, scaled so that it adds to a mean loss.

    Attributes:
        centre: float64 [C, D].
        weight: float64 [C, D]; the penalty is the sum of weight * (theta - centre)^2 / 2.
    """

    centre: FloatArray
    weight: FloatArray


def loss_and_residual(scores: FloatArray, labels: IntArray) -> tuple[float, FloatArray]:
    """Mean negative log-likelihood of softmax(scores) in nats, and its derivative by the scores.

    Args:
        scores: float64 [N, C].
        labels: int64 [N].

    Returns:
        The loss, and (softmax(scores) - one-hot labels) / N, float64 [N, C].
    """
    rows = np.arange(len(labels))
    shifted = scores - scores.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    sums = weights.sum(axis=1)
    loss = float(np.mean(np.log(sums) - shifted[rows, labels]))
    residual = weights / sums[:, None]
    residual[rows, labels] -= 1
    return loss, residual / len(labels)


def scores_of(features: FloatArray, theta: FloatArray) -> FloatArray:
    """Scores, float64 [N, C].

    Args:
        features: float64 [N, D], the same for every class, or [C, N, D].
        theta: float64 [C, D].
    """
    pattern = "nd,cd->nc" if features.ndim == 2 else "cnd,cd->nc"
    scores: FloatArray = np.einsum(pattern, features, theta, optimize=True)
    return scores


def fit_affine(
    features: FloatArray, labels: IntArray, prior: Prior, start: FloatArray | None = None
) -> FloatArray:
    """The parameters of largest posterior density, float64 [C, D].

    L-BFGS in coordinates in which the block of the Hessian that belongs to each class is the identity at the
    start: log-probabilities of many classes are all but collinear, and plain L-BFGS takes over ten times as
    many steps.

    Args:
        features: float64 [N, D], the same for every class, or [C, N, D].
        labels: int64 [N].
        prior: where its weights are positive, the minimum exists and is unique.
        start: float64 [C, D]; None for the prior's centre.

    Raises:
        CalibenchError: the fit did not converge.
    """
    origin = prior.centre if start is None else start
    factors = _whitening(features, origin, prior)

    def parameters(steps: FloatArray) -> FloatArray:
        theta: FloatArray = origin + np.einsum("ced,ce->cd", factors, steps.reshape(origin.shape))
        return theta

    def objective(steps: FloatArray) -> tuple[float, FloatArray]:
        theta = parameters(steps)
        loss, residual = loss_and_residual(scores_of(features, theta), labels)
        away = theta - prior.centre
        pattern = "nc,nd->cd" if features.ndim == 2 else "nc,cnd->cd"
        gradient = np.einsum(pattern, residual, features, optimize=True) + prior.weight * away
        penalty = float(np.sum(prior.weight * away**2)) / 2
        return loss + penalty, np.einsum("ced,cd->ce", factors, gradient).ravel()

    return parameters(_minimise(objective, origin.size))


def _whitening(features: FloatArray, theta: FloatArray, prior: Prior) -> FloatArray:
    """For each class the inverse Cholesky factor of its block of the Hessian at `theta`, [C, D, D]."""
    probs = softmax(scores_of(features, theta))
    curvature = probs * (1 - probs) / len(probs)
    classes, width = theta.shape
    factors = np.empty((classes, width, width))
    for i in range(classes):
        own = features if features.ndim == 2 else features[i]
        hessian = (own * curvature[:, i, None]).T @ own + np.diag(prior.weight[i])
        # Without a prior the block may be singular to rounding.
        hessian += 1e-10 * np.trace(hessian) / width * np.eye(width)
        factors[i] = np.linalg.inv(np.linalg.cholesky(hessian))
    return factors


def _minimise(objective: Callable[[FloatArray], tuple[float, FloatArray]], size: int) -> FloatArray:
    found = minimize(
        objective,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 0.0, "gtol": TOLERANCE},
    )
    steepest = float(np.abs(found.jac).max())
    if not steepest < WORST:
        raise CalibenchError(
            f"A post-hoc fit stopped at a gradient of {steepest:.2g} where {TOLERANCE:g} was wanted "
            f"({found.message}); use temperature, which has a single parameter."
        )
    best: FloatArray = found.x
    return best
