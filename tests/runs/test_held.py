"""What a run holds in memory: not what its journal has, and of its rows one at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibench.measure import phases
from calibench.measure.session import Session
from calibench.method import Method
from calibench.run import run
from calibench.score import record
from calibench.suites.spec import MethodSpec, Suite, TimingSpec
from calibench.types import Predictive
from limited_suites import limited

TIMING = TimingSpec(blocks=4, latency=2, memory=False, token_budget=128)


def suite(*methods: str, **changes: Any) -> Suite:
    """The embedded suite with little timing effort."""
    specs = tuple(MethodSpec(name) for name in methods)
    return replace(limited("embedded", 40), method=specs, passes=3, timing=TIMING, **changes)


def alive() -> int:
    """How many predictions there are."""
    gc.collect()
    return sum(type(item) is Predictive for item in gc.get_objects())


def before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, look: Callable[[], object]) -> None:
    """Have `look` called whenever a function of a module is."""
    called = getattr(owner, name)

    def instead(*arguments: Any, **options: Any) -> Any:
        look()
        return called(*arguments, **options)

    monkeypatch.setattr(owner, name, instead)


def test_outputs_are_not_held_while_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all blocks no prediction is left in memory, and each is scored all the same."""
    found: list[int] = []
    before(monkeypatch, phases, "time_single_texts", lambda: found.append(alive()))
    here = alive()
    records = run(suite("frequentist", "mc-dropout", "mc-dropout-batch"), tmp_path)
    assert found == [here]
    assert [row["status"] for row in records] == ["ok"] * 3


def test_rows_are_held_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many methods there are, as many predictions are alive when a row is written down."""
    found: list[int] = []
    before(monkeypatch, record, "write_predictions", lambda: found.append(alive()))
    here = alive()
    run(suite("frequentist", "mc-dropout", "mc-dropout-batch", "mc-dropout-last"), tmp_path)
    assert found == [here + 1] * 4


def test_methods_are_let_go_of_before_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they learnt may be large, and is of no use any more."""
    methods: list[weakref.ref[Method]] = []
    left: list[bool] = []

    def note(session: Session) -> None:
        methods.extend(weakref.ref(item.method) for item in session.active if item.method is not None)
        warm(session)

    def look() -> None:
        gc.collect()
        left.append(any(method() is not None for method in methods))

    warm = phases.warm_up
    monkeypatch.setattr(phases, "warm_up", note)
    before(monkeypatch, record, "write_predictions", look)
    run(suite("frequentist", "mc-dropout"), tmp_path)
    assert (len(methods), left) == (2, [False, False])


@pytest.mark.parametrize("curve", [(), (1, 3)], ids=["no curve", "a curve"])
def test_passes_are_kept_for_a_curve_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: tuple[int, ...]
) -> None:
    """Samples are as large as all else together times the passes; without a curve nothing reads them."""
    samples: list[bool] = []
    predicted = record.predicted

    def note(*arguments: Any) -> Any:
        outcome = predicted(*arguments)
        assert outcome.predictive is not None
        samples.append(outcome.predictive.samples is not None)
        return outcome

    monkeypatch.setattr(record, "predicted", note)
    records = run(suite("frequentist", "mc-dropout", curve=curve), tmp_path)
    assert samples == [False, bool(curve)]
    assert [row["curve"] is not None for row in records] == [False, bool(curve)]
