"""A stall while a method runs: the block is timed again and counted, and no prediction changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from calibench.measure import clocks, session
from calibench.measure.clocks import Timed
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.plan import Planner
from calibench.registry import METHODS
from calibench.report.sections import sections
from calibench.report.writing.words import remarks
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import Record
from calibench.suites.spec import MethodSpec, Suite, TimingSpec
from calibench.types import IntArray, Plan, Predictive
from calibench_methods.one_pass.frequentist import Frequentist
from limited_suites import limited

BLOCKS = 8
#: Seconds of a stall; a block takes `Sleeper` a tenth of one.
STALL = 2.0


class Sleeper(Method):
    """The softmax, which sleeps a little in every block, and does what `at` says at some calls."""

    at: ClassVar[dict[int, Callable[[], Any]]] = {}

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.inner = Frequentist(checkpoint)
        self.calls = 0

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        self.calls += 1
        self.at.get(self.calls, lambda: None)()
        return self.inner.predict(plan, seed=seed)


def suite() -> Suite:
    """The reference and the sleeper, without a warm-up: a call is a timed block."""
    timing = TimingSpec(blocks=BLOCKS, latency=2, memory=False, token_budget=64, warmup=0)
    methods = (MethodSpec("frequentist"), MethodSpec("sleeper"))
    return replace(limited("embedded", 40), method=methods, passes=1, timing=timing)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sleeper is a method by name, which does nothing yet."""
    load, point = METHODS.load, METHODS.entry_point
    monkeypatch.setattr(METHODS, "load", lambda name: Sleeper if name == "sleeper" else load(name))
    monkeypatch.setattr(
        METHODS, "entry_point", lambda name: point("frequentist" if name == "sleeper" else name)
    )
    monkeypatch.setattr(Sleeper, "at", {})


@pytest.fixture
def slow_calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """A clock by which a block takes a millisecond per token, the sleeper three, and more at some calls.

    Returns:
        call of the sleeper -> what its time is multiplied by.
    """
    slow: dict[int, float] = {}
    real = clocks.time_prediction

    def timed(
        method: Method, planner: Planner, plan: Plan, groups: Sequence[IntArray], *, seed: int
    ) -> tuple[Predictive, Timed]:
        found, _ = real(method, planner, plan, groups, seed=seed)
        tokens = sum(len(plan.token_ids[at]) for group in groups for at in group)
        own = 3.0 * slow.get(method.calls, 1.0) if isinstance(method, Sleeper) else 1.0
        return found, Timed(0.001 * tokens * own, 0.0, 0.0)

    monkeypatch.setattr(session, "time_prediction", timed)
    return slow


def rows(folder: Path, **arguments: Any) -> dict[str, Record]:
    return {record["method"]["name"]: record for record in run(suite(), folder, device="cpu", **arguments)}


def probabilities(folder: Path, found: dict[str, Record]) -> list[Any]:
    return [load_predictions(folder, record).probs for record in found.values()]


def stalls(record: Record) -> tuple[int, int, int]:
    counts = record["timing"]["stalls"]
    return counts["marked"], counts["repeated"], counts["left"]


