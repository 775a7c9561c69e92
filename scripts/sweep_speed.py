"""Measures what a sweep's engine costs: two workers against one, and ten thousand cells that do nothing.

    python scripts/sweep_speed.py --data ../shared/data --models ../shared/models

writes results/sweep-speed.md. `workers` runs `calibench sweep --quality-only` as a user does, on this machine
and on a Ray cluster of its own, with one process and with two in turns; what the same command takes once all
is there is its start, and is taken out. `cells` drives the sweep's own code with answers that are ready made:
a process of the executor naps instead of predicting, so that the rest is what the engine adds. `--only` makes
one part anew and keeps the other.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from tabulate import tabulate

from calibench.measure.progress import Silent
from calibench.store.predictions import predictions_file
from calibench.store.records import load_records
from calibench.sweep.executor import Answer, Executor, Job
from calibench.sweep.local import Local
from calibench.sweep.progress import SweepDisplay
from calibench.sweep.spec import parse_sweep
from calibench.sweep.sweeping import run_sweep
from calibench.sweep.work import Join, Joined, Look, Looked, LookedCell, Part, Shard, Sharded, Task
from calibench.types import Predictive

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "results" / "sweep-speed.md"
#: Where a record and a file of predictions are taken from.
EXAMPLE = ROOT / "results" / "embedded"
PARTS = ("workers", "cells")
#: One process, two, two, one: what drifts falls on both alike.
TURNS = (1, 2, 2, 1)
#: Seconds that a cell naps: half when it predicts, half when its record is made.
NAP_S = 0.01
#: Examples and classes of a cell that is not predicted.
SHAPE = (20, 2)

SWEEP = """
passes = 5
[timing]
blocks = 8
latency = 2
memory = false
token_budget = 512
[[model]]
name = "{models}/sst2-minilm"
[[data]]
loader = "huggingface"
name = "{data}/sst2"
split = "validation"
[[method]]
name = "frequentist"
[[method]]
name = "mc-dropout"
"""


@dataclass(frozen=True)
class Nap:
    """Work that takes its time while it is read from the wire, and needs no code on the other side."""

    seconds: float

    def __reduce__(self) -> tuple[Any, ...]:
        return time.sleep, (self.seconds,)


@dataclass
class Napping:
    """An `Executor` whose processes nap, and which then gives the answer that the work would have had."""

    inner: Executor
    cells: int
    predictions: bytes
    record: dict[str, Any]

    def __post_init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self.answered = 0

    @property
    def slots(self) -> int:
        return self.inner.slots

    def held(self) -> Collection[int]:
        return self.inner.held()

    def submit(self, job: Job) -> None:
        self._jobs[job.number] = job
        naps = 0.0 if isinstance(job.work, Look) else NAP_S / 2
        self.inner.submit(Job(job.number, job.pair, cast(Task, Nap(naps))))

    def answers(self) -> list[Answer]:
        return [self._instead(answer) for answer in self.inner.answers()]

    def close(self) -> None:
        self.inner.close()

    def _instead(self, answer: Answer) -> Answer:
        job = self._jobs.pop(answer.number)
        self.answered += 1
        work = job.work
        if isinstance(work, Look):
            return Answer(job.number, Looked(self._looked(job.pair), (), SHAPE[0], 0, 1, 0.0))
        if isinstance(work, Shard):
            found = Predictive(np.full(SHAPE, 0.5), passes=np.ones(SHAPE[0], dtype=np.int64))
            said = {"passes": 1, "coverage": None, "conformal": None, "tokenises": False}
            return Answer(job.number, Sharded({part: Part(found) for part in work.parts}, said, None, None))
        assert isinstance(work, Join)
        record = self.record | {"cell": work.key, "method": self.record["method"] | {"name": work.key}}
        return Answer(job.number, Joined((record,), {work.key: self.predictions}))

    def _looked(self, pair: int) -> tuple[LookedCell, ...]:
        names = [f"{pair:05d}{cell:07d}" for cell in range(self.cells)]
        return tuple(LookedCell(key, key, key, {}, None, 0, False, None, False, ("0",)) for key in names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=ROOT.parent / "shared" / "data", type=Path)
    parser.add_argument("--models", default=ROOT.parent / "shared" / "models", type=Path)
    parser.add_argument("--only", choices=PARTS, action="append", help="make this part anew; repeatable")
    parser.add_argument("--pairs", type=int, default=500, help="of the cells that do nothing")
    parser.add_argument("--each", type=int, default=20, help="cells of such a pair")
    asked = parser.parse_args()
    earlier = PAGE.read_text("utf-8").split("\n## ") if PAGE.exists() else []
    parts = {part.split("\n")[0]: part for part in earlier[1:]}
    made = {"workers": workers, "cells": cells}
    text = ["# What a sweep's engine costs\n\nMade by `scripts/sweep_speed.py`.\n"]
    for name in PARTS:
        title, maker = TITLES[name], made[name]
        if asked.only and name not in asked.only:
            text += [f"## {parts[title].rstrip()}\n"] if title in parts else []
            continue
        text.append(f"## {title}\n\n{maker(asked)}\n")
    PAGE.write_text("\n".join(text), "utf-8")


TITLES = {"workers": "Two processes against one", "cells": "Ten thousand cells that do nothing"}


def workers(asked: argparse.Namespace) -> str:
    """The same quality work with one process and with two."""
    rows = []
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as name:
        folder = Path(name)
        file = folder / "speed.toml"
        file.write_text(SWEEP.format(data=asked.data.resolve(), models=asked.models.resolve()))
        for where, engine in (("this machine", on_this_machine), ("Ray", on_ray)):
            took: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
            for turn, count in enumerate(TURNS):
                took[count].append(engine(file, folder / f"{where[:3]}{turn}", count))
            rows.append(_row(where, took))
    heads = (
        "where",
        "1 process, s",
        "its start, s",
        "2 processes, s",
        "its start, s",
        "whole",
        "without start",
    )
    load = os.getloadavg()[0]
    said = (
        "SST-2's 872 sentences and sst2-minilm, softmax and MC-Dropout with 5 passes in 8 blocks; whole "
        f"commands, 1, 2, 2, 1, medians. Load {load:.1f} at the end; {os.cpu_count()} "
        "cores. A ratio is that of one process to two, with the least and the greatest of the two pairs of "
        "neighbours."
    )
    return f"{said}\n\n{tabulate(rows, heads, 'pipe', disable_numparse=True)}"


def _row(where: str, took: dict[int, list[tuple[float, float]]]) -> list[str]:
    whole = {count: [pair[0] for pair in pairs] for count, pairs in took.items()}
    start = {count: [pair[1] for pair in pairs] for count, pairs in took.items()}
    work = {count: [pair[0] - pair[1] for pair in pairs] for count, pairs in took.items()}
    shown = [where]
    for count in (1, 2):
        shown += [f"{statistics.median(whole[count]):.1f}", f"{statistics.median(start[count]):.1f}"]
    return [*shown, _ratio(whole), _ratio(work)]


def _ratio(seconds: dict[int, list[float]]) -> str:
    each = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    middle = statistics.median(seconds[1]) / statistics.median(seconds[2])
    return f"{middle:.2f} ({min(each):.2f} to {max(each):.2f})"


def on_this_machine(file: Path, output: Path, count: int) -> tuple[float, float]:
    """Seconds of the whole command, and of the same command once all is there."""
    arguments = ["--workers", str(count)]
    return _command(file, output, arguments, {}), _command(file, output, arguments, {})


def on_ray(file: Path, output: Path, count: int) -> tuple[float, float]:
    """The same on a cluster of as many cores as processes; starting the cluster is no part of it."""
    home = output.parent / "home"  # where Ray keeps its token
    home.mkdir(exist_ok=True)
    env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "127.0.0.1:6397", "HOME": str(home)}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    head = ["start", "--head", "--node-ip-address=127.0.0.1", "--port=6397", f"--num-cpus={count}"]
    quiet: dict[str, Any] = {
        "check": True,
        "capture_output": True,
        "env": os.environ | env | {"RAY_ADDRESS": ""},
    }
    subprocess.run([*ray, *head, "--include-dashboard=false"], **quiet)
    try:
        return _command(file, output, ["--on", "ray"], env), _command(file, output, ["--on", "ray"], env)
    finally:
        subprocess.run([*ray, "stop", "--force"], **quiet)


def _command(file: Path, output: Path, arguments: list[str], env: dict[str, str]) -> float:
    command = [sys.executable, "-m", "calibench", "sweep", str(file), "--quality-only", "-q"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "-o", str(output), *arguments], check=True, capture_output=True, env=os.environ | env
    )
    return time.perf_counter() - start


def cells(asked: argparse.Namespace) -> str:
    """Seconds and memory of a sweep of cells whose work is a nap."""
    rows = []
    for where in ("this machine", "Ray"):
        seen = dict(_napped(where, asked.pairs, asked.each))
        rows.append([where, *seen.values()])
        heads = ("where", *seen)
    ideal = asked.pairs * asked.each * NAP_S / 2
    said = (
        f"{asked.pairs} pairs of {asked.each} cells, two processes. A cell naps {NAP_S / 2 * 1e3:.0f} ms "
        f"where it would predict and as long where its record would be made, so that {ideal:.0f} s are the "
        "least that two processes need. All else is real: the jobs' way to the processes and back, journal, "
        "predictions, records and manifest of every cell. Start of the engine and its first answer left out. "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end."
    )
    return f"{said}\n\n{tabulate(rows, heads, 'pipe', disable_numparse=True)}"


def _napped(where: str, pairs: int, each: int) -> Iterator[tuple[str, str]]:
    data = "".join(f'[[data]]\nid = "d{n}"\nloader = "embedded"\nlimit = {n + 2}\n' for n in range(pairs))
    sweep = parse_sweep(f'[[model]]\nname = "embedded"\n{data}[[method]]\nname = "frequentist"\n', "naps")
    with tempfile.TemporaryDirectory(prefix="calibench-naps-") as name:
        folder = Path(name)
        inner = _engine(where)
        start = time.perf_counter()
        for number in range(inner.slots):  # processes start at their first job
            inner.submit(Job(-1 - number, -1 - number, cast(Task, Nap(0.0))))
        for _ in range(inner.slots):
            inner.answers()
        began = time.perf_counter()
        record = load_records(EXAMPLE)[0]
        executor = Napping(inner, each, predictions_file(EXAMPLE, record).read_bytes(), record)
        memory: list[int] = []
        with SweepDisplay(sweep, quiet=True) as display:
            run_sweep(
                sweep,
                folder / "out",
                executor,
                display,
                quality_only=True,
                finished=lambda _: memory.append(_resident()),
            )
        took = time.perf_counter() - began
        inner.close()
        assert display.finished == pairs * each, display.failures[:3]
    ideal = pairs * each * NAP_S / 2
    tenth = memory[len(memory) // 10]
    yield "start, s", f"{began - start:.1f}"
    yield "took, s", f"{took:.1f}"
    yield "of the ideal", f"{took / ideal:.2f}"
    yield "added to a cell, ms", f"{(took * 2 - pairs * each * NAP_S) / (pairs * each) * 1e3:.1f}"
    yield "memory after a tenth, MiB", f"{tenth / 2**20:.0f}"
    yield "at the end, MiB", f"{memory[-1] / 2**20:.0f}"


def _engine(where: str) -> Executor:
    if where == "Ray":
        from calibench.sweep.on_ray import OnRay

        return OnRay(None, Silent(), exclusive=False)
    return Local(2, Silent())


def _resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
