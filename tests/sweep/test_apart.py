"""An executor in a process of its own: it does what one here does, and what ends it is one sentence."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.sweep.apart import Apart
from calibench.sweep.executor import Failure, Job
from calibench.sweep.work import Task
from sweeps import Listening, small

ODD = '''
"""An executor that answers, refuses, ends its process or never answers."""

import os
import time
from pathlib import Path

from calibench.errors import UsageError
from calibench.sweep.executor import Answer, Failure


class Odd:
    slots = 2

    def __init__(self, progress, how, folder):
        self.how, self.folder, self.jobs = how, Path(folder), []
        progress.say("begun")
        if how == "refuses":
            raise UsageError("There is no such cluster.")

    def held(self):
        return [job.pair for job in self.jobs]

    def submit(self, job):
        self.jobs.append(job)

    def answers(self):
        if self.how == "ends":
            os._exit(1)
        if self.how == "never answers":
            (self.folder / "asked").touch()
            time.sleep(60)
        return [Answer(job.number, Failure({"type": "Odd", "message": self.how})) for job in self.jobs]

    def close(self):
        (self.folder / "closed").touch()
'''


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the executor of a kind apart; who listens is its `heard`."""
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    from odd import Odd

    def make(how: str) -> tuple[Apart, Listening]:
        heard = Listening()
        return Apart(Odd, heard, "It is gone.", how=how, folder=str(tmp_path)), heard

    return make


def job(number: int) -> Job:
    return Job(number, 7, Task(small().pairs[0].suite, "cpu"))


def test_it_does_what_one_here_does(odd: Any, tmp_path: Path) -> None:
    """Slots, pairs, answers and what is said come through, and its end is orderly."""
    executor, heard = odd("answers")
    assert (executor.slots, set(executor.held()), heard.said) == (2, set(), ["begun"])
    executor.submit(job(3))
    executor.submit(job(4))
    assert set(executor.held()) == {7}
    found = executor.answers()
    assert [answer.number for answer in found] == [3, 4]
    assert found[0].found == Failure({"type": "Odd", "message": "answers"})
    executor.close()
    assert (tmp_path / "closed").exists()


def test_what_ends_its_process_is_one_sentence(odd: Any) -> None:
    """No more than that: the process here goes on."""
    executor, _ = odd("ends")
    executor.submit(job(1))
    with pytest.raises(CalibenchError, match=r"^It is gone\.$"):
        executor.answers()
    executor.close()


def test_what_it_refuses_is_refused_here(odd: Any) -> None:
    """With the class of the error, which is the exit code."""
    with pytest.raises(UsageError, match="There is no such cluster"):
        odd("refuses")


def test_it_is_closed_while_it_waits(odd: Any, tmp_path: Path) -> None:
    """Ctrl-C here, which its process does not hear, closes the executor there."""
    executor, _ = odd("never answers")
    executor.submit(job(1))

    def interrupt() -> None:
        while not (tmp_path / "asked").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        executor.answers()
    executor.close()
    assert (tmp_path / "closed").exists()
