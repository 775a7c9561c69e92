"""Names of metrics -> the metrics that apply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from calibench.errors import CalibenchError, UsageError
from calibench.registry import METRICS, distribution
from calibench.types import Metric

#: Where the definition of a third party's metric names who registers it, as a record has it.
REGISTERED_BY = "distribution"


def select_metrics(
    names: Sequence[str], *, posterior_known: bool, out_of_scope: bool = False, classes_known: bool = True
) -> list[Metric]:
    """The named metrics, or every registered one that applies.

    Args:
        out_of_scope: whether some examples are out of scope.
        classes_known: whether every class has a probability, and not the answer alone.

    A third party's metric has who registers it in its definition. One that is none is left out, unless it is
    named; see `left_out_metrics`.

    Raises:
        UsageError: an unknown name, or a metric that needs a posterior nobody knows, or examples out of scope
            where there are none, or classes likewise.
        CalibenchError: a named one cannot be imported, or is no metric.
    """
    found = {name: _loaded(name) for name in names or METRICS.names()}
    for metric in found.values():
        if names and isinstance(metric, CalibenchError):
            raise metric
    metrics = [metric for metric in found.values() if isinstance(metric, Metric)]
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


def left_out_metrics(names: Sequence[str]) -> list[str]:
    """A sentence for each registered metric that is none; nothing where metrics are named."""
    found = [] if names else [_loaded(name) for name in third_parties(names)]
    return [f"{error} It is left out." for error in found if isinstance(error, CalibenchError)]


def title_of(name: str) -> str:
    """What a listing says of a registered metric: its title, or why it is none."""
    found = _loaded(name)
    return str(found) if isinstance(found, CalibenchError) else found.title


def third_parties(names: Sequence[str]) -> dict[str, str]:
    """Who registers the named metrics, or all of them, that are not calibench's own; nothing is imported.

    Raises:
        UsageError: an unknown name, or one that is registered twice.
    """
    found = {name: distribution(METRICS.entry_point(name)) for name in names or METRICS.names()}
    return {name: whose for name, whose in found.items() if not whose.startswith("calibench ")}


def _loaded(name: str) -> Metric | CalibenchError:
    """The metric, or why it is none."""
    try:
        whose = third_parties([name]).get(name)
        metric: Metric = METRICS.load(name)
        return metric if whose is None else _named(name, metric, whose)
    except CalibenchError as error:
        return error


def _named(name: str, metric: object, whose: str) -> Metric:
    """A third party's metric with who registers it in its definition."""
    repair = "repair or uninstall that package."
    if not isinstance(metric, Metric):
        raise CalibenchError(
            f"The metric {name!r} from {whose} is a {type(metric).__name__}; expected a calibench.Metric: "
            f"{repair}"
        )
    if metric.name != name:
        raise CalibenchError(
            f"The metric {name!r} from {whose} calls itself {metric.name!r}; expected the name that it is "
            f"registered by: {repair}"
        )
    try:
        definition = json.loads(json.dumps(dict(metric.definition), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CalibenchError(
            f"The metric {name!r} from {whose} has a definition that a record cannot hold ({error}): {repair}"
        ) from error
    return replace(metric, definition=definition | {REGISTERED_BY: whose})