def test_a_method_that_sleeps_once_is_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the true clock: no time that counts holds the long sleep, and the row says that one did."""
    naps = {call: lambda: time.sleep(0.1) for call in range(1, 2 * BLOCKS)}
    monkeypatch.setattr(Sleeper, "at", naps | {3: lambda: time.sleep(STALL)})
    found = rows(tmp_path)["sleeper"]
    marked, repeated, _ = stalls(found)
    assert marked >= 1
    assert repeated >= 1
    assert len(found["timing"]["blocks"]) == BLOCKS
    assert all(0.1 < block["end_to_end_s"] < STALL for block in found["timing"]["blocks"])


def test_a_stall_leaves_ratios_throughput_and_predictions_as_they_are(
    tmp_path: Path, slow_calls: dict[int, float]
) -> None:
    """By a clock of our own: all is as in a run without one, but for the counts and their sentence."""
    quiet = rows(tmp_path / "quiet")
    slow_calls[3] = 50.0
    found = rows(tmp_path / "stalled")
    assert [stalls(record) for record in found.values()] == [(0, 0, 0), (1, 1, 0)]
    for name, record in found.items():
        assert record["cost_ratio"] == quiet[name]["cost_ratio"]
        assert record["timing"]["throughput"] == quiet[name]["timing"]["throughput"]
        assert record["predictions_sha256"] == quiet[name]["predictions_sha256"]
    assert found["sleeper"]["cost_ratio"]["value"] == pytest.approx(3.0)
    assert remarks(sections(list(quiet.values()))[0]) == []
    assert remarks(sections(list(found.values()))[0]) == [
        (
            "sleeper",
            "1 timing block took far longer than this row's others, as when the machine stalls; timed once "
            "more: 1, far from the others still: 0.",
        )
    ]


def test_a_second_stall_is_left_and_moves_the_ratio_little(
    tmp_path: Path, slow_calls: dict[int, float]
) -> None:
    """The block's second time counts, stalled or not, and the interval is there all the same."""
    slow_calls.update({3: 50.0, BLOCKS + 1: 20.0})
    found = rows(tmp_path)["sleeper"]
    assert stalls(found) == (1, 1, 1)
    ratio = found["cost_ratio"]
    assert (ratio["value"], ratio["low"], ratio["high"]) == pytest.approx((3.0, 3.0, 3.0))
    assert max(block["end_to_end_s"] / block["tokens"] for block in found["timing"]["blocks"]) == (
        pytest.approx(0.06)
    )


def test_the_budget_is_a_quarter_of_the_blocks(tmp_path: Path, slow_calls: dict[int, float]) -> None:
    """Of eight blocks two, the worst; what is left is said."""
    slow_calls.update({1: 5.0, 3: 50.0, 4: 20.0})
    assert stalls(rows(tmp_path)["sleeper"]) == (3, 2, 1)


class Stopping:
    """A progress that presses Ctrl-C at a step of timing stalled blocks again."""

    def __init__(self, steps: int | None) -> None:
        self.left = steps
        self.stages: list[tuple[str, int]] = []

    def stage(self, name: str, steps: int) -> None:
        self.stages.append((name, steps))

    def step(self, detail: str) -> None:  # noqa: ARG002 - only counted
        if self.left is not None and self.stages[-1][0].startswith("Stalled"):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        pass


def test_a_run_killed_while_it_times_again_goes_on_there(
    tmp_path: Path, slow_calls: dict[int, float]
) -> None:
    """Of two stalled blocks the first is timed again before the kill, the second after it; each once."""
    slow_calls.update({3: 50.0, 5: 20.0})
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path / "killed", progress=Stopping(3))
    slow_calls.clear()
    watched = Stopping(None)
    resumed = rows(tmp_path / "killed", progress=watched)
    assert ("Repetition 1", 0) in watched.stages
    assert ("Stalled blocks again", 2) in watched.stages
    slow_calls.update({3: 50.0, 5: 20.0})
    whole = rows(tmp_path / "whole")
    assert stalls(resumed["sleeper"]) == stalls(whole["sleeper"]) == (2, 2, 0)
    for one, other in zip(
        probabilities(tmp_path / "killed", resumed), probabilities(tmp_path / "whole", whole), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert resumed["sleeper"]["cost_ratio"] == whole["sleeper"]["cost_ratio"]
    assert not (tmp_path / "killed" / "journal").exists()


def test_a_method_that_fails_when_it_is_timed_again_fails(
    tmp_path: Path, slow_calls: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in any repetition: its row says so, and the reference has its own."""

    def fail() -> None:
        raise ValueError("enough")

    slow_calls[3] = 50.0
    monkeypatch.setattr(Sleeper, "at", {BLOCKS + 1: fail})
    found = rows(tmp_path)
    assert found["sleeper"]["error"] == {"type": "ValueError", "message": "enough"}
    assert found["frequentist"]["status"] == "ok"
