"""Timing cells: a pair at a time, alone on its machine, with all its methods measured side by side."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count
from pathlib import Path

from calibench.errors import WriteError
from calibench.store.records import RECORDS
from calibench.sweep.executor import Executor, Failure, Job
from calibench.sweep.progress import Told
from calibench.sweep.spec import Pair, Sweep
from calibench.sweep.work import Timed, Timing

#: What it means that a run has ended and its folder is empty.
_ELSEWHERE = "its records were written on another machine: -o has to name a folder that all nodes share"


def run_timed(sweep: Sweep, folder: Path, executor: Executor, device: str, told: Told) -> Generator[Pair]:
    """Measure every pair as `calibench run` does, what is there apart; yields each once it is done.

    Args:
        folder: the sweep's.
        executor: with a slot for every machine.
        device: as of `calibench.run.run`.

    Raises:
        WriteError: there is no room.
    """
    ahead = list(reversed(sweep.pairs))
    under_way: dict[int, Pair] = {}
    numbers = count()
    while ahead or under_way:
        while ahead and len(under_way) < executor.slots:
            pair, number = ahead.pop(), next(numbers)
            under_way[number] = pair
            executor.submit(Job(number, number, Timing(pair.suite, device, folder / pair.folder)))
        for answer in executor.answers():
            pair = under_way.pop(answer.number)
            if isinstance(answer.found, Failure):
                if answer.found.fatal:
                    raise WriteError(answer.found.error["message"])
                told.failed(pair, "", answer.found.error["message"])
            else:
                assert isinstance(answer.found, Timed)
                if not (folder / pair.folder / RECORDS).exists():
                    told.failed(pair, "", _ELSEWHERE)
                else:
                    _tell(pair, answer.found, told)
            yield pair


def _tell(pair: Pair, found: Timed, told: Told) -> None:
    told.expect(pair, len(found.rows))
    with told.together():
        for row, status, reason in found.rows:
            if status == "ok":
                told.done(pair, row)
            else:
                told.failed(pair, row, str(reason))
