"""Limits of the gate: how much worse a number may get, and how large or small it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from calibench.compare.runs import Run
from calibench.errors import UsageError, unknown
from calibench.metrics.select import select_metrics
from calibench.registry import METRICS

#: What is limited, by the option that says so: a change for the worse, the largest value or the smallest.
Kind = Literal["max-regression", "max", "min"]
CHANGE: Kind = "max-regression"
MOST: Kind = "max"
LEAST: Kind = "min"

#: Whose change between two runs is a share of the base's.
SPEEDS = ("throughput", "latency")


@dataclass(frozen=True)
class Cost:
    """A cost that a record holds with an interval.

    Attributes:
        path: of its field.
        better: which direction is better.
        per: what its interval is over.
        unit: of its value, as it is written behind it.
    """

    path: tuple[str, ...]
    better: Literal["lower", "higher"]
    per: Literal["blocks", "requests"]
    unit: str = ""


COSTS: Mapping[str, Cost] = {
    "cost_ratio": Cost(("cost_ratio",), "lower", "blocks"),
    "latency_ratio": Cost(("latency_ratio",), "lower", "requests"),
    "latency_p50": Cost(("timing", "latency_ms", "p50"), "lower", "requests", " ms"),
    "latency_p90": Cost(("timing", "latency_ms", "p90"), "lower", "requests", " ms"),
    "latency_p95": Cost(("timing", "latency_ms", "p95"), "lower", "requests", " ms"),
    "latency_p99": Cost(("timing", "latency_ms", "p99"), "lower", "requests", " ms"),
    "sentences_per_s": Cost(("timing", "throughput", "sentences_per_s"), "higher", "blocks"),
    "tokens_per_s": Cost(("timing", "throughput", "tokens_per_s"), "higher", "blocks"),
}
_EXPECTED = {
    CHANGE: "NAME=AMOUNT, such as ece=0.01 or throughput=5%",
    MOST: "NAME=VALUE or ROW:NAME=VALUE, such as ece=0.05 or temperature:latency_p50=20",
    LEAST: "NAME=VALUE or ROW:NAME=VALUE, such as accuracy=0.9 or temperature:accuracy=0.9",
}
#: Names of rows have commas in brackets only.
_BETWEEN = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True)
class Limit:
    """How much worse a number may get, or where it has to lie.

    Attributes:
        name: a metric's; of a change one of `SPEEDS` too, of a value one of `COSTS`.
        amount: in the number's units, and of a change of speed as a share of the base's.
        row: the rows that it is about, as of `Run.rows`; None for all of them.
    """

    name: str
    amount: float
    kind: Kind = CHANGE
    row: str | None = None

    @property
    def is_speed(self) -> bool:
        """Whether it limits a change of throughput or latency."""
        return self.kind == CHANGE and self.name in SPEEDS

    @property
    def amount_text(self) -> str:
        """`0.01`, `5%` or `20 ms`."""
        if self.is_speed:
            return f"{100 * self.amount:g}%"
        return f"{self.amount:g}{COSTS[self.name].unit if self.name in COSTS else ''}"

    def __str__(self) -> str:
        amount = f"{100 * self.amount:g}%" if self.is_speed else f"{self.amount:g}"
        return f"{f'{self.row}:' if self.row else ''}{self.name}={amount}"


def parse_limits(texts: Iterable[str], kind: Kind = CHANGE) -> list[Limit]:
    """`ece=0.01,throughput=5%` or `temperature:ece=0.05`, in one text or in several.

    Raises:
        UsageError: what is no limit, a name that is not known, a largest value where more is better or the
            other way round, or one limit too many for a name.
    """
    limits: dict[tuple[str | None, str], Limit] = {}
    for part in (part.strip() for text in texts for part in _BETWEEN.split(text)):
        limit = _parsed(part, kind)
        if (limit.row, limit.name) in limits:
            raise UsageError(f"There are two limits for {str(limit).rpartition('=')[0]}; give one.")
        limits[limit.row, limit.name] = limit
    return list(limits.values())


def _parsed(part: str, kind: Kind) -> Limit:
    head, equals, amount = (piece.strip() for piece in part.rpartition("="))
    row, _, name = (piece.strip() for piece in head.rpartition(":"))
    percent = amount.endswith("%")
    try:
        value = float(amount.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not equals or not math.isfinite(value) or (kind == CHANGE and value < 0.0):
        raise UsageError(f"The limit {part!r} is none; expected {_EXPECTED[kind]}.")
    _refuse_unfit(name, kind)
    share = kind == CHANGE and name in SPEEDS
    if percent != share:
        expected = "a percentage, such as 5%" if share else "a number in its own units, such as 0.01"
        raise UsageError(f"The limit {part!r} should be {expected}.")
    return Limit(name, value / 100.0 if percent else value, kind, row or None)


def _refuse_unfit(name: str, kind: Kind) -> None:
    """Refuse a name that nothing bears, or of which the limit would be on the wrong side."""
    others = SPEEDS if kind == CHANGE else COSTS
    if name not in (*others, *METRICS.names()):
        raise unknown(f"Unknown metric {name!r}", name, [*others, *METRICS.names()])
    if kind == CHANGE and name not in SPEEDS:
        select_metrics([name], posterior_known=False, out_of_scope=True)
    if kind != CHANGE and better(name) == ("higher" if kind == MOST else "lower"):
        way, option = ("more", LEAST) if kind == MOST else ("less", MOST)
        raise UsageError(f"Of {name} {way} is better, so that --{kind} limits nothing; give --{option}.")


def better(name: str) -> str:
    """Which direction is better for a metric or a cost."""
    if name in COSTS:
        return COSTS[name].better
    (metric,) = select_metrics([name], posterior_known=True, out_of_scope=True)
    return metric.better


def by_row(limits: Sequence[Limit], run: Run) -> dict[str, list[Limit]]:
    """The limits that hold for each row of a run, by its cell.

    A limit that names a row stands there in place of one of the same kind and name for all rows.

    Raises:
        UsageError: a limit names a row that is not there.
    """
    named = {
        limit: {record["cell"] for record in run.rows(limit.row)} for limit in limits if limit.row is not None
    }
    found = {}
    for record in run.records:
        own = [limit for limit, cells in named.items() if record["cell"] in cells]
        taken = {(limit.kind, limit.name) for limit in own}
        general = [limit for limit in limits if limit.row is None and (limit.kind, limit.name) not in taken]
        found[record["cell"]] = [limit for limit in limits if limit in (*own, *general)]
    return found
