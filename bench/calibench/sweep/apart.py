"""An executor in a process of its own: what ends that process ends the sweep in one sentence, and no more."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from calibench.errors import CalibenchError
from calibench.measure.progress import Progress
from calibench.sweep.executor import Answer, Executor, Job
from calibench.sweep.local import started

#: Seconds that the process has to end what it has begun.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Reply:
    """What the process says to everything it is asked.

    Attributes:
        slots, held: of its executor, now.
        answers: where it was asked for them.
        error: why it goes no further.
    """

    slots: int = 0
    held: frozenset[int] = frozenset()
    answers: tuple[Answer, ...] = ()
    error: Exception | None = None


class Apart:
    """An `Executor` in a process of its own.

    Args:
        make: makes it there, of `progress` and what is `given`; a name that can be imported.
        progress: who is told what it says.
        ended: the sentence where the process has ended by itself.

    Raises:
        CalibenchError: what `make` raises; whatever is asked later may raise it too.
    """

    def __init__(self, make: Callable[..., Executor], progress: Progress, ended: str, **given: Any) -> None:
        self._progress = progress
        self._ended = ended
        self._popen, self._channel = started("executing", env={})
        try:
            self._reply = self._asked((make, given))
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """As of an `Executor`."""
        return self._reply.slots

    def held(self) -> Collection[int]:
        """As of an `Executor`."""
        return self._reply.held

    def submit(self, job: Job) -> None:
        """As of an `Executor`."""
        self._reply = self._asked(job)

    def answers(self) -> list[Answer]:
        """As of an `Executor`."""
        self._reply = self._asked(None)
        return list(self._reply.answers)

    def _asked(self, what: Any) -> Reply:
        """What the process replies; what it says before that is handed on."""
        try:
            self._channel.send(what)
            said = self._channel.recv()
            while not isinstance(said, Reply):
                getattr(self._progress, said[0])(*said[1])
                said = self._channel.recv()
        except (EOFError, OSError) as error:
            raise CalibenchError(self._ended) from error
        if said.error is not None:
            raise said.error
        return said

    def close(self) -> None:
        """As of an `Executor`."""
        self._popen.send_signal(signal.SIGINT)  # it may be waiting for answers, and hear nothing else
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_PATIENCE_S)
        self._popen.kill()
        self._popen.wait()
        self._channel.close()
