"""A process that forks once for each task, after it has imported what the measuring process has.

Run as a module, this file reads tasks from standard input. It computes nothing itself, so that no operation's
thread is there when it forks. It answers on a descriptor of its own, whose number it is given: a method may
print. Importing takes longer than measuring: a command starts it while it imports the same itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: Folders that hold installed packages.
_PACKAGES = {"site-packages", "dist-packages"}
#: What every task needs.
_FIRST = "calibench.models.loading"


class _Server:
    """The process, and the two pipes to it."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "calibench.measure.fork_server", str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
            text=True,
        )
        os.close(writer)
        self._answers = os.fdopen(reader, encoding="utf-8")

    def answers(self, module: str, tasks: Sequence[dict[str, Any]]) -> Iterator[str | None]:
        """As `answered`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which no answer will show
            self._process.stdin.write(json.dumps({"modules": installed(), "module": module, "tasks": tasks}))
            self._process.stdin.close()
        for _ in tasks:
            yield self._answers.readline() or None

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:
            self._answers.close()


#: The one that was started ahead, until it is used.
_ahead: list[_Server] = []


@contextlib.contextmanager
def ahead(wanted: bool) -> Iterator[None]:
    """Where it is wanted, start the process now; whoever has tasks in here is answered by it."""
    if wanted:
        _ahead.append(_Server())
    try:
        yield
    finally:
        while _ahead:
            _ahead.pop().close()


def answered(module: str, tasks: Sequence[dict[str, Any]]) -> Iterator[str | None]:
    """What `answer` of this module says to each task, in order, in a process of its own.

    Args:
        tasks: in types that JSON has.

    Yields:
        a line; where its process was killed what `killed` says, and None once the server is gone.
    """
    server = _ahead.pop() if _ahead else _Server()
    try:
        yield from server.answers(module, tasks)
    finally:
        server.close()


def installed() -> list[str]:
    """Modules of installed packages that this process has imported: a user's own may do more than define."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    found = [name for name, file in files.items() if file and _PACKAGES & set(Path(file).parts)]
    # What `python -m` runs may be a module of a package too.
    return [name for name in found if name != "__main__"]


def import_all(modules: Sequence[str]) -> None:
    """Import what can be, once, for all children, which then touch none of it to look for garbage."""
    gc.disable()
    for name in modules:
        with contextlib.suppress(Exception):  # whoever needs it is told when it is imported there
            importlib.import_module(name)
    gc.enable()
    gc.freeze()


def _serve(answers: int) -> None:
    import_all([_FIRST])
    text = sys.stdin.read()
    if not text:  # whoever started it ahead had nothing to measure
        return
    asked = json.loads(text)
    import_all(asked["modules"])
    module = importlib.import_module(asked["module"])
    for task in asked["tasks"]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.close(answers)
            os.write(writer, module.answer(task).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        os.write(answers, f"{said or module.killed(task)}\n".encode())


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
