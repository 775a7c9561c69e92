"""Mean probability of the predicted class."""

from calibench import Metric

MEAN_CONFIDENCE = Metric(
    name="mean_confidence",
    title="Mean confidence",
    better="higher",
    evaluate=lambda evaluation: float(evaluation.probs.max(axis=1).mean()),
)
