"""Plans: what is there, missing and changed, and where the time comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibench.store.records import load_records, write_records
from calibench.sweep import worker
from calibench.sweep.plan import Plan, plan
from calibench.sweep.planned import table
from calibench.sweep.spec import Sweep
from calibench.sweep.sweeping import run_sweep
from sweeps import InProcess, Listening, small

OTHER = '[[data]]\nid = "b"\nloader = "embedded"\nsplit = "validation"\nlimit = 16\n'


def planned(sweep: Sweep, folder: Path, *, quality_only: bool = False, workers: int = 1) -> Plan:
    return plan(sweep, folder, InProcess(), "auto", quality_only=quality_only, workers=workers)


def counts(found: Plan) -> dict[str, tuple[int, int, int, int]]:
    return {item.folder: (item.cells, item.there, item.missing, item.changed) for item in found.pairs}


def test_a_plan_writes_nothing_and_times_a_batch(tmp_path: Path) -> None:
    """Of a folder that is not there; a pair that cannot be loaded says why."""
    broken = OTHER.replace("validation", "tset").replace('"b"', '"broken"')
    found = planned(small("frequentist", "mc-dropout", more=OTHER + broken), tmp_path / "out")
    assert counts(found)["embedded--corpus"] == (2, 0, 2, 0)
    assert counts(found)["embedded--b"] == (2, 0, 2, 0)
    assert [item.examples for item in found.pairs] == [24, 16, None]
    assert "tset" in str(found.pairs[2].failure)
    assert found.seconds is not None
    assert found.seconds > 0
    assert not (tmp_path / "out").exists()
    assert json.loads(found.as_json())["pairs"][0]["missing"] == 2
    assert table(found) is not None


def test_times_come_from_earlier_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same method on the same model: nothing runs, and on other data it takes as long per example."""
    run_sweep(small("frequentist"), tmp_path, InProcess(), Listening())
    (record,) = load_records(tmp_path / "embedded--corpus")
    record["timing"]["throughput"]["sentences_per_s"]["value"] = 0.5
    write_records(tmp_path / "embedded--corpus", [record])

    def refused(*_: Any) -> float:
        raise AssertionError("a batch was timed, and a record tells the time")

    monkeypatch.setattr(worker, "_seconds", refused)
    sweep = small("frequentist", more=OTHER)
    timed = planned(sweep, tmp_path)
    assert counts(timed) == {"embedded--corpus": (1, 1, 0, 0), "embedded--b": (1, 0, 1, 0)}
    # 16 examples once, half of them for warming up (one block of two), and two texts alone, at 2 s each.
    blocks = len({block["block"] for block in record["timing"]["blocks"]})
    assert blocks == 2
    assert timed.pairs[0].seconds == 0
    assert timed.pairs[1].seconds == pytest.approx(2 * (16 * 1.5 + 2), abs=10)
    quality = planned(sweep, tmp_path, quality_only=True, workers=4)
    assert quality.pairs[1].seconds == pytest.approx(2 * 16, abs=10)
    assert quality.seconds == pytest.approx((quality.pairs[1].seconds or 0) / 4)


def test_missing_and_changed_are_told_apart(tmp_path: Path) -> None:
    """A new seed is missing; other texts of the same name are a change; untimed records lack times."""
    run_sweep(small("frequentist"), tmp_path, InProcess(), Listening(), quality_only=True)
    seeds = small("frequentist", head="seeds = [0, 1]\n")
    assert counts(planned(seeds, tmp_path, quality_only=True))["embedded--corpus"] == (2, 1, 1, 0)
    assert counts(planned(small("frequentist"), tmp_path))["embedded--corpus"] == (1, 0, 1, 0)
    sweep = small("frequentist")
    suite = sweep.pairs[0].suite
    fewer = replace(suite, data=replace(suite.data, limit=12))
    changed = replace(sweep, pairs=(replace(sweep.pairs[0], suite=fewer),))
    assert counts(planned(changed, tmp_path, quality_only=True))["embedded--corpus"] == (1, 0, 1, 1)
