"""What a run holds in memory: not what its journal has, and of its rows one at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from calibench.measure import phases
from calibench.measure.session import Session
from calibench.method import Method
from calibench.run import run
from calibench.score import record
from calibench.score.outcomes import Outcome
from calibench.store.records import Record
from calibench.suites.spec import MethodSpec, TimingSpec
from calibench.types import Predictive
from limited_suites import limited

METHODS = ("frequentist", "mc-dropout", "mc-dropout-batch", "mc-dropout-last")


@dataclass
class Seen:
    """What was there of a run while it ran.

    Attributes:
        records: its records.
        earlier: predictions that others had left behind.
        after_blocks: predictions of the run once all blocks were timed.
        at_rows: predictions there were, others' included, when each row was written down.
        methods: whether any method was there then.
        samples: by row, whether single passes were at hand.
    """

    records: list[Record] = field(default_factory=list)
    earlier: int = 0
    after_blocks: int = -1
    at_rows: list[int] = field(default_factory=list)
    methods: list[bool] = field(default_factory=list)
    samples: list[bool] = field(default_factory=list)


def alive() -> int:
    """How many predictions there are; none of those from before a freeze of the heap, while it lasts."""
    gc.collect()
    return sum(type(item) is Predictive for item in gc.get_objects())


def observed(folder: Path, curve: tuple[int, ...]) -> Seen:
    """A small run, looked at."""
    seen, methods = Seen(earlier=alive()), list[weakref.ref[Method]]()

    def before(name: str, owner: Any, look: Callable[..., None]) -> None:
        called = getattr(owner, name)

        def instead(*arguments: Any, **options: Any) -> Any:
            look(*arguments)
            return called(*arguments, **options)

        patch.setattr(owner, name, instead)

    def made(session: Session) -> None:
        methods.extend(weakref.ref(item.method) for item in session.active if item.method is not None)

    def timed(_: Session) -> None:
        seen.after_blocks = alive()

    def scored(_: Any, outcome: Outcome) -> None:
        assert outcome.predictive is not None
        seen.samples.append(outcome.predictive.samples is not None)

    def written(*_: Any) -> None:
        seen.at_rows.append(alive())
        seen.methods.append(any(method() is not None for method in methods))

    timing = TimingSpec(blocks=4, latency=2, memory=False, token_budget=128)
    suite = replace(limited("embedded", 40), passes=3, timing=timing, curve=curve)
    suite = replace(suite, method=tuple(MethodSpec(name) for name in METHODS))
    with pytest.MonkeyPatch.context() as patch:
        before("warm_up", phases, made)
        before("time_single_texts", phases, timed)
        before("with_sets", record, scored)
        before("write_predictions", record, written)
        seen.records = run(suite, folder)
    assert (len(methods), [item["status"] for item in seen.records]) == (4, ["ok"] * 4)
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run without a curve over passes."""
    return observed(tmp_path_factory.mktemp("run"), ())


def test_outputs_are_not_held_while_others_are_measured(seen: Seen) -> None:
    """After all blocks no prediction is left in memory, and each is scored all the same."""
    assert seen.after_blocks == 0


def test_rows_are_held_one_after_the_other(seen: Seen) -> None:
    """However many methods there are, one prediction is there when a row is written down."""
    assert seen.at_rows == [seen.earlier + 1] * len(METHODS)


def test_methods_are_let_go_of_before_scoring(seen: Seen) -> None:
    """What they learnt may be large, and is of no use any more."""
    assert seen.methods == [False] * len(METHODS)


def test_passes_are_kept_for_a_curve_alone(seen: Seen, tmp_path: Path) -> None:
    """Samples are as large as all else together times the passes; without a curve nothing reads them."""
    assert seen.samples == [False] * len(METHODS)
    curved = observed(tmp_path, (1, 3))
    assert curved.samples == [item["curve"] is not None for item in curved.records]
    assert curved.samples == [False, True, True, True]
