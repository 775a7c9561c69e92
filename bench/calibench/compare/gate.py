"""The gate: is a run worse than a base by more than it may be, or beyond a limit, and could it have told?

A limit is exceeded only where the whole 95% interval of a number lies beyond it, and kept only where the
whole interval lies within; what lies on both sides has not been decided, and says what would decide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from calibench.compare.contrasts import Contrast, contrasts
from calibench.compare.limits import CHANGE, COSTS, LEAST, Limit, by_row
from calibench.compare.runs import Match, Matching, Run, grouped
from calibench.compare.speeds import RACED, Basis, Speed, latency, throughput
from calibench.errors import UsageError
from calibench.metrics.select import select_metrics
from calibench.store.records import Record, dig, is_untimed
from calibench.types import Interval, Raced

Judgement = Literal[
    "fine", "regression", "too noisy to tell", "beyond the limit", "not told apart from the limit"
]
FINE: Judgement = "fine"
#: Of a change between two runs.
REGRESSION: Judgement = "regression"
NOISY: Judgement = "too noisy to tell"
#: Of a value that is held to a limit.
BEYOND: Judgement = "beyond the limit"
NOT_APART: Judgement = "not told apart from the limit"

Outcome = Literal["passed", "failed", "undecided"]
PASSED: Outcome = "passed"
FAILED: Outcome = "failed"
UNDECIDED: Outcome = "undecided"
_OUTCOMES: Mapping[Judgement, Outcome] = {
    FINE: PASSED,
    REGRESSION: FAILED,
    BEYOND: FAILED,
    NOISY: UNDECIDED,
    NOT_APART: UNDECIDED,
}
EXIT_CODES: Mapping[Outcome, int] = {PASSED: 0, FAILED: 1, UNDECIDED: 3}

#: An interval that has to shrink by more names no number of examples.
_HOPELESS = 1e6
_SPEEDS = {"throughput": throughput, "latency": latency}
_PER = {"throughput": "blocks", "latency": "requests"}


@dataclass(frozen=True)
class Finding:
    """One row held against one limit.

    Attributes:
        label: the row.
        seen: by how much the number got worse, negative where it got better, or the number itself where that
            is limited; with a 95% interval.
        n: how many of `unit` are behind it.
        needed: about how many more of them would tell, or None where that is not the question.
        basis: of a change of speed, what was compared; else None.
        unit: examples, timing blocks, requests or turns.
    """

    label: str
    limit: Limit
    seen: Interval
    n: int
    judgement: Judgement
    needed: int | None
    basis: Basis | None = None
    unit: str = "examples"

    @property
    def outcome(self) -> Outcome:
        """What follows from the judgement."""
        return _OUTCOMES[self.judgement]


@dataclass(frozen=True, eq=False)
class Checked:
    """A run held to limits.

    Attributes:
        base: what changes are held against; None without limits on changes.
        failed: rows that should have been measured and were not: label and message.
        missing: labels of rows that only the base has.
        added: labels of rows that only the run has, and no change is known of.
        unraced: labels of rows whose speed was left alone, because others were raced.
    """

    new: Run
    base: Run | None
    findings: tuple[Finding, ...]
    failed: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    unraced: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Failed where a limit is broken or a row failed, else undecided where something is, else passed."""
        found = {finding.outcome for finding in self.findings}
        if self.failed or FAILED in found:
            return FAILED
        return UNDECIDED if UNDECIDED in found else PASSED

    @property
    def exit_code(self) -> int:
        """By outcome."""
        return EXIT_CODES[self.outcome]


def hold(
    new: Run,
    limits: Sequence[Limit],
    matching: Matching | None = None,
    raced: Mapping[str, Raced] | None = None,
) -> Checked:
    """A run against limits on its values and, with a base, on what changed.

    Args:
        matching: the run's rows in a base; None where no limit is on a change.
        raced: as of `check`.

    Raises:
        UsageError: as `check` and `levels`.
    """
    own, failed = levels(new, [limit for limit in limits if limit.kind != CHANGE])
    if matching is None:
        return Checked(new, None, tuple(own), tuple(failed))
    changes = [limit for limit in limits if limit.kind == CHANGE]
    findings = [*check(matching, changes, raced), *own]
    if not findings and not matching.failed:
        raise UsageError(
            f"No row was held to {', '.join(map(str, limits))}: those were not raced; limit rows without a "
            "post-hoc step, or check without --rerun-base."
        )
    return Checked(
        new,
        matching.base,
        tuple(findings),
        tuple(dict([*matching.failed, *failed]).items()),
        matching.missing,
        matching.added,
        tuple(pair.label for pair in matching.pairs if raced and pair.new["cell"] not in raced),
    )


