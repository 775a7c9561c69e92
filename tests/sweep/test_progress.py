"""Progress off a terminal: few plain lines, a line per failure, and the time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from calibench.report.writing.numbers import duration
from calibench.sweep.progress import SweepDisplay
from sweeps import small


class Clock:
    """Seconds, ten for each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def shown(step: float, *, quiet: bool = False) -> str:
    """What is shown of three rows that are done and one that fails."""
    out = io.StringIO()
    sweep = small("frequentist", "mc-dropout", head="seeds = [0, 1]\n")
    with SweepDisplay(sweep, quiet=quiet, console=Console(file=out), clock=Clock(step)) as display:
        (pair,) = sweep.pairs
        display.done(pair, "a")
        display.failed(pair, "b", "two\nlines [x]")
        display.done(pair, "c")
        display.done(pair, "d")
    assert display.failures == ["embedded--corpus: b: two lines [x]"]
    assert display.finished == 3
    return out.getvalue()


def test_plain_lines_tell_how_far_and_how_long() -> None:
    """A line per row where rows take long, with the time left at the rate so far."""
    lines = shown(10.0).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("1 of 4 cells, ")
    assert lines[0].endswith(" left: embedded--corpus: a")
    assert lines[1] == "Failed: embedded--corpus: b: two lines [x]"
    assert lines[-1] == "4 of 4 cells: embedded--corpus: d"


def test_rows_in_quick_succession_share_a_line() -> None:
    """Hundreds of rows are no hundreds of lines; a failure always is one."""
    assert shown(0.001).splitlines() == [
        "Failed: embedded--corpus: b: two lines [x]",
        "4 of 4 cells: embedded--corpus: d",
    ]


def test_rows_that_took_their_time_together_tell_it_once() -> None:
    """After the last of them: by the first alone, all of a pair's time would be one row's."""
    out = io.StringIO()
    sweep = small("frequentist", "mc-dropout", head="seeds = [0, 1]\n")
    with SweepDisplay(sweep, quiet=False, console=Console(file=out), clock=Clock(10.0)) as display:
        with display.together():
            for row in ("a", "b", "c"):
                display.done(sweep.pairs[0], row)
        display.done(sweep.pairs[0], "d")
    lines = out.getvalue().splitlines()
    assert [line[:12] for line in lines] == ["3 of 4 cells", "4 of 4 cells"]


def test_quiet_shows_failures_alone() -> None:
    """An error is never left out."""
    assert shown(10.0, quiet=True).splitlines() == ["Failed: embedded--corpus: b: two lines [x]"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (99, "99 s"), (600, "10 min"), (12600, "3.5 h"), (2e5, "2.3 days")]
)
def test_durations(seconds: float, text: str) -> None:
    """In the unit in which they are short."""
    assert duration(seconds) == text
