"""Two builds, or two checkpoints, on the same blocks in turns: what the machine does hits both alike.

Each is a process of its own that has loaded and warmed up before the first turn, and waits while the other is
timed. A cell's turn at a block is base, new, new, base or the other way round, so that a drift cancels too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from calibench.errors import CalibenchError, UsageError
from calibench.measure.progress import Progress
from calibench.seeds import derived_seed
from calibench.suites.loader import table_of
from calibench.suites.spec import Suite
from calibench.types import Raced


@dataclass(frozen=True)
class Build:
    """One side of a race.

    Attributes:
        name: how messages call it.
        suite: what it runs.
        source: a folder whose code it is made of; None for what is installed.
        roots: where packages lie in that folder.
    """

    name: str
    suite: Suite
    source: Path | None = None
    roots: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """What a side has loaded.

    Attributes:
        keys, labels, names: of its cells, in order.
        data, model, plan: content hashes.
        blocks: how many timing blocks there are.
        requests: positions of the single texts to time.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    data: str
    model: str
    plan: str
    blocks: int
    requests: tuple[int, ...]


@dataclass
class Side:
    """A running side: its process, and the ends of the pipes to it."""

    build: Build
    loaded: Loaded
    _requests: IO[str]
    _answers: IO[str]
    _errors: IO[bytes]

    def time(self, cell: int, kind: str, number: int) -> float:
        """Seconds of a cell for a block or a request.

        Raises:
            CalibenchError: the method failed, or the process ended.
        """
        answer = _ask(self._requests, self._answers, self._errors, self.build, {"cell": cell, kind: number})
        if "seconds" not in answer:
            raise CalibenchError(
                f"{self.loaded.labels[cell]} failed in {self.build.name}: {answer['failed']}"
            )
        return float(answer["seconds"])


@dataclass
class _Times:
    base: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    def sides(self) -> tuple[list[float], list[float]]:
        """Both."""
        return self.base, self.new


@contextmanager
def started(build: Build, device: str) -> Iterator[Side]:
    """A side that has loaded, made its methods and warmed up.

    Raises:
        UsageError: it cannot be raced; says why.
        CalibenchError: its process ended.
    """
    to_read, to_ask = os.pipe()
    to_listen, to_answer = os.pipe()
    roots = [str(root) for root in build.roots]
    path = os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])])
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            # -P: what lies in the working directory is no build.
            [sys.executable, "-P", "-m", "calibench.measure.racer", str(to_read), str(to_answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(to_read, to_answer),
            env={**os.environ, "PYTHONPATH": path},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        for descriptor in (to_read, to_answer):
            os.close(descriptor)
        answers = stack.enter_context(os.fdopen(to_listen, encoding="utf-8"))
        requests = os.fdopen(to_ask, "w", encoding="utf-8")
        stack.callback(_close, requests)
        asked = {"suite": table_of(build.suite), "device": device}
        answer = _ask(requests, answers, errors, build, asked)
        yield Side(build, _loaded(build, answer), requests, answers, errors)


def _close(stream: IO[str]) -> None:
    with suppress(BrokenPipeError):
        stream.close()


def _ask(
    requests: IO[str], answers: IO[str], errors: IO[bytes], build: Build, asked: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        requests.write(json.dumps(asked) + "\n")
        requests.flush()
        line = answers.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        raise CalibenchError(
            f"The process of {build.name} ended early ({said[-1] if said else 'it said nothing'}); it has to "
            "import and run what is raced in this environment."
        )
    answer: dict[str, Any] = json.loads(line)
    return answer


def _loaded(build: Build, answer: Mapping[str, Any]) -> Loaded:
    """What a side says that it has loaded.

    Raises:
        UsageError: it could not, a method fails in it, or it runs nothing of its source.
    """
    if "refused" in answer:
        raise UsageError(f"{build.name} cannot be raced: {answer['refused']}")
    for cell in answer["cells"]:
        if cell["failed"] is not None:
            raise UsageError(f"{build.name} cannot be raced: {cell['label']} fails in it: {cell['failed']}")
    if build.source is not None:
        root = os.path.realpath(build.source)
        if not any(os.path.commonpath([root, file]) == root for file in answer["files"]):
            raise UsageError(
                f"{build.name} cannot be raced: none of its code was imported; expected packages that the "
                "methods are made of, under their names."
            )
    return Loaded(
        keys=tuple(cell["key"] for cell in answer["cells"]),
        labels=tuple(cell["label"] for cell in answer["cells"]),
        names=tuple(cell["name"] for cell in answer["cells"]),
        requests=tuple(answer["requests"]),
        **{name: answer[name] for name in ("data", "model", "plan", "blocks")},
    )


def race(
    base: Side, new: Side, looks: Sequence[int], progress: Progress, *, requests: bool = True
) -> Iterator[dict[str, Raced]]:
    """Let two sides take turns at random blocks, and at requests, until whoever looks has seen enough.

    Args:
        looks: numbers of turns, even and growing, after each of which there is something to look at.
        requests: whether to time single texts too, in as many turns.

    Yields:
        By key of the new side's cell, all turns so far.

    Raises:
        UsageError: the sides are not about the same cells, data and batches.
        CalibenchError: a method failed.
    """
    _refuse_unlike(base, new)
    loaded = new.loaded
    draw = random.Random(derived_seed(new.build.suite.seeds[0], "race"))
    cells = range(len(loaded.keys))
    work = {"block": _shuffled(range(loaded.blocks), draw)}
    if requests:
        work["request"] = _shuffled(loaded.requests, draw)
        for cell in cells:  # the first request of all pays for what later ones find ready
            _turns(base, new, cell, "request", loaded.requests[0], _Times(), draw)
    times = {(kind, cell): _Times() for kind in ("block", "request") for cell in cells}
    done = 0
    for look in looks:
        progress.stage("Racing", (look - done) // 2)
        for _ in range((look - done) // 2):
            for kind, numbers in work.items():
                number = next(numbers)
                for cell in draw.sample(cells, len(cells)):
                    _turns(base, new, cell, kind, number, times[kind, cell], draw)
            progress.step(f"{len(cells)} methods")
        done = look
        yield {
            key: Raced(*(tuple(side) for kind in ("block", "request") for side in times[kind, cell].sides()))
            for cell, key in enumerate(loaded.keys)
        }


def _shuffled(numbers: Sequence[int], draw: random.Random) -> Iterator[int]:
    """All of them in random order, again and again."""
    while True:
        yield from draw.sample(numbers, len(numbers))


def _turns(
    base: Side, new: Side, cell: int, kind: str, number: int, times: _Times, draw: random.Random
) -> None:
    """Two pairs of times: base first in one, new first in the other."""
    pairs: Sequence[tuple[tuple[Side, list[float]], ...]] = (
        ((base, times.base), (new, times.new)),
        ((new, times.new), (base, times.base)),
    )
    for pair in draw.sample(pairs, 2):
        for side, seconds in pair:
            seconds.append(side.time(cell, kind, number))


def _refuse_unlike(base: Side, new: Side) -> None:
    for what in ("names", "data", "plan", "blocks"):
        ours, theirs = getattr(base.loaded, what), getattr(new.loaded, what)
        if ours != theirs:
            raise UsageError(
                f"{base.build.name} cannot be raced: its {what} are not those of {new.build.name} ({ours} "
                f"and {theirs}); expected the same methods on the same texts in the same batches."
            )