def check(
    matching: Matching, limits: Sequence[Limit], raced: Mapping[str, Raced] | None = None
) -> list[Finding]:
    """What changed in every matched row held against every limit on changes, rows first.

    Args:
        raced: by key of the new run's cell, what it took in a race with the base. The two runs' times are
            then left alone, and so is the speed of cells that were not raced.

    Raises:
        UsageError: predictions that are missing, a limit on speed for runs of two machines, or one that names
            a row which only one run has.
    """
    wanted = by_row(limits, matching.new)
    _refuse_unmatched(limits, matching)
    named = list(dict.fromkeys(limit.name for limit in limits if not limit.is_speed))
    quality = _quality(matching, named) if named else {}
    findings = []
    for number, pair in enumerate(matching.pairs):
        for limit in wanted[pair.new["cell"]]:
            if not limit.is_speed:
                contrast, n = quality[number, limit.name]
                findings.append(judge(pair.label, limit, worsening(contrast), n))
            elif raced is None:
                findings.append(_change_of_speed(pair, limit, None))
            elif pair.new["cell"] in raced:
                findings.append(_change_of_speed(pair, limit, raced[pair.new["cell"]]))
    return findings


def _refuse_unmatched(limits: Sequence[Limit], matching: Matching) -> None:
    known = {label for label, _ in matching.failed}
    both = {pair.new["cell"] for pair in matching.pairs}
    for limit in limits:
        rows = [] if limit.row is None else matching.new.rows(limit.row)
        if rows and not any(row["cell"] in both or matching.new.label(row) in known for row in rows):
            raise UsageError(
                f"The limit {limit} is on a change, and {limit.row} did not finish in both "
                f"{matching.base.name} and {matching.new.name}; limit its value with --max or --min, or "
                "choose another base."
            )


def _change_of_speed(pair: Match, limit: Limit, raced: Raced | None) -> Finding:
    speed = _SPEEDS[limit.name](pair, raced)
    if speed.reason is not None:
        raise UsageError(
            f"The limit {limit} cannot be checked for {pair.label}: {speed.reason}; measure the base on this "
            "machine, or race it with --rerun-base."
        )
    unit = "turns" if speed.basis == RACED else _PER[limit.name]
    return judge(pair.label, limit, _slower(speed), speed.n, unit=unit, basis=speed.basis)


def levels(run: Run, limits: Sequence[Limit]) -> tuple[list[Finding], list[tuple[str, str]]]:
    """The values of every row held against every limit on values, rows first; and the rows that failed.

    They are those of the records, with the intervals of the records.

    Raises:
        UsageError: a limit is on what a record does not hold.
    """
    findings, failed = [], []
    for record, held in zip(run.records, by_row(limits, run).values(), strict=True):
        if held and record["status"] != "ok":
            failed.append((run.label(record), str((record.get("error") or {}).get("message"))))
        elif held:
            findings += [_level(run, record, limit) for limit in held]
    return findings, failed


def _level(run: Run, record: Record, limit: Limit) -> Finding:
    cost, label = COSTS.get(limit.name), run.label(record)
    found = dig(record, *(("metrics", limit.name) if cost is None else cost.path))
    if found is None:
        untimed = cost is not None and is_untimed(record)
        why = "nothing of it was timed" if untimed else f"its record has no {limit.name}"
        raise UsageError(
            f"The limit {limit} cannot be checked for {label} of {run.name}: {why}; limit something else, or "
            f"other rows with ROW:{limit.name}={limit.amount:g}."
        )
    seen = Interval(found["value"], found["low"], found["high"], found["reason"])
    if cost is not None and not is_untimed(record):
        n = dig(record, "timing", *_COUNTS[cost.per])
        return judge(label, limit, seen, n, unit=cost.per)
    if cost is not None and seen.value is not None:  # a ratio of prices, which are known and not measured
        seen = Interval(seen.value, seen.value, seen.value)
    n = _examples(record, limit.name)
    squared = dig(record, "metrics", "ece_debiased", "value")
    if limit.name == "ece" and squared is not None:
        return judge_ece(label, limit, seen, squared, n)
    return judge(label, limit, seen, n)


