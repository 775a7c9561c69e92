"""How fast a cell is relative to another, from the blocks and requests that both timed."""

from __future__ import annotations

from dataclasses import dataclass

from calibench.compare.runs import Match, shortened
from calibench.stats.ratios import median_ratio_interval, ratio_interval
from calibench.store.records import Record, dig, is_scored
from calibench.types import Interval


@dataclass(frozen=True)
class Speed:
    """How fast the new cell is, relative to the base.

    Attributes:
        ratio: of throughputs or of latencies, new over base, with a 95% interval.
        n: timing blocks or requests that both timed.
        better: which direction is better.
        reason: why there can be no verdict, or None.
    """

    ratio: Interval
    n: int
    better: str
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


def throughput(pair: Match) -> Speed:
    """Throughput over the base's, from the blocks that both timed.

    The interval holds what the blocks of one run vary by. What changes on a machine from one run to the next
    is not in it: that is what the reference in the same run, and `--self-check`, are for.
    """
    ours, theirs = (_blocks(record) for record in (pair.base, pair.new))
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return Speed(_unknown("the two runs share no timing block"), 0, "higher", _machines(pair))
    ratio = ratio_interval([ours[key] for key in both], [theirs[key] for key in both])
    return Speed(ratio, len(both), "higher", _machines(pair))


def latency(pair: Match) -> Speed:
    """Median ratio of the latencies of the same sentences."""
    ours, theirs = (dig(record, "timing", "latency_ms", "samples") or [] for record in (pair.base, pair.new))
    if not ours or len(ours) != len(theirs):
        reason = f"{len(ours)} and {len(theirs)} requests were timed, not the same ones"
        return Speed(_unknown(reason), 0, "lower", _machines(pair))
    return Speed(median_ratio_interval(theirs, ours), len(ours), "lower", _machines(pair))


def _machines(pair: Match) -> str | None:
    ours, theirs = (dig(record, "environment", "fingerprint") for record in (pair.base, pair.new))
    if ours is not None and ours == theirs:
        return None
    if is_scored(pair.base) or is_scored(pair.new):
        return "predictions that were scored from a file have no times"
    return (
        f"environment.fingerprint differs ({shortened(ours)}, {shortened(theirs)}): timed on other machines"
    )


def _blocks(record: Record) -> dict[tuple[int, int, int], float]:
    # Blocks with another number of sentences are other blocks, whatever their number.
    return {
        (entry["repetition"], entry["block"], entry["sentences"]): entry["end_to_end_s"]
        for entry in dig(record, "timing", "blocks") or []
    }


def _unknown(reason: str) -> Interval:
    return Interval(None, None, None, reason)
