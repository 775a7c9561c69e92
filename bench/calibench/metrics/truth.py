"""Errors against the true posterior, where the data set knows it: no label noise enters."""

from __future__ import annotations

import numpy as np

from calibench.errors import CalibenchError
from calibench.metrics.binning import Outcome, binned_metric, equal_width, l1, no_spread, of_predicted
from calibench.metrics.inputs import checked
from calibench.metrics.scoring import mean_metric
from calibench.types import Evaluation, FloatArray


def true_posterior(evaluation: Evaluation) -> FloatArray:
    """P(label | text), float64 [N, C].

    Raises:
        CalibenchError: where the data set does not know it.
    """
    if evaluation.posterior is None:
        raise CalibenchError(
            "This metric compares with the true posterior, which this data set does not have; leave it out "
            "or use a data set that knows it, such as `embedded`."
        )
    return checked(evaluation).posterior  # type: ignore[return-value]  # just seen not to be None


def total_variation(evaluation: Evaluation) -> FloatArray:
    """Half of sum_c |P(c | x) - p_c(x)|, float64 [N]; for two classes |P(1 | x) - p_1(x)|."""
    posterior = true_posterior(evaluation)
    distance: FloatArray = 0.5 * np.abs(posterior - evaluation.probs).sum(axis=1)
    return distance


def _expected(evaluation: Evaluation) -> FloatArray:
    """How often the predicted class is right, float64 [N, 1]."""
    return of_predicted(evaluation, true_posterior(evaluation))


POSTERIOR_ERROR = mean_metric(
    "posterior_error",
    "posterior error",
    "lower",
    total_variation,
    {"distance": "total variation, mean over examples"},
    needs_posterior=True,
)
ECE_TRUE = binned_metric(
    "ece_true",
    "true ECE",
    equal_width(10),
    l1(),
    outcome=Outcome(of_predicted, _expected, no_spread),
    definition={"labels": "replaced by the true posterior of the predicted class"},
    needs_posterior=True,
)