#: Where a record has how many there were, below its timing.
_COUNTS = {"blocks": ("throughput", "blocks"), "requests": ("latency_ms", "n")}


def _examples(record: Record, name: str) -> int:
    """How many examples a number of a record is of."""
    everything = int(record["data"]["n"])
    if name not in COSTS:
        (metric,) = select_metrics([name], posterior_known=True, out_of_scope=True)
        if not metric.needs_out_of_scope:
            return everything - int(record["data"].get("out_of_scope") or 0)
    return everything


def _quality(matching: Matching, names: Sequence[str]) -> dict[tuple[int, str], tuple[Contrast, int]]:
    metrics = select_metrics(
        names,
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
    return _turned(change) if contrast.metric.better == "higher" else change


def _turned(found: Interval) -> Interval:
    """The interval of the negative."""
    value, low, high = (None if end is None else -end for end in (found.value, found.high, found.low))
    return Interval(value, low, high, found.reason)


def _slower(speed: Speed) -> Interval:
    """The share of speed that was lost: of throughput what is missing, of latency what was added."""
    ratio = speed.ratio
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return Interval(None, None, None, ratio.reason)
    if speed.better == "higher":
        return Interval(1.0 - ratio.value, 1.0 - ratio.high, 1.0 - ratio.low)
    return Interval(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0)


def judge(
    label: str,
    limit: Limit,
    seen: Interval,
    n: int,
    *,
    unit: str = "examples",
    basis: Basis | None = None,
    centre: float | None = None,
) -> Finding:
    """Hold a number against a limit.

    Args:
        seen: the number with its 95% interval; of a change, more is worse.
        n: how many of `unit` are behind it.
        basis: of a change of speed, what was compared.
        centre: what the interval closes in on with more of them.  [default: the value]
    """
    beyond, undecided = (REGRESSION, NOISY) if limit.kind == CHANGE else (BEYOND, NOT_APART)

    def found(judgement: Judgement, needed: int | None = None) -> Finding:
        return Finding(label, limit, seen, n, judgement, needed, basis, unit)

    # What may be no less is, turned round, what may be no more.
    turned = limit.kind == LEAST
    worse, amount = (_turned(seen), -limit.amount) if turned else (seen, limit.amount)
    if worse.value is None or worse.low is None or worse.high is None:
        return found(undecided)
    if worse.low > amount:
        return found(beyond)
    if worse.high <= amount:
        return found(FINE)
    if basis not in (None, RACED):  # what two runs differ by is there however many blocks they have
        return found(undecided)
    # The interval has to shrink until its end reaches the limit; its width falls with the root of n.
    middle = worse.value if centre is None else -centre if turned else centre
    distance = abs(middle - amount)
    half = worse.high - middle if middle <= amount else middle - worse.low
    if half >= _HOPELESS * distance:
        return found(undecided)
    return found(undecided, max(1, math.ceil(n * ((half / distance) ** 2 - 1.0))))


def judge_ece(label: str, limit: Limit, seen: Interval, squared: float, n: int) -> Finding:
    """`judge` for ECE, which reads too much, the more so the fewer examples there are.

    By it `needed` would be too many or too few; it goes by the root of the debiased ECE².

    Args:
        squared: the debiased ECE² of the same examples.
    """
    if seen.low is None or seen.high is None:
        return judge(label, limit, seen, n)
    if seen.low == seen.high:  # every bin came out right to the last example, which is luck
        lucky = replace(seen, low=None, high=None, reason="the ends of one fall together")
        return judge(label, limit, lucky, n)
    centre = min(max(math.sqrt(max(0.0, squared)), seen.low), seen.high)
    return judge(label, limit, seen, n, centre=centre)
