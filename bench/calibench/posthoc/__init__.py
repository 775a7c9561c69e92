"""Post-hoc calibration: maps from a method's probabilities to better ones, learnt from labelled predictions.

One file per calibrator, found by entry point in the group `calibench.posthoc`.
"""

from calibench.posthoc.base import LOG_FLOOR, Calibrator, log_of, softmax
from calibench.posthoc.crossfit import FOLDS, CrossFitted, cross_fit
from calibench.posthoc.folds import stratified_folds

__all__ = [
    "FOLDS",
    "LOG_FLOOR",
    "Calibrator",
    "CrossFitted",
    "cross_fit",
    "log_of",
    "softmax",
    "stratified_folds",
]
