"""What a comparison of two runs found, as a table for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calibench.compare.contrasts import Contrast
from calibench.compare.matched_rows import MatchedRow
from calibench.compare.runs import Matching
from calibench.compare.speeds import Speed


def as_table(matching: Matching, rows: Sequence[MatchedRow]) -> dict[str, Any]:
    """One object in types that JSON has; what could not be had is None, with a reason."""
    return {
        "base": matching.base.name,
        "new": matching.new.name,
        "rows": [
            {
                "row": row.match.label,
                "metrics": [_metric(one) for one in row.contrasts],
                "speeds": [_speed(name, speed) for name, speed in row.speeds.items()],
                "notes": list(row.match.notes),
            }
            for row in rows
        ],
        "failed": [{"row": label, "message": message} for label, message in matching.failed],
        "missing": list(matching.missing),
        "added": list(matching.added),
    }


def _metric(one: Contrast) -> dict[str, Any]:
    tested = one.tested
    return {
        "metric": one.metric.name,
        "base": one.base,
        "new": one.value,
        "difference": one.difference.as_dict(),
        "adjusted_low": None if tested is None else tested.adjusted.low,
        "adjusted_high": None if tested is None else tested.adjusted.high,
        "p_holm": None if tested is None else tested.adjusted_p,
        "verdict": None if tested is None else tested.verdict,
    }


def _speed(name: str, speed: Speed) -> dict[str, Any]:
    return {
        "speed": name,
        "ratio": speed.ratio.as_dict(),
        "basis": speed.basis,
        "verdict": speed.verdict,
        "reason": speed.reason,
    }
