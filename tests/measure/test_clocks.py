"""Clocks: what is counted, to whom, and from where to where; no test waits for one."""

from __future__ import annotations

import gc
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibench.measure.clocks import ForwardTimer, frozen_heap, time_prediction
from calibench.method import Method
from calibench.models import sharing
from calibench.models.checkpoint import Checkpoint
from calibench.models.plan import Planner
from calibench.models.sharing import alone
from calibench.types import IntArray, Plan, Predictive
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.max_logit import MaxLogit
from tiny_models import MAX_LENGTH, plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")


class Wall:
    """A clock that stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """The clock that is read instead of the machine's."""
    wall = Wall()
    monkeypatch.setattr("time.perf_counter", wall)
    return wall


class Takes(nn.Module):
    """A module whose forward call takes some seconds, and those of an inner one."""

    def __init__(self, wall: Wall, seconds: float, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.wall, self.seconds, self.inner, self.fail = wall, seconds, inner, False

    def forward(self) -> None:
        self.wall.now += self.seconds
        if self.inner is not None:
            self.inner()
        if self.fail:
            raise ValueError("the forward pass fails")


# --- forward calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timed", "seconds"), [("outer", 5.0), ("inner", 3.0), ("both", 8.0), ("none", 0.0)])
def test_forward_calls_of_the_named_modules_add_up(timed: str, seconds: float, wall: Wall) -> None:
    """A call within a call counts for each of the two that is named; time between calls for neither."""
    inner = Takes(wall, 3.0)
    outer = Takes(wall, 2.0, inner)
    named = {"outer": [outer], "inner": [inner], "both": [outer, inner], "none": []}[timed]
    timer = ForwardTimer(named, CPU)
    with timer.attached():
        for _ in range(2):
            wall.now += 100.0
            outer()
    assert timer.seconds == 2 * seconds


def test_calls_outside_the_block_are_not_counted(wall: Wall) -> None:
    """Before and after; a timer that is attached again goes on from where it was."""
    module = Takes(wall, 2.0)
    timer = ForwardTimer([module], CPU)
    module()
    for _ in range(2):
        with timer.attached():
            module()
        module()
    assert timer.seconds == 4.0
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_a_call_that_fails_is_counted_as_far_as_it_got(wall: Wall) -> None:
    """And leaves no start behind that a later call would be counted from."""
    inner = Takes(wall, 3.0)
    outer = Takes(wall, 2.0, inner)
    inner.fail = True
    timer = ForwardTimer([outer, inner], CPU)
    with timer.attached():
        with pytest.raises(ValueError, match="fails"):
            outer()
        inner.fail = False
        wall.now += 100.0
        outer()
    assert timer.seconds == 2 * 8.0


def test_a_device_without_a_clock_has_no_seconds() -> None:
    """Rather than those of the host, which does not wait for it."""
    assert ForwardTimer([], torch.device("mps")).seconds is None


# --- predictions -------------------------------------------------------------------------------------------


class SlowPlanner(Planner):
    """Tokenising, padding and copying take 100 seconds."""

    wall: Wall

    def assemble(self, *arguments: Any) -> Plan:
        self.wall.now += 100.0
        return super().assemble(*arguments)


class Peer(Method):
    """Takes 7 seconds, 3 of them in its module, and remembers what it was given."""

    wall: Wall

    def __init__(self, checkpoint: Checkpoint, wall: Wall) -> None:
        super().__init__(checkpoint)
        self.wall = wall
        self.modules = (Takes(wall, 3.0),)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        self.given, self.seed, self.collecting = plan, seed, gc.isenabled()
        self.wall.now += 4.0
        self.modules[0]()
        return Predictive(probs=np.full((len(plan), 2), 0.5), passes=np.ones(len(plan), dtype=np.int64))


class TokenisingPeer(Peer):
    """The same, but that it takes raw texts."""

    tokenises = True


def prepared(wall: Wall) -> tuple[Checkpoint, SlowPlanner, Plan, list[IntArray]]:
    """A plan of batches with a few texts each, and the two of its batches that are to be predicted."""
    checkpoint = tiny_checkpoint()
    planner = SlowPlanner(checkpoint.tokenizer, CPU, MAX_LENGTH, 60)
    planner.wall = wall
    texts = [*sentences(12)]
    plan = planner.plan(texts, np.arange(12))
    return checkpoint, planner, plan, [plan.batches[at].index for at in (2, 0)]


def test_a_method_is_timed_from_text_to_probabilities(wall: Wall) -> None:
    """What the harness tokenises for it is in its time, and named."""
    checkpoint, planner, plan, groups = prepared(wall)
    method = Peer(checkpoint, wall)
    predictive, timed = time_prediction(method, planner, plan, groups, seed=11)
    assert asdict(timed) == {"end_to_end_s": 107.0, "tokenise_s": 100.0, "forward_s": 3.0}
    assert method.seed == 11
    assert len(predictive.probs) == sum(map(len, groups))


def test_a_peer_that_tokenises_is_charged_for_its_own_tokenising_alone(wall: Wall) -> None:
    """It gets the texts in the order of the data set; what was made for it beforehand is not its time."""
    checkpoint, planner, plan, groups = prepared(wall)
    method = TokenisingPeer(checkpoint, wall)
    _, timed = time_prediction(method, planner, plan, groups, seed=0)
    assert asdict(timed) == {"end_to_end_s": 7.0, "tokenise_s": None, "forward_s": 3.0}
    rows = np.sort(np.concatenate(groups))
    assert method.given.rows.tolist() == rows.tolist()
    assert method.given.texts == tuple(plan.texts[row] for row in rows)


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_inside_a_timed_section(enabled: bool, wall: Wall) -> None:
    """The collector is afterwards as it was, also after an error."""
    checkpoint, planner, plan, groups = prepared(wall)
    method = Peer(checkpoint, wall)
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        time_prediction(method, planner, plan, groups, seed=0)
        assert gc.isenabled() == enabled
        method.modules[0].fail = True
        with pytest.raises(ValueError, match="fails"):
            time_prediction(method, planner, plan, groups, seed=0)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert not method.collecting


def test_a_frozen_heap_is_given_back() -> None:
    """Objects are out of the collector's sight inside the block only."""
    with frozen_heap():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="inside"), frozen_heap():
        raise ValueError("inside")
    assert gc.get_freeze_count() == 0


def test_a_pass_taken_over_is_charged_to_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes a pass has the seconds of who made it added, end to end and forward; alone pays in person."""
    checkpoint = tiny_checkpoint()
    planner = Planner(checkpoint.tokenizer, CPU, MAX_LENGTH, 10_000)
    plan = plan_of(checkpoint, [*sentences(5)], token_budget=10_000)
    groups = [plan.batches[0].index]
    clock = Clock(checkpoint.module)
    monkeypatch.setattr("time.perf_counter", clock)
    methods: list[Method] = [Energy(checkpoint), MaxLogit(checkpoint)]
    with sharing.sharing():
        made, taken = (time_prediction(method, planner, plan, groups, seed=0)[1] for method in methods)
        with alone():
            paid = time_prediction(methods[0], planner, plan, groups, seed=0)[1]
    assert clock.passes == 2
    for timed in (made, taken, paid):
        assert timed.end_to_end_s == 100
        assert timed.forward_s == 100


class Clock:
    """A clock that stands still but for 100 seconds per forward pass."""

    def __init__(self, module: nn.Module) -> None:
        self.passes = -2  # the searches for the head
        module.base_model.register_forward_hook(self._tick)

    def _tick(self, *_: Any) -> None:
        self.passes += 1

    def __call__(self) -> float:
        return 100.0 * self.passes
