"""Who is told how far a sweep has come: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from calibench.report.writing.numbers import duration
from calibench.sweep.spec import Pair, Sweep

#: Seconds between two plain lines of progress.
_APART = 2.0


class Told(Protocol):
    """Who is told; stages and steps are those of a timed run, see `calibench.measure.progress`."""

    def stage(self, name: str, steps: int) -> None: ...

    def step(self, detail: str) -> None: ...

    def say(self, sentence: str) -> None: ...

    def expect(self, pair: Pair, rows: int) -> None: ...

    def together(self) -> AbstractContextManager[None]: ...

    def done(self, pair: Pair, row: str) -> None: ...

    def failed(self, pair: Pair, row: str, reason: str) -> None: ...


class SweepDisplay:
    """Shows a sweep's progress on standard error, and keeps the list of what failed.

    Args:
        quiet: show nothing but failures.
        console: where to; standard error unless given.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        sweep: Sweep,
        *,
        quiet: bool,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: `PAIR: ROW: REASON` of every row that failed.
        self.failures: list[str] = []
        #: How many rows were measured.
        self.finished = 0
        self._quiet = quiet
        self._clock = clock
        self._rows = {pair.folder: _rows(pair) for pair in sweep.pairs}
        self._console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("Cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task: Any = None
        self._held: list[str] | None = None
        self._start = self._line = clock()

    def __enter__(self) -> Self:
        self._task = self._bar.add_task("", total=self._total, left="", detail="")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, name: str, steps: int) -> None:  # noqa: ARG002 - the bar is of cells
        """A timed run begins a stage."""
        self._detail(name)

    def step(self, detail: str) -> None:
        """A timed run has made a step."""
        self._detail(detail)

    def say(self, sentence: str) -> None:
        """Something the user should know."""
        if not self._quiet:
            self._print(sentence)

    def expect(self, pair: Pair, rows: int) -> None:
        """So many rows of a pair are missing; until somebody looks, all of them."""
        self._rows[pair.folder] = rows
        self._update()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Rows that are told in here took their time together: the time left goes by all of them."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self._advance(held[-1])

    def done(self, pair: Pair, row: str) -> None:
        """A row has its record."""
        self.finished += 1
        self._advance(f"{pair.folder}: {row}")

    def failed(self, pair: Pair, row: str, reason: str) -> None:
        """A row has failed, or where it has no name a whole pair."""
        where = f"{pair.folder}: {row}" if row else pair.folder
        line = f"{where}: {' '.join(reason.split())}"
        self.failures.append(line)
        self._print(f"Failed: {line}")
        if row:
            self._advance(where)
        else:
            self.expect(pair, 0)

    @property
    def _total(self) -> int:
        return sum(self._rows.values())

    def _advance(self, detail: str) -> None:
        if self._held is not None:
            self._held.append(detail)
            return
        self._detail(detail)
        self._update()
        now, count = self._clock(), self.finished + len(self.failures)
        wanted = now - self._line >= _APART or count >= self._total
        if wanted and not self._quiet and not self._console.is_terminal:
            self._line = now
            self._print(f"{count} of {self._total} cells{self._left()}: {detail}")

    def _left(self) -> str:
        """How long it takes still, at the rate so far."""
        count = self.finished + len(self.failures)
        seconds = (self._clock() - self._start) / max(1, count) * (self._total - count)
        return f", {duration(seconds)} left" if 0 < count < self._total else ""

    def _update(self) -> None:
        if self._task is not None:
            done = self.finished + len(self.failures)
            self._bar.update(self._task, total=self._total, completed=done, left=self._left().strip(", "))

    def _detail(self, detail: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, detail=detail)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _rows(pair: Pair) -> int:
    """About how many rows a pair has: no method is imported to know."""
    suite = pair.suite
    beside = all(spec.name != suite.reference for spec in suite.method)
    return (len(suite.method) + beside) * len(suite.seeds) * (1 + len(suite.posthoc))
