"""Speeds of two runs: ratios over the blocks and requests that both timed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.compare.runs import load_run, match, match_rows
from calibench.compare.speeds import COST_RATIO, SECONDS, _widened, latency, throughput
from calibench.stats.ratios import ratio_interval
from calibench.store.records import Record
from calibench.types import Interval
from run_pairs import METHOD, put, run


def test_the_reference_is_held_against_itself_in_seconds(tmp_path: Path) -> None:
    """A fifth more time is five sixths of the throughput; two runs may differ by as much without a cause."""
    base = load_run(run(tmp_path / "a"))
    pair = match(base, load_run(run(tmp_path / "b", slower=1.2, blocks=13))).pairs[0]
    through, late = throughput(pair), latency(pair)
    assert (through.n, late.n) == (12, 100)
    assert through.ratio.value == pytest.approx(1 / 1.2, rel=0.02)
    assert late.ratio.value == pytest.approx(1.2, rel=0.02)
    assert (through.basis, late.basis) == (SECONDS, SECONDS)
    assert (through.verdict, late.verdict) == ("no difference shown",) * 2
    far = match(base, load_run(run(tmp_path / "c", slower=6.0))).pairs[0]
    assert (throughput(far).verdict, latency(far).verdict) == ("worse", "worse")
    again = match(base, base).pairs[0]
    assert throughput(again).ratio.low == throughput(again).ratio.high == 1.0


def test_a_method_is_held_against_the_reference_beside_it(tmp_path: Path) -> None:
    """What slows both of a run cancels; what slows the method alone is shown."""
    base = load_run(run(tmp_path / "a"))
    slow = match(base, load_run(run(tmp_path / "b", slower=0.6, method_slower=1.5))).pairs[1]
    through, late = throughput(slow), latency(slow)
    assert through.ratio.value == pytest.approx(1 / 1.5, rel=0.02)
    assert late.ratio.value == pytest.approx(1.5, rel=0.02)
    assert (through.basis, late.basis) == (COST_RATIO, COST_RATIO)
    assert (through.verdict, late.verdict) == ("worse", "worse")
    drifted = match(base, load_run(run(tmp_path / "c", slower=1.4))).pairs[1]
    assert (throughput(drifted).verdict, latency(drifted).verdict) == ("no difference shown",) * 2


def test_a_method_timed_beside_another_run_of_the_reference_is_in_seconds(tmp_path: Path) -> None:
    """Added to a folder later, it took turns with seconds that are not there; nor are a failed one's."""

    def later(record: Record) -> None:
        if not record["reference"]:
            record["cost_ratio"]["value"] *= 1.01

    base = load_run(run(tmp_path / "a"))
    added = load_run(run(tmp_path / "b", change=later))
    assert throughput(match(base, added).pairs[1]).basis == SECONDS
    assert latency(match(added, base).pairs[1]).basis == SECONDS
    alone = load_run(run(tmp_path / "c", METHOD))
    assert throughput(match(base, alone).pairs[0]).basis == SECONDS


def test_two_rows_of_one_run_took_turns(tmp_path: Path) -> None:
    """What runs differ by is no part of it: the interval is that of the blocks that both timed."""
    base = load_run(run(tmp_path / "a", method_slower=1.05))
    (pair,) = match_rows(base, "frequentist", base, "mc-dropout").pairs
    through, late = throughput(pair), latency(pair)
    blocks = [[block["end_to_end_s"] for block in r["timing"]["blocks"]] for r in (pair.base, pair.new)]
    expected = ratio_interval(*blocks)
    for end in ("value", "low", "high"):
        assert getattr(through.ratio, end) == pytest.approx(getattr(expected, end))
    assert (through.verdict, late.verdict) == ("worse", "worse")
    other = load_run(run(tmp_path / "b", method_slower=1.05, draw=1))
    (apart,) = match_rows(base, "frequentist", other, "mc-dropout").pairs
    assert (throughput(apart).verdict, latency(apart).verdict) == ("no difference shown",) * 2


def test_a_self_check_that_found_more_widens_the_interval(tmp_path: Path) -> None:
    """A run whose reference was not itself by 30% cannot tell a method's 50%."""
    base = load_run(run(tmp_path / "a"))
    raced = {"cost_ratio": {"value": 1.3}, "latency_ratio": {"value": 1 / 1.3}}
    unsure = load_run(run(tmp_path / "b", method_slower=1.5, change=put("self_check", raced)))
    pair = match(base, unsure).pairs[1]
    assert (throughput(pair).verdict, latency(pair).verdict) == ("no difference shown",) * 2


@given(st.floats(0.5, 2.0), st.floats(0.001, 0.2), st.floats(0.0, 0.3))
def test_widening_adds_variances_of_the_log(value: float, half: float, spread: float) -> None:
    """Both runs bring theirs; an end below zero stays below everything."""
    ratio = Interval(value, value * math.exp(-half), value * math.exp(half))
    wide = _widened(ratio, spread)
    expected = math.hypot(half, 1.959964 * math.sqrt(2.0) * spread)
    assert math.log(wide.high / value) == pytest.approx(expected, rel=1e-6)  # type: ignore[operator]
    assert math.log(value / wide.low) == pytest.approx(expected, rel=1e-6)  # type: ignore[operator]
    assert _widened(Interval(value, -0.1, value), spread).low == 0.0
    assert _widened(Interval(value, None, None, "few"), spread).reason == "few"


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
