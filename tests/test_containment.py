"""What other people's code raises, prints and takes, seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

import pytest

from calibench.containment import can_interrupt, contained, stdout_aside
from calibench.errors import CalibenchError


def raising(error: BaseException) -> Any:
    raise error


def test_what_it_returns_and_raises_is_its_own() -> None:
    """A value is handed on, an Exception as it was."""
    assert contained("it", lambda: 3) == 3
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        contained("it", lambda: raising(error))
    assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), BaseException("out")])
def test_what_would_end_the_process_is_an_error(error: BaseException) -> None:
    """The sentence names whose it is, and what was raised."""
    with pytest.raises(CalibenchError, match=rf"it raised {type(error).__name__}\(.*expected an Exception"):
        contained("it", lambda: raising(error))


def test_ctrl_c_is_the_users() -> None:
    """It goes through."""
    with pytest.raises(KeyboardInterrupt):
        contained("it", lambda: signal.raise_signal(signal.SIGINT))


def test_what_is_printed_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """By Python and by the descriptor; afterwards standard output is itself again."""
    with stdout_aside():
        print("one")
        os.write(1, b"two\n")
        sys.stdout.close()
        sys.stderr.close()
        print("three", file=sys.stderr)
    print("four")
    os.write(1, b"five\n")
    sys.stdout.flush()
    captured = capfd.readouterr()
    assert sorted(captured.err.split()) == ["one", "three", "two"]
    assert sorted(captured.out.split()) == ["five", "four"]


def spin() -> None:
    while True:
        time.sleep(0.001)


def spin_on() -> None:
    """Takes the first interruption for an error like others."""
    try:
        spin()
    except BaseException:
        spin()


@pytest.mark.parametrize("hang", [spin, spin_on])
def test_what_hangs_is_interrupted(hang: Any) -> None:
    """Until it gives up; timer and handler are then as they were."""
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(CalibenchError, match=r"it took longer than the 0\.05 seconds"):
        contained("it", hang, 0.05)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
    assert contained("it", lambda: 3, 60.0) == 3


def test_an_interruption_that_was_swallowed_counts() -> None:
    """What came back late is not taken."""

    def swallow() -> int:
        with contextlib.suppress(BaseException):
            spin()
        return 3

    with pytest.raises(CalibenchError, match="it took longer"):
        contained("it", swallow, 0.05)


def test_only_the_main_thread_can_be_interrupted() -> None:
    """Elsewhere what was asked runs without a limit, and `can_interrupt` says so."""
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.extend([can_interrupt(), contained("it", lambda: 3, 1e-6)])
    )
    thread.start()
    thread.join()
    assert found == [False, 3]
    assert can_interrupt()
