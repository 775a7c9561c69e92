"""The process of an executor, see `calibench.sweep.apart`: run as a module, it does as it is asked."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from calibench.errors import CalibenchError
from calibench.sweep.apart import Reply
from calibench.sweep.executor import Answer
from calibench.sweep.process import Telling, end_with


def main(descriptor: int, parent: int) -> None:
    """Make the executor and do as asked, until the sweep hangs up or interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the sweep deaf to it
    threading.Thread(target=end_with, args=(parent, descriptor), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where Ray writes what it ends this process for
    channel = Connection(descriptor)
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        try:
            _execute(channel)
        except CalibenchError as error:
            channel.send(Reply(error=error))
        except Exception:  # a defect: nobody here would see where
            channel.send(Reply(error=RuntimeError(traceback.format_exc())))


def _execute(channel: Connection) -> None:
    make, given = channel.recv()
    executor = make(progress=Telling(channel), **given)
    with contextlib.closing(executor):
        answers: list[Answer] = []
        while True:
            channel.send(Reply(executor.slots, frozenset(executor.held()), tuple(answers)))
            job = channel.recv()
            answers = executor.answers() if job is None else []
            if job is not None:
                executor.submit(job)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
