"""Other people's code, run so that what it raises, prints or never finishes is its own failure alone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from calibench.errors import CalibenchError

T = TypeVar("T")

#: Seconds after which code that has caught its interruption is interrupted again.
_AGAIN = 1.0


class _Overran(BaseException):
    """Raised inside code that runs too long; no Exception, so that few handlers take it for their own."""


def contained(name: str, call: Callable[[], T], seconds: float | None = None) -> T:
    """What `call` returns, where all that it can raise is an Exception, or Ctrl-C.

    What it prints on standard output goes to standard error.

    Args:
        name: whose code it is, for messages.
        seconds: how long it may take; None for as long as it likes. Kept where `can_interrupt`.

    Raises:
        CalibenchError: it wanted to end the process, or took too long.
        Exception: as `call` raises it.
        KeyboardInterrupt: the user stops the run.
    """
    try:
        with stdout_aside(), _interrupted_after(seconds):
            return call()
    except (Exception, KeyboardInterrupt):
        raise
    except _Overran:
        raise CalibenchError(
            f"{name} took longer than the {seconds:g} seconds that it was given; give it more with "
            "--timeout-per-block, or leave it out."
        ) from None
    except BaseException as error:
        raised = f"{type(error).__name__}({error})"
        raise CalibenchError(
            f"{name} raised {raised}, which ends a process; expected an Exception: a method only fails, it "
            "does not exit."
        ) from error


def can_interrupt() -> bool:
    """Whether code that hangs can be interrupted: on the main thread, on a system with interval timers."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def stdout_aside() -> Iterator[None]:
    """Send to standard error what is printed, by Python or by the descriptor, until the block ends.

    Closing the standard streams inside closes nothing outside.
    """
    streams = sys.stdout, sys.stderr
    _flush(sys.stdout)
    with _descriptor_aside():
        sys.stdout, sys.stderr = _Kept(streams[1]), _Kept(streams[1])
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            _flush(sys.__stdout__)


class _Kept:
    """A stream that whoever has it cannot close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        """Nothing: the stream is not theirs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _descriptor_aside() -> Iterator[None]:
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there is no standard output, or no standard error, to keep apart
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _flush(stream: Any) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        stream.flush()


@contextlib.contextmanager
def _interrupted_after(seconds: float | None) -> Iterator[None]:
    """Raise `_Overran` inside the block after so many seconds, and again until it gives up."""
    if seconds is None or not can_interrupt():
        yield
        return
    overran = False

    def interrupt(*_: Any) -> None:
        nonlocal overran
        overran = True
        raise _Overran

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    if overran:  # and was swallowed
        raise _Overran
