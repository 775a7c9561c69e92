"""A session goes on from the journal of the same set of cells, and from no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from calibench.measure.running import Running, against_itself
from calibench.measure.session import session_name
from calibench.suites.cells import Cell
from calibench.suites.loader import load_suite
from calibench.suites.spec import Suite, YardstickSpec
from calibench_methods.one_pass.frequentist import Frequentist

SUITE = replace(load_suite("embedded"), curve=(1, 3))


def running(key: str) -> Running:
    return Running(Cell("frequentist", Frequentist, {}, 0, True), key)


def name(suite: Suite = SUITE, blocks: int = 4, active: Sequence[Running] | None = None) -> str:
    """The name of a session in a setting of which nothing but the suite and the blocks counts."""
    setting = SimpleNamespace(suite=suite, blocks=[[]] * blocks)
    return session_name(setting, [running("a"), running("b")] if active is None else active)


def test_the_name_is_of_the_set_of_cells() -> None:
    """Twelve hexadecimal digits, whatever the order of the cells."""
    assert re.fullmatch("[0-9a-f]{12}", name())
    assert name(active=[running("b"), running("a")]) == name()


@pytest.mark.parametrize(
    "changed",
    [
        {"active": [running("a")]},
        {"active": [running("a"), running("c")]},
        {"active": [running("a"), running("b"), against_itself(running("a"))]},
        {"blocks": 5},
        {"suite": replace(SUITE, timing=replace(SUITE.timing, latency=SUITE.timing.latency + 1))},
        {"suite": replace(SUITE, curve=(1, 2))},
        {"suite": replace(SUITE, yardstick=YardstickSpec("mc-dropout"))},
        {"suite": replace(SUITE, yardstick=YardstickSpec("mc-dropout", replicates=3))},
    ],
    ids=["fewer", "another", "itself", "blocks", "latency", "curve", "yardstick", "replicates"],
)
def test_what_is_measured_otherwise_has_another_name(changed: dict[str, object]) -> None:
    """Cells, blocks, requests, the curve and the yardstick each count."""
    names = {name(), name(suite=replace(SUITE, yardstick=YardstickSpec("mc-dropout", replicates=5)))}
    assert name(**changed) not in names  # type: ignore[arg-type]


def test_repetitions_go_on_from_the_same_journal() -> None:
    """More of them are more lines of the same kind."""
    timing = replace(SUITE.timing, runs=SUITE.timing.runs + 2, min_time=5.0)
    assert name(suite=replace(SUITE, timing=timing)) == name()
