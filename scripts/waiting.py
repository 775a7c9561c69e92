"""Measures how long whole commands take, and how much memory, against an older build.

    python scripts/waiting.py OLD NEW [--model FOLDER --dataset FOLDER]

writes results/waiting.md. OLD and NEW are `calibench` scripts of two environments; the folders are a
checkpoint and data of the suite `clinc-oos`, without which its parts are left out. Both sides take turns:
old, new, new, old. `--only embedded` makes that part of the page anew and keeps the others; each says with
what it was made. `--threads 1` is for machines with other work, where threads that wait for each other take
processor time for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tabulate import tabulate

PAGE = Path(__file__).resolve().parents[1] / "results" / "waiting.md"
#: The parts of the page, in their order, and how their headings begin.
PARTS = {
    "embedded": "`calibench run`",
    "clinc": "`clinc-oos` with",
    "memory": "Peak memory",
    "prompt": "Help and listings",
}
#: Three methods, of which two can share a pass and one takes several.
THREE = ("-m", "frequentist", "-m", "energy", "-m", "mc-dropout", "--passes", "5", "--fast")
#: What is asked at the prompt and the seconds that it may take, and how often it is asked.
PROMPT = {"--help": 0.2, "ls methods": 0.3}
TIMES = 15
#: Metric values that are further apart than this are told.
APART = 1e-6

SETTING = (
    "Made by `scripts/waiting.py`: whole commands of two builds, in turns, each from the prompt to its "
    "return. What a command costs whatever others do on the cores is its processor seconds, those of its "
    "children included; wall seconds are what one would have waited that day. Ratios are of the newer build "
    "to the older: the median of pairs, and the smallest and largest in brackets."
)


@dataclass
class Run:
    """What one command took.

    Attributes:
        wall, processor: seconds, those of children that have ended included.
        peak: bytes, the largest resident set of the command or of a child.
        stages: seconds of wall and processor by stage; what comes before the first is "start".
        metrics: values by row and metric, of a command that leaves records.
    """

    wall: float = 0.0
    processor: float = 0.0
    peak: int = 0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", help="calibench script of the older build")
    parser.add_argument("new", help="calibench script of the newer build")
    parser.add_argument("--old-name", default="bab2617", help="what the older build is called")
    parser.add_argument("--model", help="folder of a checkpoint for clinc-oos")
    parser.add_argument("--dataset", help="folder of its data")
    parser.add_argument("--limit", help="texts of each split in the part about memory; all unless given")
    parser.add_argument("--rounds", type=int, default=1, help="of old, new, new, old; 0: old, new")
    parser.add_argument("--threads", type=int, help="of torch and numpy; as they choose unless given")
    parser.add_argument("--only", choices=PARTS, action="append", help="make this part anew; repeatable")
    asked = parser.parse_args()
    clinc = ["clinc-oos", "--model", str(asked.model), "--dataset", str(asked.dataset)]
    given = None if asked.model is None or asked.dataset is None else clinc
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "embedded": lambda: whole("`calibench run`", asked, []),
        "clinc": lambda: whole(f"`clinc-oos` with `{' '.join(THREE)}`", asked, given and [*given, *THREE]),
        "memory": lambda: peaks(asked, given),
        "prompt": lambda: prompt(asked),
    }
    kept = PAGE.read_text(encoding="utf-8").split("\n## ")[1:] if PAGE.exists() else []
    old = {part: text for text in kept for part, title in PARTS.items() if text.startswith(title)}
    parts = [f"# Waiting\n\n{SETTING}\n"]
    for part in PARTS:
        if not asked.only or part in asked.only:
            load = os.getloadavg()[0]
            heading, *blocks = makers[part]()
            parts.append("\n\n".join([heading, made(asked.threads, load), *blocks]) + "\n")
        elif part in old:
            parts.append(f"## {old[part].rstrip()}\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def made(threads: int | None, load: float) -> str:
    """What a part was made with."""
    chosen = "as many threads as the libraries choose" if threads is None else f"threads: {threads}"
    return f"Made on {os.cpu_count()} cores, {chosen}, load {load:.1f} at its start."


def whole(title: str, asked: argparse.Namespace, arguments: Sequence[str] | None) -> Iterator[str]:
    """A run by both builds: all of it, its stages, and whether the numbers are the same."""
    yield f"## {title}"
    if arguments is None:
        yield "Not measured: no model and data were given."
        return
    old, new = in_turns(asked, arguments, (0, 1, 1, 0) * asked.rounds or (0, 1))
    rows = [["wall s", *both(old, new, lambda run: run.wall)]]
    rows.append(["processor s", *both(old, new, lambda run: run.processor)])
    yield table(rows, ["", asked.old_name, "now", "ratio"])
    yield "Processor seconds by stage, and wall seconds in brackets, of the first run of each:"
    names = dict.fromkeys([*old[0].stages, *new[0].stages])
    yield table(
        [[name, stage(old[0], name), stage(new[0], name)] for name in names], ["", asked.old_name, "now"]
    )
    yield agreement(old[0].metrics, new[0].metrics)


def peaks(asked: argparse.Namespace, arguments: Sequence[str] | None) -> Iterator[str]:
    """The largest resident set of a run of all methods that need no other checkpoints."""
    which = "all methods" if asked.limit is None else f"all methods, {asked.limit} texts of each split"
    yield f"## Peak memory of `clinc-oos`: {which}"
    if arguments is None:
        yield "Not measured: no model and data were given."
        return
    limit = [] if asked.limit is None else ["--limit", asked.limit]
    old, new = in_turns(asked, [*arguments, *limit, "--fast"], (0, 1))
    rows = [["peak MiB", *both(old, new, lambda run: run.peak / 2**20)]]
    rows.append(["processor s", *both(old, new, lambda run: run.processor)])
    yield table(rows, ["", asked.old_name, "now", "ratio"])
    yield agreement(old[0].metrics, new[0].metrics)


def prompt(asked: argparse.Namespace) -> Iterator[str]:
    """How long help and a listing take."""
    yield "## Help and listings"
    yield f"Medians of {TIMES} calls, in turns."
    rows = []
    for line, goal in PROMPT.items():
        found: tuple[list[Run], list[Run]] = ([], [])
        for _ in range(TIMES):
            for side, script in zip(found, (asked.old, asked.new), strict=True):
                side.append(timed([script, *line.split()], asked.threads))
        for name, side in zip((asked.old_name, "now"), found, strict=True):
            wall, used = median(run.wall for run in side), median(run.processor for run in side)
            rows.append([f"`calibench {line}`", name, f"{wall:.3f}", f"{used:.3f}", f"{goal:g}"])
    yield table(rows, ["", "", "wall s", "processor s", "goal, wall s"])


def in_turns(
    asked: argparse.Namespace, arguments: Sequence[str], order: Sequence[int]
) -> tuple[list[Run], list[Run]]:
    """Runs of the older build (0 in `order`) and of the newer (1)."""
    found: tuple[list[Run], list[Run]] = ([], [])
    for side in order:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            script = (asked.old, asked.new)[side]
            run = timed([script, "run", *arguments, "-v", "-o", str(out)], asked.threads)
            run.metrics = metrics(out / "records.jsonl")
        found[side].append(run)
    return found


def timed(line: Sequence[str], threads: int | None) -> Run:
    """Run a command to its end, watching which stage it is in."""
    own = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    run, name, before = Run(), "start", (0.0, 0.0)
    start = time.perf_counter()
    # Stages go to standard error, as all progress does.
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | own
    )
    assert process.stdout is not None
    watched, said = psutil.Process(process.pid), []
    for text in process.stdout:
        said.append(text)
        if is_stage(text):
            now = time.perf_counter() - start, processor(watched)
            run.stages[name] = now[0] - before[0], now[1] - before[1]
            name, before = text.rpartition(" (")[0], now
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"calibench {' '.join(line[1:])[:100]} failed: {''.join(said[-3:])}")
    run.wall, run.processor = time.perf_counter() - start, used.ru_utime + used.ru_stime
    run.stages[name] = run.wall - before[0], run.processor - before[1]
    run.peak = used.ru_maxrss * 1024
    return run


def is_stage(line: str) -> bool:
    """Whether a line of `--verbose` names a stage and its number of steps; those of steps are indented."""
    name, bracket, count = line.rstrip().rpartition(" (")
    return bool(name and bracket) and not line.startswith(" ") and count.rstrip(")").isdigit()


def processor(process: psutil.Process) -> float:
    """Seconds of processor time so far, those of children that have ended included."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def metrics(file: Path) -> dict[str, float]:
    """Every metric of every row of a run's records."""
    found: dict[str, float | None] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        values = (record.get("metrics") or {}).items()
        found |= {f"{record['method']['name']} {metric}": entry["value"] for metric, entry in values}
    return {key: value for key, value in found.items() if value is not None}


