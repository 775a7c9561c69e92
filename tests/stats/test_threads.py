"""Calls on two threads give what calls after each other give."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from calibench.metrics.select import select_metrics
from calibench.stats import threads
from calibench.stats.bootstrap import bootstrap_intervals
from calibench.types import Evaluation


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier call takes longer than a later one."""
    monkeypatch.setattr(threads, "threads", lambda: 2)
    second = threading.Event()

    def each(item: int) -> int:
        if item == 0:
            assert second.wait(60)  # ends only if the next one runs beside it
        if item == 1:
            second.set()
        return item * item

    assert list(threads.in_order(each, range(9))) == [i * i for i in range(9)]


@pytest.mark.parametrize("number", [1, 2])
def test_no_more_items_are_taken_than_are_worked_on(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are large: who makes them makes the next one when there is a thread for it."""
    monkeypatch.setattr(threads, "threads", lambda: number)
    taken: list[int] = []
    found = threads.in_order(lambda item: item, (taken.append(i) or i for i in range(9)))
    for done in range(1, 6):
        next(found)
        assert len(taken) <= done + number - 1


def test_an_error_is_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a plain call."""
    monkeypatch.setattr(threads, "threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        list(threads.in_order(lambda item: 1 / item, [1, 0, 2]))


@pytest.mark.parametrize("n", [500, 10_001])
def test_metrics_do_not_depend_on_threads(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, resampled one by one and by the normal limit."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), n)
    labels = (rng.random((n, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)
    metrics = select_metrics((), posterior_known=False)
    found = []
    for number in (1, 2, 2):
        monkeypatch.setattr(threads, "threads", lambda number=number: number)
        found.append(bootstrap_intervals(metrics, Evaluation(probs, labels), resamples=200, seed=1))
    assert found[0] == found[1] == found[2]
