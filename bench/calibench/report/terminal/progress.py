"""Progress: stage, steps and time left in a bar on a terminal, in a line a minute elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from calibench.report.writing.numbers import duration

#: Seconds between two lines where there is no terminal.
_APART = 60.0
#: Columns where there is no terminal that has some.
_WIDTH = 100


class Display:
    """Shows a run's progress on standard error and its table on standard output.

    Args:
        quiet: show nothing.
        verbose: print each step on a line of its own, terminal or not.
        console: where to; standard error unless given.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        *,
        quiet: bool,
        verbose: bool,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._verbose = verbose and not quiet
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._line = self._began = clock()
        self._stage, self._steps, self._done = "", 0, 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, steps: int) -> None:
        """Begin a stage of `steps` steps."""
        self._stage, self._steps, self._done, self._began = name, steps, 0, self._clock()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=steps, detail="")
        if self._verbose:
            self._print(f"{name} ({steps})")

    def step(self, detail: str) -> None:
        """One step is done."""
        self._done += 1
        if self._task is not None:
            self._progress.update(self._task, advance=1, detail=detail)
        if self._verbose:
            self._print(f"  {detail}")
        elif not self._quiet and not self._console.is_terminal:
            self._line_a_minute(detail)

    def _line_a_minute(self, detail: str) -> None:
        now = self._clock()
        if now - self._line < _APART:
            return
        self._line = now
        left = (now - self._began) / self._done * (self._steps - self._done)
        time_left = f", about {duration(left)} left of it" if self._done < self._steps else ""
        self._print(f"{self._stage}: {self._done} of {self._steps}{time_left} ({detail})")

    def say(self, sentence: str) -> None:
        """Something the user should know."""
        if not self._quiet:
            self._print(sentence)

    def _print(self, text: str) -> None:
        # A bracket is a bracket, as in `pip install "calibench[peers]"`, and a sentence is one line.
        self._console.print(text, markup=False, soft_wrap=True)

    def print(self, renderable: Any) -> None:
        """Print to standard output, wide enough for the table where that is no terminal."""
        printed(renderable)


def printed(renderable: Any) -> None:
    """Print to standard output, wide enough for our tables where that is no terminal."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output = Console(highlight=False, width=_WIDTH)
    output.print(renderable, markup=False)


def as_text(renderable: Any) -> str:
    """The same for a file: without colours."""
    file = io.StringIO()
    output = Console(highlight=False, width=_WIDTH, file=file, force_terminal=False, color_system=None)
    output.print(renderable, markup=False)
    return file.getvalue()