def agreement(old: Mapping[str, float], new: Mapping[str, float]) -> str:
    """How many values are the same, and which are not."""
    apart = {key: abs(new[key] - old[key]) for key in sorted(old.keys() & new.keys())}
    same = [distance for distance in apart.values() if distance <= APART]
    said = (
        f"Of {len(apart)} metric values of both, {len(same)} are the same up to {max(same, default=0.0):.1g}."
    )
    others = [f"{key} {old[key]:.4f}, now {new[key]:.4f}" for key in apart if apart[key] > APART]
    return f"{said} Others: {'; '.join(others)}." if others else said


def both(old: Sequence[Run], new: Sequence[Run], of: Callable[[Run], float]) -> list[str]:
    """Medians of both sides, and of the ratios of pairs with their range."""
    ratios = [of(ours) / of(theirs) for theirs, ours in zip(old, new, strict=True)]
    ends = f" [{min(ratios):.2f}, {max(ratios):.2f}]" if len(ratios) > 1 else ""
    return [f"{median(map(of, old)):.1f}", f"{median(map(of, new)):.1f}", f"{median(ratios):.2f}{ends}"]


def stage(run: Run, name: str) -> str:
    wall, used = run.stages.get(name, (0.0, 0.0))
    return f"{used:.1f} ({wall:.1f})"


def table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
