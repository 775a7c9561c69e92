"""Third parties' metrics in whole runs: who registers them, and that a bad one costs its own number alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibench.run import run
from calibench.store.records import Record
from calibench.suites.spec import MethodSpec, Suite, TimingSpec
from calibench.types import Evaluation, Metric
from foreign_metrics import register
from limited_suites import limited

TIMING = TimingSpec(blocks=2, latency=1, memory=False, token_budget=256)


def metric(name: str, evaluate: Callable[[Evaluation], Any], **changes: Any) -> Metric:
    return Metric(name=name, title=name, better="lower", evaluate=evaluate, **changes)


def then_half(act: Callable[[Evaluation], Any]) -> Callable[[Evaluation], float]:
    """A metric that does something and is a half."""

    def evaluate(evaluation: Evaluation) -> float:
        act(evaluation)
        return 0.5

    return evaluate


def overwrite(evaluation: Evaluation) -> None:
    evaluation.probs[:] = 0.5
    evaluation.labels[:] = 0


#: By name: what it does, and the reason that stands in the place of its number.
BAD: dict[str, tuple[Callable[[Evaluation], Any], str]] = {
    "raises": (then_half(lambda _: [][0]), "failed (IndexError: list index out of range)"),
    "exits": (then_half(lambda _: sys.exit(0)), "raised SystemExit(0), which ends a process"),
    "word": (lambda _: "half", "failed (TypeError"),
    "array": (lambda e: e.probs, "failed ("),
    "chdir": (then_half(lambda _: os.chdir("/")), "changed the working directory"),
}


def suite(*metrics: str) -> Suite:
    whole = limited("embedded", 40)
    return replace(whole, method=(MethodSpec("frequentist"),), timing=TIMING, metrics=metrics)


def numbers(record: Record) -> dict[str, Any]:
    return {name: found for name, found in record["metrics"].items() if name not in (*BAD, "overwrites")}


def test_a_bad_metric_costs_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a reason in the place of its number, and all others are what they are without it."""
    (alone,) = run(suite(), tmp_path / "alone", device="cpu")
    bad = {name: metric(name, evaluate) for name, (evaluate, _) in BAD.items()}
    register(monkeypatch, **bad, overwrites=metric("overwrites", then_half(overwrite)))
    (found,) = run(suite(), tmp_path / "mixed", device="cpu")
    assert found["status"] == "ok"
    assert numbers(found) == numbers(alone)
    for name, (_, says) in BAD.items():
        assert found["metrics"][name]["value"] is None
        assert says in found["metrics"][name]["reason"]
    assert found["metrics"]["overwrites"]["value"] == 0.5
    assert Path.cwd() != Path("/")


def test_another_version_of_a_metric_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another number, and is computed anew; where it is not used nothing is."""
    found = {}
    for version, value in (("1.0", 0.5), ("2.0", 0.25)):
        register(monkeypatch, version=version, half=metric("half", lambda _, value=value: value))
        (found[version],) = run(suite("nll", "half"), tmp_path / "run", device="cpu")
        half = found[version]["metrics"]["half"]
        assert half["value"] == value
        assert half["definition"] == {"distribution": f"halves {version}"}
    assert found["1.0"]["cell"] != found["2.0"]["cell"]
    np.testing.assert_equal(found["1.0"]["metrics"]["nll"], found["2.0"]["metrics"]["nll"])
    (plain,) = run(suite("nll"), tmp_path / "plain", device="cpu")
    register(monkeypatch, version="3.0", half=metric("half", lambda _: 0.0))
    assert run(suite("nll"), tmp_path / "plain", device="cpu") == [plain]


def test_a_metric_that_cannot_be_imported_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a suite that asks for all; the run is what it is without it."""
    register(monkeypatch, half=RuntimeError("no abacus"))
    said: list[str] = []

    class Listening:
        def stage(self, name: str, steps: int) -> None: ...
        def step(self, detail: str) -> None: ...
        def say(self, sentence: str) -> None:
            said.append(sentence)

    (found,) = run(suite(), tmp_path, device="cpu", progress=Listening())
    assert found["status"] == "ok"
    assert "half" not in found["metrics"]
    assert any("'half' from halves 1.0 failed to import" in sentence for sentence in said)
