"""Progress of a run where nobody sees a bar: a line a minute, with the time left of the stage."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from calibench.report.terminal.progress import Display


def lines(seconds: float, **how: bool) -> list[str]:
    """What is said of five steps that take so many seconds each, in a stage that begins at zero."""
    out = io.StringIO()
    times: Iterator[float] = iter([0.0, 0.0, *(seconds * step for step in range(1, 6))])
    settings = {"quiet": False, "verbose": False} | how
    console = Console(file=out, width=100, highlight=False)
    with Display(**settings, console=console, clock=lambda: next(times)) as display:
        display.stage("Timing", 5)
        for name in "abcde":
            display.step(name)
    return out.getvalue().splitlines()


def test_a_line_a_minute_tells_how_far_and_how_long() -> None:
    """Of steps of 25 seconds the third and no other of five comes a minute after the beginning."""
    assert lines(25.0) == ["Timing: 3 of 5, about 50 s left of it (c)"]


def test_steps_of_minutes_have_a_line_each_and_the_last_has_no_time_left() -> None:
    """The time left is at the rate of this stage, whatever the stages before it took."""
    found = lines(90.0)
    assert found[0] == "Timing: 1 of 5, about 6 min left of it (a)"
    assert found[4] == "Timing: 5 of 5 (e)"
    assert len(found) == 5


@pytest.mark.parametrize("how", [{"quiet": True}, {}])
def test_what_takes_less_than_a_minute_or_is_quiet_says_nothing(how: dict[str, bool]) -> None:
    """Neither does a quiet run of any length."""
    assert lines(600.0 if how else 10.0, **how) == []


def test_a_terminal_has_its_bar_and_no_lines() -> None:
    """The bar is gone in the end."""
    out = io.StringIO()
    times = iter(range(0, 10_000, 100))
    console = Console(file=out, force_terminal=True, width=100)
    with Display(quiet=False, verbose=False, console=console, clock=lambda: next(times)) as display:
        display.stage("Timing", 2)
        display.step("a")
    assert "left of it" not in out.getvalue()
