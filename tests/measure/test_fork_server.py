"""The process that forks for each task: started ahead or when asked, used once, and never left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from calibench.measure import fork_server
from calibench.measure.fork_server import ahead, answered

MODULE = """
import json, os, signal

def answer(task):
    if task["name"] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if task["name"] == "ends the server":
        os.kill(os.getppid(), signal.SIGKILL)
    return json.dumps([task["name"], os.getpid(), os.getppid()])

def killed(task):
    return json.dumps([task["name"], "killed"])
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers, where the process finds it."""
    (tmp_path / "replies.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


def asked(*names: str) -> list[list[object] | None]:
    """What is answered to tasks of these names."""
    return [line and json.loads(line) for line in answered("replies", [{"name": name} for name in names])]


def test_each_task_has_a_process_of_its_own_and_one_that_is_killed_says_so() -> None:
    """In order; the others are answered all the same."""
    first, dies, last = asked("a", "dies", "b")
    assert first is not None
    assert last is not None
    assert (first[0], dies, last[0]) == ("a", ["dies", "killed"], "b")
    assert first[1] != last[1]
    assert first[2] == last[2]


def test_once_the_server_is_gone_nothing_is_answered() -> None:
    """Which whoever asked has to say, and not to wait for."""
    assert asked("ends the server", "a")[1] is None


def test_one_that_was_started_ahead_is_taken_and_none_is_left() -> None:
    """What it was started for may never come: a run that fails leaves no process either."""
    with ahead(True):
        (server,) = fork_server._ahead
        pid = server._process.pid
        (found,) = asked("a")
        assert found is not None
        assert found[2] == pid
        assert not fork_server._ahead
        (again,) = asked("b")
        assert again is not None
        assert again[2] != pid
    pids: list[int] = []

    def fail() -> None:
        with ahead(True):
            pids.append(fork_server._ahead[0]._process.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not fork_server._ahead
    assert not psutil.pid_exists(pids[0])
    with ahead(False):
        assert not fork_server._ahead
