"""Matched cells of two runs, each in quality and in speed: what a comparison consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from calibench.compare.contrasts import Contrast, contrasts
from calibench.compare.runs import Match, Matching, grouped
from calibench.compare.speeds import Speed, latency, throughput
from calibench.types import Metric


@dataclass(frozen=True, eq=False)
class MatchedRow:
    """Two finished cells side by side.

    Attributes:
        contrasts: one for each metric that was asked for.
        speeds: by "throughput" and "latency"; empty where speed is not compared.
    """

    match: Match
    contrasts: tuple[Contrast, ...]
    speeds: dict[str, Speed]


def matched_rows(matching: Matching, metrics: Sequence[Metric], *, timing: bool) -> list[MatchedRow]:
    """Every matched cell; the verdicts of cells on the same examples are adjusted together."""
    found: dict[int, tuple[Contrast, ...]] = {}
    for positions, held in grouped(matching):
        pairs = [replace(item, method=str(at)) for at, item in zip(positions, held, strict=True)]
        for at, group in groupby(contrasts(pairs, metrics), key=lambda row: int(row.method)):
            found[at] = tuple(group)
    return [
        MatchedRow(
            match,
            found[number],
            {"throughput": throughput(match), "latency": latency(match)} if timing else {},
        )
        for number, match in enumerate(matching.pairs)
    ]
