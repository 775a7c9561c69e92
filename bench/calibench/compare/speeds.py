"""How fast a cell is relative to another: from two runs, or from turns that both took in one.

Between two runs the machine has changed, by more than the blocks of either run show. So a method is held
against the reference beside it, and what is compared are the two cost ratios: what slows both cancels. Of the
reference itself there is nothing but seconds. What still differs between two runs of the same thing is added
to the interval, as it was measured (results/gate.md) or as a run's own self-check has it, where that is more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from calibench.compare.runs import Match, shortened
from calibench.stats.intervals import LEVEL
from calibench.stats.ratios import median_ratio_interval, ratio_interval
from calibench.store.records import Record, dig, is_scored, is_untimed
from calibench.types import Interval, Raced

#: What is compared: seconds of two runs, cost ratios of two runs, or seconds of turns in one run.
Basis = Literal["seconds", "cost ratio", "raced"]
SECONDS: Basis = "seconds"
COST_RATIO: Basis = "cost ratio"
RACED: Basis = "raced"

#: Standard deviation of the log between runs of the same thing, on two cores with one busy: results/gate.md.
BETWEEN_RUNS = {
    ("throughput", SECONDS): 0.40,
    ("throughput", COST_RATIO): 0.03,
    ("latency", SECONDS): 0.40,
    ("latency", COST_RATIO): 0.12,
}
#: Numbers of turns after which a race is looked at, and ends where every limit is decided.
LOOKS = (24, 48, 96, 192, 384)
#: Of a race's intervals, so that all looks together are wrong in one of 20 at most (Bonferroni).
RACE_LEVEL = 1.0 - (1.0 - LEVEL) / len(LOOKS)


@dataclass(frozen=True)
class Speed:
    """How fast the new cell is, relative to the base.

    Attributes:
        ratio: of throughputs or of latencies, new over base, with a 95% interval; of a race one that holds
            in 95% whenever it was stopped.
        n: timing blocks, requests or turns that both timed.
        better: which direction is better.
        basis: what was compared.
        reason: why there can be no verdict, or None.
    """

    ratio: Interval
    n: int
    better: str
    basis: Basis
    reason: str | None

    @property
    def verdict(self) -> str | None:
        """As for a metric; None without an interval or between machines."""
        low, high = self.ratio.low, self.ratio.high
        if self.reason is not None or low is None or high is None:
            return None
        if low <= 1.0 <= high:
            return "no difference shown"
        return "better" if (low > 1.0) == (self.better == "higher") else "worse"


def throughput(pair: Match, raced: Raced | None = None) -> Speed:
    """Throughput over the base's, from the blocks that both timed."""
    if raced is not None:
        ratio = ratio_interval(raced.base_blocks, raced.new_blocks, level=RACE_LEVEL)
        return Speed(ratio, len(raced.new_blocks), "higher", RACED, None)
    ours, theirs = (_blocks(record) for record in (pair.base, pair.new))
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        unknown = _unknown("the two runs share no timing block")
        return Speed(unknown, 0, "higher", SECONDS, _machines(pair))
    base, new = [ours[key] for key in both], [theirs[key] for key in both]
    references = _references(pair)
    if references is not None:
        beside = [[_blocks(record)[key] for key in both] for record in references]
        base, new = (_over(own, of) for own, of in zip((base, new), beside, strict=True))
    basis = SECONDS if references is None else COST_RATIO
    ratio = _widened(ratio_interval(base, new), _between(pair, "throughput", basis))
    return Speed(ratio, len(both), "higher", basis, _machines(pair))


def latency(pair: Match, raced: Raced | None = None) -> Speed:
    """Median ratio of the latencies of the same sentences."""
    if raced is not None:
        ratio = median_ratio_interval(raced.new_requests, raced.base_requests, level=RACE_LEVEL)
        return Speed(ratio, len(raced.new_requests), "lower", RACED, None)
    base, new = (_requests(record) for record in (pair.base, pair.new))
    if not base or len(base) != len(new):
        reason = f"{len(base)} and {len(new)} requests were timed, not the same ones"
        return Speed(_unknown(reason), 0, "lower", SECONDS, _machines(pair))
    references = _references(pair)
    if references is not None:
        beside = [_requests(record) for record in references]
        base, new = (_over(own, of) for own, of in zip((base, new), beside, strict=True))
    basis = SECONDS if references is None else COST_RATIO
    ratio = _widened(median_ratio_interval(new, base), _between(pair, "latency", basis))
    return Speed(ratio, len(base), "lower", basis, _machines(pair))


