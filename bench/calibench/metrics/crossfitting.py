"""What cross-fitting hides from a calibration error, and how much that is.

Each example is scored by a calibrator that has not seen it, and still the examples together look better
calibrated than new ones would: where a fold happens to be right more often than it should, the calibrators of
all other folds have learnt to expect that. To first order the residuals of the folds add up to zero in every
direction in which the calibrator can move, as they would had it been fitted on all of them, where residuals
of new examples vary by their own noise and by the calibrator's. What is missing is twice the calibrator's
covariance, and that is seen in how far the calibrators of the folds are apart: the delete-group jackknife
(Quenouille 1956, Shao and Wu 1989).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calibench.types import FloatArray

#: Draws of the missing noise, in pairs of opposite sign, always the same ones.
DRAWS = 400


def optimism(sums: FloatArray, refitted: FloatArray, value_of: Callable[[FloatArray], FloatArray]) -> float:
    """How much more a value is expected to be on new examples than on cross-fitted ones.

    Right to first order for calibrators that move smoothly with their examples; for isotonic regression,
    whose steps jump, it is too much rather than too little.

    Args:
        sums: float64 [G], sums of residuals by group of examples.
        refitted: float64 [F, G], sums of the confidences that each fold's calibrator gives all examples.
        value_of: maps sums of residuals, float64 [R, G], to values, float64 [R].
    """
    folds = len(refitted)
    apart = (refitted - refitted.mean(axis=0)) * np.sqrt(2.0 * (folds - 1) / folds)
    half = np.random.default_rng(0).standard_normal((DRAWS // 2, folds)) @ apart
    return float(value_of(sums + np.concatenate([half, -half])).mean() - value_of(sums[None])[0])
