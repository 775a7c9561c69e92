"""Two sides take turns: the order, what makes them unlike, and processes that end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.measure.progress import Silent
from calibench.measure.race import Build, Loaded, race, started
from calibench.suites.loader import load_suite

SUITE = load_suite("embedded")
LOADED = Loaded(("k1", "k2"), ("one", "two"), ("one", "two"), "data", "model", "plan", 5, (3, 8))


class Side:
    """A side that is not there: every turn is noted, and takes as long as its number says."""

    def __init__(self, name: str, log: list[tuple[str, int, str, int]], loaded: Loaded = LOADED) -> None:
        self.build = Build(name, SUITE)
        self.loaded = loaded
        self.log = log

    def time(self, cell: int, kind: str, number: int) -> float:
        self.log.append((self.build.name, cell, kind, number))
        return float(number + (0.5 if self.build.name == "new" else 0.0))


def test_every_block_is_timed_twice_by_both_in_mirrored_order() -> None:
    """base, new, new, base or the other way round: neither is first more often, and times are paired."""
    log: list[tuple[str, int, str, int]] = []
    base, new = (Side(name, log) for name in ("base", "new"))
    looks = list(race(base, new, (4, 30), Silent()))  # type: ignore[arg-type]
    assert [len(found["k1"].base_blocks) for found in looks] == [4, 30]
    for raced in looks[-1].values():
        for ours, theirs in (
            (raced.base_blocks, raced.new_blocks),
            (raced.base_requests, raced.new_requests),
        ):
            assert {b - a for a, b in zip(ours, theirs, strict=True)} == {0.5}
        assert sorted(raced.base_blocks) == sorted([0.0, 1.0, 2.0, 3.0, 4.0] * 6)
    blocks = [entry for entry in log if entry[2] == "block"]
    fours = [blocks[at : at + 4] for at in range(0, len(blocks), 4)]
    orders = {"".join(entry[0][0] for entry in four) for four in fours}
    assert orders == {"bnnb", "nbbn"}
    assert all(len({entry[1:] for entry in four}) == 1 for four in fours)


def test_whoever_has_seen_enough_ends_the_race() -> None:
    """No turn is taken after the last look, and single texts only where they are asked for."""
    log: list[tuple[str, int, str, int]] = []
    looks = race(Side("base", log), Side("new", log), (4, 30), Silent(), requests=False)  # type: ignore[arg-type]
    found = next(looks)
    assert len(log) == 2 * 2 * 4
    assert all(not raced.new_requests for raced in found.values())


@pytest.mark.parametrize("change", [{"data": "x"}, {"plan": "x"}, {"names": ("one", "three")}, {"blocks": 6}])
def test_sides_that_are_not_about_the_same_are_refused(change: dict[str, Any]) -> None:
    """Another model may be raced; other texts, batches or methods may not."""
    log: list[tuple[str, int, str, int]] = []
    with pytest.raises(UsageError, match=f"its {next(iter(change))} are not those of new"):
        next(race(Side("base", log, replace(LOADED, **change)), Side("new", log), (2,), Silent()))  # type: ignore[arg-type]
    next(race(Side("base", log, replace(LOADED, model="x")), Side("new", log), (2,), Silent()))  # type: ignore[arg-type]


def test_a_process_that_ends_early_says_what_it_said_last(tmp_path: Path) -> None:
    """A build whose code cannot be imported is one sentence."""
    (tmp_path / "calibench").mkdir()
    (tmp_path / "calibench" / "__init__.py").write_text("raise RuntimeError('broken build')\n")
    with (
        pytest.raises(CalibenchError, match=r"old ended early \(RuntimeError: broken build\)"),
        started(Build("old", SUITE, tmp_path, (tmp_path,)), "cpu"),
    ):
        pass


@pytest.mark.slow
def test_a_source_of_which_nothing_is_imported_is_refused(tmp_path: Path) -> None:
    """What would be raced is the installed code, twice; and a method that is not there is named."""
    (tmp_path / "unused").mkdir()
    suite = replace(SUITE, method=SUITE.method[:1], data=replace(SUITE.data, limit=8))
    with (
        pytest.raises(UsageError, match="none of its code was imported"),
        started(Build("old", suite, tmp_path / "unused", (tmp_path / "unused",)), "cpu"),
    ):
        pass
    unknown = replace(suite, method=(replace(suite.method[0], name="no-such-method"),))
    with (
        pytest.raises(UsageError, match="old cannot be raced: Unknown method 'no-such-method'"),
        started(Build("old", unknown), "cpu"),
    ):
        pass