def _references(pair: Match) -> list[Record] | None:
    """The references that both cells were timed beside; None where one was not, or the cells are these."""
    if pair.base.get("reference") and pair.new.get("reference"):
        return None
    sides = zip((pair.base, pair.new), pair.references, strict=True)
    found = [reference for own, reference in sides if reference and _together(own, reference)]
    return found if len(found) == 2 else None


def _together(record: Record, reference: Record) -> bool:
    """Whether two cells of a run took turns: what the record says it costs is what the blocks say.

    A method that was added to a run folder took turns with a reference that was timed anew for it, and whose
    seconds nobody kept.
    """
    own, beside = _blocks(record), _blocks(reference)
    said = dig(record, "cost_ratio", "value")
    if not own or said is None or own.keys() - beside.keys():
        return False
    if len(_requests(record)) != len(_requests(reference)):
        return False
    seconds, of = list(own.values()), [beside[key] for key in own]
    # Records that are older than the estimator hold the ratio of totals.
    costs = (ratio_interval(seconds, of).value, sum(seconds) / sum(of))
    return any(cost is not None and math.isclose(cost, said, rel_tol=1e-6) for cost in costs)


def _over(own: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(own, reference, strict=True)]


def _between(pair: Match, name: str, basis: Basis) -> float:
    """What two runs of the same thing differ by; nothing where both cells are of one measurement."""
    if pair.base.get("timing") == pair.new.get("timing"):
        return 0.0
    ours, theirs = pair.references
    if basis == COST_RATIO and ours is not None and ours["timing"] == (theirs or {}).get("timing"):
        return 0.0  # two methods that took turns with one reference
    return max(BETWEEN_RUNS[name, basis], *_self_checks(pair, name))


def _self_checks(pair: Match, name: str) -> Iterator[float]:
    """How far from itself the reference was in each run, on the log scale; 0 where nobody looked."""
    field = "cost_ratio" if name == "throughput" else "latency_ratio"
    for record in pair.references:
        value = dig(record or {}, "self_check", field, "value")
        yield abs(math.log(value)) if value else 0.0


def _widened(ratio: Interval, spread: float) -> Interval:
    """The interval with the variance of two runs added on the log scale."""
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return ratio
    half = float(special.ndtri(0.5 + LEVEL / 2.0)) * math.sqrt(2.0) * spread
    below = math.inf if ratio.low <= 0.0 else math.log(ratio.value / ratio.low)
    above = math.log(ratio.high / ratio.value)
    return Interval(
        ratio.value,
        ratio.value * math.exp(-math.hypot(below, half)),
        ratio.value * math.exp(math.hypot(above, half)),
    )


def _machines(pair: Match) -> str | None:
    if any(is_untimed(record) and not is_scored(record) for record in (pair.base, pair.new)):
        return "one of them was measured without times"
    ours, theirs = (dig(record, "environment", "fingerprint") for record in (pair.base, pair.new))
    if ours is not None and ours == theirs:
        return None
    if is_scored(pair.base) or is_scored(pair.new):
        return "predictions that were scored from a file have no times"
    return (
        f"environment.fingerprint differs ({shortened(ours)}, {shortened(theirs)}): timed on other machines"
    )


def _requests(record: Record | None) -> list[float]:
    return dig(record or {}, "timing", "latency_ms", "samples") or []


def _blocks(record: Record | None) -> dict[tuple[int, int, int], float]:
    # Blocks with another number of sentences are other blocks, whatever their number.
    return {
        (entry["repetition"], entry["block"], entry["sentences"]): entry["end_to_end_s"]
        for entry in dig(record or {}, "timing", "blocks") or []
    }


def _unknown(reason: str) -> Interval:
    return Interval(None, None, None, reason)
