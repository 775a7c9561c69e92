"""Clocks: what is counted, to whom, and from where to where; no test waits for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from calibench.measure.clocks import time_prediction
from calibench.method import Method
from calibench.models import sharing
from calibench.models.plan import Planner
from calibench.models.sharing import alone
from calibench_methods.scores.energy import Energy
from calibench_methods.scores.max_logit import MaxLogit
from tiny_models import MAX_LENGTH, plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")


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
