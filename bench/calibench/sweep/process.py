"""A process of a sweep on this machine: run as a module, it takes jobs and answers on one descriptor."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

#: Milliseconds between two looks at whether the sweep is still there.
_LOOK_MS = 500


class Telling:
    """A progress that tells the sweep."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def stage(self, name: str, steps: int) -> None:
        """Begin a stage of `steps` steps."""
        self._tell("stage", name, steps)

    def step(self, detail: str) -> None:
        """One step is done."""
        self._tell("step", detail)

    def say(self, sentence: str) -> None:
        """Something the user should know."""
        self._tell("say", sentence)

    def _tell(self, name: str, *said: Any) -> None:
        self._channel.send((name, said))


def main(descriptor: int, parent: int, threads: int) -> None:
    """Do jobs until the sweep hangs up."""
    threading.Thread(target=end_with, args=(parent, descriptor), daemon=True).start()
    os.dup2(2, 1)
    channel = Connection(descriptor)
    from calibench.sweep.worker import Worker, answered

    if threads:
        import torch

        torch.set_num_threads(threads)
    worker = Worker(Telling(channel))
    while True:
        try:
            job = channel.recv()
        except EOFError:
            return
        channel.send(answered(worker, job))


def end_with(parent: int, descriptor: int) -> None:
    """End this process, and those that it started, once the sweep is gone.

    What it held of memory is wanted by others: where a channel tells of its end, that is at once.
    """
    hangs_up = select.poll()
    hangs_up.register(descriptor, 0)
    while os.getppid() == parent and not hangs_up.poll(_LOOK_MS):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
