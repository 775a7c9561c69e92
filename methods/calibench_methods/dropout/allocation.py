"""How many passes each text gets: the spread of its passes, estimated from few, and when to stop.

A text with standard deviation s over passes has the squared standard error s^2 / n after n passes. Going on
to n' passes lowers it by s^2 / (n n') for each pass: the mean over texts is lowered most for the passes spent
if all texts stop at the same gain, which makes n proportional to s. One standard error for every text makes n
proportional to s^2, and its mean squared error then takes as many passes as giving each text the same number.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibench.types import FloatArray, IntArray

#: The first passes of every text: the fewest that show a spread.
PILOT = 2
#: Where texts may leave within the first stratum: a second look, before it is made whole.
SECOND = 4
# A priori, the predicted class's log-odds vary over passes by 1.5; this is worth eight passes of evidence.
PRIOR_SPREAD, PRIOR_WEIGHT = 1.5, 8.0
# From so many passes on, the spread of the probabilities themselves counts too.
ENOUGH = 10
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def rungs(stratum: int, most: int) -> list[int]:
    """Numbers of passes after which it is decided which texts go on, ending at `most`.

    A pilot, a second look, whole strata from then on, each twice the one before: the first passes are those
    of a stratum, so that none is thrown away.
    """
    found = [min(PILOT, most)]
    if min(stratum, most) > SECOND:
        found.append(SECOND)
    size = max(stratum, PILOT)
    while size < most:
        if size > found[-1]:
            found.append(size)
        size *= 2
    return [*found, most] if most > found[-1] else found


def predicted_class(samples: FloatArray) -> IntArray:
    """The class with the largest mean probability, int64 [N], of samples [T, N, C]."""
    found: IntArray = samples.mean(axis=0).argmax(axis=1)
    return found


def estimated_spread(samples: FloatArray) -> FloatArray:
    """Standard deviation over passes of the predicted class's probability, from as few passes as two.

    The log-odds are taken as normal, their variance as scaled inverse chi-squared a posteriori with a weak
    prior, so that two passes which happen to agree do not pass for certainty; the spread is that of the
    logistic function of such log-odds, by Gauss-Hermite quadrature. With `ENOUGH` passes it only serves as a
    prior for the spread of the probabilities themselves. The passes of a stratum are taken as independent,
    which is conservative; see docs/fast-mc-dropout.md.

    Args:
        samples: float64 [T, N, C], the softmax of T >= 2 passes.

    Returns:
        float64 [N].
    """
    passes = len(samples)
    chosen = predicted_class(samples)[None, :, None]
    p = np.take_along_axis(samples, chosen, axis=2)[..., 0]
    tiny = np.finfo(np.float64).tiny
    logit = np.log(np.maximum(p, tiny)) - np.log1p(-np.minimum(p, 1 - 1e-12))
    centre = logit.mean(axis=0)
    freedom = PRIOR_WEIGHT + passes - 1
    squares = ((logit - centre) ** 2).sum(axis=0)
    scale = np.sqrt((PRIOR_WEIGHT * PRIOR_SPREAD**2 + squares) / freedom)
    spread = _logistic_spread(centre, scale * math.sqrt(1 + 1 / passes))
    if passes < ENOUGH:
        return spread
    seen = ((p - p.mean(axis=0)) ** 2).sum(axis=0)
    mixed: FloatArray = np.sqrt((PRIOR_WEIGHT * spread**2 + seen) / freedom)
    return mixed


def _logistic_spread(centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Standard deviation of 1 / (1 + exp(-x)) for x normal, float64 [N]."""
    x = centre[:, None] + scale[:, None] * _NODES
    values = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    means = values @ _WEIGHTS
    spread: FloatArray = np.sqrt(((values - means[:, None]) ** 2) @ _WEIGHTS)
    return spread


def go_on(
    spread: FloatArray, done: int, following: int, tolerance: float, *, each: bool
) -> NDArray[np.bool_]:
    """Which texts go on from `done` passes to `following`.

    Args:
        spread: float64 [N], as `estimated_spread` gives it.
        tolerance: in units of probability. With `each`, the standard error at which a text stops. Otherwise
            its square is the gain at which it does: by how much one more pass must lower the squared standard
            error on average.

    Returns:
        bool [N].
    """
    limit = math.sqrt(done) if each else math.sqrt(done * following)
    needed: NDArray[np.bool_] = spread > tolerance * limit
    return needed
