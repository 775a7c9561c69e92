"""The gate: is a run worse than a base by more than it may be, and could this run have told?

A limit is exceeded only where the whole 95% interval of the change lies beyond it, and kept only where the
whole interval lies within; what lies on both sides has not been decided, and says what would decide it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from calibench.compare.contrasts import Contrast, contrasts
from calibench.compare.runs import Matching, grouped
from calibench.compare.speeds import RACED, Basis, Speed, latency, throughput
from calibench.errors import UsageError
from calibench.metrics.select import select_metrics
from calibench.types import Interval, Raced

Judgement = Literal["fine", "regression", "too noisy to tell"]
FINE: Judgement = "fine"
REGRESSION: Judgement = "regression"
NOISY: Judgement = "too noisy to tell"
EXIT_CODES: Mapping[Judgement, int] = {FINE: 0, REGRESSION: 1, NOISY: 3}

_SPEEDS = {"throughput": throughput, "latency": latency}
_UNITS = {"throughput": "blocks", "latency": "requests"}


@dataclass(frozen=True)
class Limit:
    """How much worse a number may get.

    Attributes:
        name: a metric's, "throughput" or "latency".
        amount: in the metric's units, or for speed as a share of the base's.
    """

    name: str
    amount: float

    @property
    def is_speed(self) -> bool:
        """Whether it limits throughput or latency."""
        return self.name in _SPEEDS

    def __str__(self) -> str:
        amount = f"{100 * self.amount:g}%" if self.is_speed else f"{self.amount:g}"
        return f"{self.name}={amount}"


@dataclass(frozen=True)
class Finding:
    """One cell held against one limit.

    Attributes:
        label: the cell.
        worse: by how much it got worse, with a 95% interval; negative where it got better.
        n: examples, timing blocks, requests or turns behind it.
        needed: about how many more of them would tell, or None where that is not the question.
        basis: of speed, what was compared; else None.
    """

    label: str
    limit: Limit
    worse: Interval
    n: int
    outcome: Judgement
    needed: int | None
    basis: Basis | None = None

    @property
    def unit(self) -> str:
        """What `n` and `needed` count."""
        return "turns" if self.basis == RACED else _UNITS.get(self.limit.name, "examples")


def parse_limits(texts: Iterable[str]) -> list[Limit]:
    """`ece=0.01,throughput=5%`, in one text or in several.

    Raises:
        UsageError: what is no limit, a metric that is not registered, or one limit too many for a name.
    """
    limits: dict[str, Limit] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        percent = amount.endswith("%")
        try:
            value = float(amount.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not equals or not math.isfinite(value) or value < 0.0:
            raise UsageError(
                f"The limit {part!r} is none; expected NAME=AMOUNT, such as ece=0.01 or throughput=5%."
            )
        if name in limits:
            raise UsageError(f"There are two limits for {name}; give one.")
        if percent != (name in _SPEEDS):
            expected = (
                "a percentage, such as 5%" if name in _SPEEDS else "a number in its own units, such as 0.01"
            )
            raise UsageError(f"The limit {part!r} should be {expected}.")
        if name not in _SPEEDS:
            select_metrics([name], posterior_known=False, out_of_scope=True)
        limits[name] = Limit(name, value / 100.0 if percent else value)
    if not limits:
        raise UsageError("There is no limit to check; give one with --max-regression, such as ece=0.01.")
    return list(limits.values())


def check(
    matching: Matching, limits: Sequence[Limit], raced: Mapping[str, Raced] | None = None
) -> list[Finding]:
    """Every matched cell held against every limit, cells first.

    Args:
        raced: by key of the new run's cell, what it took in a race with the base. The two runs' times are
            then left alone, and so is the speed of cells that were not raced.

    Raises:
        UsageError: predictions that are missing, or a limit on speed for runs of two machines.
    """
    named = [limit for limit in limits if not limit.is_speed]
    quality = _quality(matching, named) if named else {}
    findings = []
    for number, pair in enumerate(matching.pairs):
        for limit in limits:
            if limit.is_speed:
                if raced is not None and pair.new["cell"] not in raced:
                    continue
                speed = _SPEEDS[limit.name](pair, None if raced is None else raced[pair.new["cell"]])
                if speed.reason is not None:
                    raise UsageError(
                        f"The limit {limit} cannot be checked for {pair.label}: {speed.reason}; measure the "
                        "base on this machine, or race it with --rerun-base."
                    )
                findings.append(judge(pair.label, limit, _slower(speed), speed.n, speed.basis))
            else:
                contrast, n = quality[number, limit.name]
                findings.append(judge(pair.label, limit, worsening(contrast), n))
    return findings


def exit_code(matching: Matching, findings: Sequence[Finding]) -> int:
    """1 for a regression or a cell that fails now, else 3 where something is undecided, else 0."""
    outcomes = {finding.outcome for finding in findings}
    if matching.failed or REGRESSION in outcomes:
        return EXIT_CODES[REGRESSION]
    return EXIT_CODES[NOISY if NOISY in outcomes else FINE]


def _quality(matching: Matching, limits: Sequence[Limit]) -> dict[tuple[int, str], tuple[Contrast, int]]:
    metrics = select_metrics(
        [limit.name for limit in limits],
        posterior_known=False,
        out_of_scope=True,
        classes_known=not matching.base.by_confidence,
    )
    found = {}
    for positions, held in grouped(matching):
        rows = contrasts(held, metrics)
        for row, contrast in enumerate(rows):
            at = positions[row // len(metrics)]
            labels = held[0].labels
            n = len(labels) if contrast.metric.needs_out_of_scope else int((labels >= 0).sum())
            found[at, contrast.metric.name] = contrast, n
    return found


def worsening(contrast: Contrast) -> Interval:
    """By how much a number got worse; negative where it got better."""
    change = contrast.difference
    if contrast.metric.better != "higher" or change.value is None:
        return change
    low, high = (None if end is None else -end for end in (change.high, change.low))
    return Interval(-change.value, low, high, change.reason)


def _slower(speed: Speed) -> Interval:
    """The share of speed that was lost: of throughput what is missing, of latency what was added."""
    ratio = speed.ratio
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return Interval(None, None, None, ratio.reason)
    if speed.better == "higher":
        return Interval(1.0 - ratio.value, 1.0 - ratio.high, 1.0 - ratio.low)
    return Interval(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0)


def judge(label: str, limit: Limit, worse: Interval, n: int, basis: Basis | None = None) -> Finding:
    """Hold a number against a limit.

    Args:
        worse: the number with its 95% interval; more is worse.
        n: examples, timing blocks, requests or turns behind it.
        basis: of speed, what was compared.
    """
    if worse.value is None or worse.low is None or worse.high is None:
        return Finding(label, limit, worse, n, NOISY, None, basis)
    if worse.low > limit.amount:
        return Finding(label, limit, worse, n, REGRESSION, None, basis)
    if worse.high <= limit.amount:
        return Finding(label, limit, worse, n, FINE, None, basis)
    if basis not in (None, RACED):  # what two runs differ by is there however many blocks they have
        return Finding(label, limit, worse, n, NOISY, None, basis)
    # The interval has to shrink until its end reaches the limit; its width falls with the root of n.
    distance = abs(worse.value - limit.amount)
    half = worse.high - worse.value if worse.value <= limit.amount else worse.value - worse.low
    needed = math.ceil(n * ((half / distance) ** 2 - 1.0)) if distance > 0.0 else None
    return Finding(label, limit, worse, n, NOISY, needed if needed is None else max(1, needed), basis)
