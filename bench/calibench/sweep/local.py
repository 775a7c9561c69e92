"""Processes of this machine: each loads a pair's model and data once, and dies alone.

A process is a session of its own, so that Ctrl-C at the terminal reaches the sweep alone, which then ends
them all; where the sweep itself is killed, they see that it is gone and end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait

from calibench.measure.progress import Progress
from calibench.sweep.executor import Answer, Failure, Job

#: What tells the libraries below torch how many threads to start.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(eq=False)
class _Process:
    """One process, and what it is at."""

    popen: subprocess.Popen[bytes]
    channel: Connection
    job: Job | None = None
    pair: int | None = None


class Local:
    """An `Executor` of processes of this machine.

    Args:
        workers: how many.
        progress: who is told how far each has come.
        threads: of each process; None for as many as the libraries choose.
        fresh: a new process for every job, so that none inherits another's memory.
    """

    def __init__(
        self, workers: int, progress: Progress, *, threads: int | None = 1, fresh: bool = False
    ) -> None:
        self._workers = workers
        self._progress = progress
        self._threads = threads
        self._fresh = fresh
        # All at once: what one imports while another looks at the first pair, nobody waits for.
        self._processes = [] if fresh else [self._start() for _ in range(workers)]

    @property
    def slots(self) -> int:
        """As many as there are processes."""
        return self._workers

    def held(self) -> Collection[int]:
        """As of an `Executor`."""
        return {item.pair for item in self._processes if item.job is None and item.pair is not None}

    def submit(self, job: Job) -> None:
        """As of an `Executor`."""
        idle = [item for item in self._processes if item.job is None]
        own = [item for item in idle if item.pair == job.pair]
        process = next(iter(own), None)
        if process is None and len(self._processes) < self._workers:
            process = self._start()
            self._processes.append(process)
        process = process or idle[0]
        process.job, process.pair = job, job.pair
        with contextlib.suppress(OSError):  # it has died, which waiting for its answer will show
            process.channel.send(job)

    def answers(self) -> list[Answer]:
        """As of an `Executor`."""
        found: list[Answer] = []
        while not found:
            busy = {item.channel: item for item in self._processes if item.job is not None}
            for channel in wait(list(busy)):
                answer = self._answer(busy[channel])  # type: ignore[index] # wait gives back what it was given
                found += [] if answer is None else [answer]
        return found

    def _answer(self, process: _Process) -> Answer | None:
        assert process.job is not None
        try:
            said = process.channel.recv()
        except (EOFError, OSError):
            number = process.job.number
            return Answer(number, Failure({"type": "ProcessDied", "message": self._ended(process)}))
        if not isinstance(said, Answer):
            getattr(self._progress, said[0])(*said[1])
            return None
        process.job = None
        if self._fresh:
            self._end(process)
        return said

    def _start(self) -> _Process:
        given = {} if self._threads is None else dict.fromkeys(_THREADS, str(self._threads))
        return _Process(
            *started("process", self._threads or 0, env=given | {"TOKENIZERS_PARALLELISM": "false"})
        )

    def _ended(self, process: _Process) -> str:
        """How a process ended that has not answered."""
        process.channel.close()
        code = process.popen.wait()
        self._processes.remove(process)
        if code >= 0:
            return (
                f"the process that ran it ended with exit code {code}; a method only fails, it does not exit"
            )
        name = signal.Signals(-code).name
        more = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return f"the process that ran it was killed by {name}{more}"

    def _end(self, process: _Process) -> None:
        self._processes.remove(process)
        process.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()

    def close(self) -> None:
        """As of an `Executor`."""
        for process in list(self._processes):
            self._end(process)


def started(
    module: str, *arguments: int, env: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run a module of this package in a session of its own, with a channel between here and there.

    Args:
        module: whose first two arguments are the channel's descriptor and the process that it belongs to.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-m", f"calibench.sweep.{module}", str(theirs.fileno()), str(os.getpid())]
    popen = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env=os.environ | env,
    )
    theirs.close()
    return popen, ours
