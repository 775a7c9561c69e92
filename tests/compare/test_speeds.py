"""Speeds of two runs: ratios over the blocks and requests that both timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibench.compare.runs import load_run, match
from calibench.compare.speeds import latency, throughput
from calibench.store.records import Record
from run_pairs import put, run


def test_speed_is_a_ratio_of_matched_blocks_and_requests(tmp_path: Path) -> None:
    """A fifth more time is five sixths of the throughput and six fifths of the latency, shown as worse."""
    base = load_run(run(tmp_path / "a"))
    pair = match(base, load_run(run(tmp_path / "b", slower=1.2, blocks=13))).pairs[0]
    through, late = throughput(pair), latency(pair)
    assert (through.n, late.n) == (12, 100)
    assert through.ratio.value == pytest.approx(1 / 1.2, rel=0.02)
    assert late.ratio.value == pytest.approx(1.2, rel=0.02)
    assert (through.verdict, late.verdict) == ("worse", "worse")
    back = match(load_run(tmp_path / "b"), base).pairs[0]
    assert (throughput(back).verdict, latency(back).verdict) == ("better", "better")
    again = match(base, base).pairs[0]
    assert (throughput(again).verdict, latency(again).verdict) == ("no difference shown",) * 2


def test_between_machines_speed_gets_no_verdict(tmp_path: Path) -> None:
    """The ratio is shown all the same."""
    base = load_run(run(tmp_path / "a"))
    other = load_run(run(tmp_path / "b", slower=1.2, change=put("environment.fingerprint", "another")))
    speed = throughput(match(base, other).pairs[0])
    assert speed.verdict is None
    assert speed.ratio.value is not None
    assert "environment.fingerprint differs (one machine, another)" in str(speed.reason)


def test_speed_that_was_not_measured_says_so(tmp_path: Path) -> None:
    """No shared block, or other requests."""
    base = load_run(run(tmp_path / "a"))

    def unlike(record: Record) -> None:
        record["timing"]["blocks"] = []
        del record["timing"]["latency_ms"]["samples"]

    pair = match(base, load_run(run(tmp_path / "b", change=unlike))).pairs[0]
    assert throughput(pair).ratio.reason == "the two runs share no timing block"
    assert latency(pair).ratio.reason == "100 and 0 requests were timed, not the same ones"
    assert throughput(pair).verdict is None
