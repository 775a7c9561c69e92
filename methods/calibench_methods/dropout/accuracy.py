"""How far the mean of a text's passes is from the limit of many: the standard error that is reported.

When to stop is another question, `allocation` answers it, and it has to be cautious: two passes that agree
must not pass for certainty. An error that is reported has to be right: over texts that spent equally many
passes its mean square is to be that of the distance to the limit.

The log-odds of the predicted class are taken as normal over passes, with a flat prior for their mean and
one for their standard deviation that prefers small ones. The stopping rule looks at nothing but the passes,
so that the posterior needs no correction for it. What is linear in the log-odds cancels within a stratum,
most of it; what is not stays, and a probability near 0 or 1 is curved. See docs/fast-mc-dropout.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calibench.types import FloatArray
from calibench_methods.dropout.allocation import ENOUGH, predicted_class

#: Standard deviations of the log-odds over passes, and the power of them that weighs them a priori: those of
#: fine-tuned encoders lie between .3, far from the boundary, where most texts are, and 2.
SPREADS = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0])
PREFERENCE = -1.75
#: The share of the log-odds' variance that is additive in the masks.
ADDITIVE = 0.75
#: From `ENOUGH` passes on the spread of the probabilities counts beside that of the log-odds, and from two
#: strata on that of their means: what was believed before is worth so many passes, and so many strata.
BELIEF = 8.0
#: Texts at a time: each takes a few thousand numbers.
CHUNK = 512
_X, _X_WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_X_WEIGHTS = _X_WEIGHTS / _X_WEIGHTS.sum()
_Z, _Z_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_Z_WEIGHTS = _Z_WEIGHTS / _Z_WEIGHTS.sum()


def mask_correlation(rates: Sequence[float], stratum: int) -> float:
    """Correlation of a unit's masks in two passes of a stratum, the mean over sites; 0 where none drops.

    Args:
        rates: drop probabilities of the sites.
        stratum: copies per stratum, at least 2.
    """
    found = []
    for p in rates:
        if 0.0 < p < 1.0:
            left = math.fmod(round(stratum * p, 9), 1.0)
            found.append((left * (1.0 - left) / (stratum * p * (1.0 - p)) - 1.0) / (stratum - 1))
    return sum(found) / len(found) if found else 0.0


def error_of_mean(samples: FloatArray, stratum: int, correlation: float) -> FloatArray:
    """Root of the expected squared distance of the predicted class's mean probability from its limit.

    Args:
        samples: float64 [T, N, C], the softmax of T >= 2 passes, in strata.
        stratum: copies per stratum.
        correlation: of a unit's masks within a stratum, see `mask_correlation`.

    Returns:
        float64 [N].
    """
    chosen = predicted_class(samples)[None, :, None]
    p = np.take_along_axis(samples, chosen, axis=2)[..., 0]
    parts = [
        _squared_error(p[:, start : start + CHUNK], stratum, correlation)
        for start in range(0, p.shape[1], CHUNK)
    ]
    error: FloatArray = np.sqrt(np.concatenate([np.zeros(0), *parts]))
    return error


def _squared_error(p: FloatArray, stratum: int, correlation: float) -> FloatArray:
    """The same squared, for probabilities [T, N]."""
    passes, tiny = len(p), np.finfo(np.float64).tiny
    linear, curved = _factors(passes, stratum, correlation)
    logit = np.log(np.maximum(p, tiny)) - np.log1p(-np.minimum(p, 1 - 1e-12))
    centre = logit.mean(axis=0)
    squares = ((logit - centre) ** 2).sum(axis=0)
    belief = -squares[:, None] / (2 * SPREADS**2) + (PREFERENCE - passes + 1) * np.log(SPREADS)
    weights = np.exp(belief - belief.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)

    # [N, spreads, centres, log-odds of a pass]
    centres = centre[:, None, None] + (SPREADS * math.sqrt(linear / passes))[:, None] * _Z
    x = centres[..., None] + SPREADS[:, None, None] * _X
    values = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    limit = values @ _X_WEIGHTS
    apart = values - limit[..., None]

    def expected(over: FloatArray) -> FloatArray:
        found: FloatArray = ((over @ _Z_WEIGHTS) * weights).sum(axis=1)
        return found

    mean = p.mean(axis=0)
    if passes < ENOUGH:
        return expected((mean[:, None, None] - limit) ** 2)
    variance = expected(apart**2 @ _X_WEIGHTS)
    straight = expected(((apart * _X) @ _X_WEIGHTS) ** 2)
    share = (linear * straight + curved * (variance - straight) + tiny) / (variance + tiny)
    seen = ((p - mean) ** 2).sum(axis=0)
    error = share * (BELIEF * variance + seen) / (BELIEF + passes - 1) / passes
    return _with_strata(error, p, stratum)


def _factors(passes: int, stratum: int, correlation: float) -> tuple[float, float]:
    """By what strata change the variance of the mean, of what is linear in the log-odds and of what is not.

    The k-th order of a variance is multiplied by 1 + (m - 1) correlation^k over m passes of a stratum.
    """
    sizes = [min(stratum, passes - start) for start in range(0, passes, stratum)]
    first, second = (sum(m * (1 + (m - 1) * correlation**k) for m in sizes) / passes for k in (1, 2))
    return ADDITIVE * first + (1 - ADDITIVE) * second, second


def _with_strata(error: FloatArray, p: FloatArray, stratum: int) -> FloatArray:
    """The squared error, with what the means of whole strata say of it where there are two or more."""
    count = len(p) // stratum
    if count < 2:
        return error
    means = p[: count * stratum].reshape(count, stratum, -1).mean(axis=1)
    between: FloatArray = (BELIEF * error + (count - 1) * means.var(axis=0, ddof=1) / count) / (
        BELIEF + count - 1
    )
    return between
