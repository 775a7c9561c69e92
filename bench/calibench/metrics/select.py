"""Names of metrics -> the metrics that apply."""

from __future__ import annotations

from collections.abc import Sequence

from calibench.errors import UsageError
from calibench.registry import METRICS
from calibench.types import Metric


def select_metrics(
    names: Sequence[str], *, posterior_known: bool, out_of_scope: bool = False, classes_known: bool = True
) -> list[Metric]:
    """The named metrics, or every registered one that applies.

    Args:
        out_of_scope: whether some examples are out of scope.
        classes_known: whether every class has a probability, and not the answer alone.

    Raises:
        UsageError: an unknown name, or a metric that needs a posterior nobody knows, or examples out of scope
            where there are none, or classes likewise.
    """
    metrics: list[Metric] = [METRICS.load(name) for name in names or METRICS.names()]
    for metric in metrics:
        if names and metric.needs_posterior and not posterior_known:
            raise UsageError(
                f"The metric {metric.name!r} needs the true probability of each label, which this data set "
                "does not come with; leave it out."
            )
        if names and metric.needs_out_of_scope and not out_of_scope:
            raise UsageError(
                f"The metric {metric.name!r} needs examples out of scope, which this data set does not have; "
                "leave it out, or declare labels out_of_scope in the suite."
            )
        if names and metric.needs_classes and not classes_known:
            raise UsageError(
                f"The metric {metric.name!r} needs the probability of every class, and these predictions "
                "hold the confidence of an answer; leave it out."
            )
    metrics = [metric for metric in metrics if classes_known or not metric.needs_classes]
    known = [metric for metric in metrics if posterior_known or not metric.needs_posterior]
    return [metric for metric in known if out_of_scope or not metric.needs_out_of_scope]
