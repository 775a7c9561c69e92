"""What a check found, in words: the same on a terminal, on a page and in a test report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from calibench.compare.gate import FAILED, PASSED, UNDECIDED, Checked, Finding, Outcome
from calibench.compare.limits import CHANGE, COSTS, LEAST, MOST, Kind, Limit
from calibench.compare.speeds import COST_RATIO, RACED, SECONDS
from calibench.report.writing.numbers import interval, percent, signed, significant, span

#: Told apart without colour too, and on a terminal that has no more than ASCII.
SIGNS: Mapping[Outcome, str] = {PASSED: "ok", FAILED: "FAIL", UNDECIDED: "?"}
_RELATIONS: Mapping[Kind, str] = {CHANGE: "worse <=", MOST: "<=", LEAST: ">="}
#: What a speed was read from.
_BASES = {SECONDS: "in seconds", COST_RATIO: "in cost ratio", RACED: "raced"}


def limited(limit: Limit) -> str:
    """`ece <= 0.05` or `throughput worse <= 5%`: what has to hold, of whichever row."""
    return f"{limit.name} {_RELATIONS[limit.kind]} {limit.amount_text}"


def seen(finding: Finding) -> str:
    """The number that was held to the limit, with its interval."""
    found, limit = finding.seen, finding.limit
    if found.value is None:
        return found.reason or "-"
    if limit.is_speed:
        if found.low is None or found.high is None:
            return found.reason or "-"
        read = "" if finding.basis is None else f" {_BASES[finding.basis]}"
        return f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]{read}"
    if limit.kind == CHANGE:
        return f"{signed(found.value)} {span(found.low, found.high)}".strip()
    if limit.name in COSTS:
        return interval(vars(found), significant, significant) + COSTS[limit.name].unit
    return interval(vars(found))


def judged(finding: Finding) -> str:
    """The judgement and, where that is open, what would decide it."""
    if finding.outcome != UNDECIDED:
        return finding.judgement
    return f"{finding.judgement}: {_needed(finding)}"


def _needed(finding: Finding) -> str:
    if finding.basis in (SECONDS, COST_RATIO):
        return "two runs cannot tell; --rerun-base would"
    if finding.needed is None:
        return f"{finding.n:,} {finding.unit} cannot tell"
    return f"{finding.n:,} {finding.unit}; about {finding.needed:,} more would tell"


def counted(found: Checked) -> str:
    """`3 passed, 1 failed, 2 undecided`; rows that failed are among the failed."""
    counts = Counter(finding.outcome for finding in found.findings)
    counts[FAILED] += len(found.failed)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])
