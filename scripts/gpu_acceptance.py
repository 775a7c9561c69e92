"""Everything that only a GPU can say, in one command and without a network.

    tox -e gpu -- --model FOLDER --dataset FOLDER [--wheels FOLDER]
    python scripts/gpu_acceptance.py --model FOLDER --dataset FOLDER

writes results/gpu-NAME/ with README.md, raw numbers and the run folders of `sst2` and `mc-speed`; NAME is the
device's. The parts, each in what is left of `--minutes`, so that the first ones are had in any case:

- contract: the tests of every registered method, with their models on the device;
- duplicated: T copies in one forward pass against T passes in a loop and against a deterministic pass of as
  many rows, in tokens per second, over T, batch size and dtype (float32 with and without TF32, bfloat16), in
  turns, by events and by the wall clock, with the allocator's peak;
- graphs: a deterministic pass as it is, compiled, and replayed as a CUDA graph;
- sst2, mc-speed: `calibench run` on the device.

FOLDER of `--model` is a checkpoint, that of `--dataset` its data, a folder or a file. What the machine lacks
is installed from `--wheels` alone, made where there is a network:

    pip wheel -w wheels --no-deps -c constraints.txt . baal datasets structlog ...

A part that fails says so and costs no other. On a CPU (`--device cpu`) it runs too, with what a CPU has: that
is how it is tested.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("contract", "duplicated", "graphs", "sst2", "mc-speed")
#: Deterministic tokens per second that T copies shall reach, as a share.
GOAL = 0.9
#: Turns of each setting, whose median counts; the first is left out.
TURNS = 7
#: Methods of the run: those whose cost an accelerator changes.
METHODS = ("frequentist", "temperature", "mc-dropout", "mc-dropout-batch", "mc-dropout-stratified")
METHODS += ("mc-dropout-adaptive", "mc-dropout-last", "moment-propagation")


@dataclass(frozen=True)
class Asked:
    """What the command line says, and until when."""

    model: str
    dataset: str
    device: str
    folder: Path
    passes: tuple[int, ...]
    rows: tuple[int, ...]
    limit: int
    until: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--wheels", type=Path, help="folder of wheels, installed first and without an index")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 5, 20, 50], help="T of the copies")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128], help="texts of a batch")
    parser.add_argument("--limit", type=int, default=872, help="examples of the runs")
    parser.add_argument("--only", choices=PARTS, action="append", help="repeatable")
    parser.add_argument("-o", "--output", type=Path, help="[default: results/gpu-NAME]")
    given = parser.parse_args()
    if given.wheels:
        wheels = map(str, sorted(given.wheels.glob("*.whl")))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, *wheels], check=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    until = time.monotonic() + 60.0 * given.minutes
    name = device_name(given.device)
    folder = given.output or ROOT / "results" / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
    folder.mkdir(parents=True, exist_ok=True)
    asked = Asked(
        *(given.model, given.dataset, given.device, folder),
        *(tuple(given.passes), tuple(given.rows), given.limit, until),
    )
    makers: dict[str, Callable[[Asked], Iterator[str]]] = {
        "contract": contract,
        "duplicated": duplicated,
        "graphs": graphs,
        "sst2": lambda asked: run("sst2", asked),
        "mc-speed": lambda asked: run("mc-speed", asked),
    }
    page = [f"# {name}", *environment(asked)]
    for part in given.only or PARTS:
        page += [f"## {part}", *contained(makers[part], asked)]
        (folder / "README.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
        print(f"{part}: done, {asked.left:.0f} s left", flush=True)
    print(f"Page: {folder / 'README.md'}")


def device_name(device: str) -> str:
    """What the device is called by its driver."""
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise SystemExit("There is no CUDA device; run this where there is one, or with --device cpu.")
        return torch.cuda.get_device_name(torch.device(device))
    return device


def environment(asked: Asked) -> Iterator[str]:
    """What the numbers depend on."""
    from calibench.measure.environment import capture

    found = capture()
    (asked.folder / "environment.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    names = ("gpu", "cuda", "cpu", "cores", "torch", "transformers", "python", "calibench", "git_revision")
    yield "Made by `scripts/gpu_acceptance.py`: " + ", ".join(f"{key} {found[key]}" for key in names) + "."


def contained(make: Callable[[Asked], Iterator[str]], asked: Asked) -> list[str]:
    """What a part says, or how it failed; nothing where no time is left for it."""
    if asked.left <= 0:
        return ["Left out: the time was up."]
    said: list[str] = []
    try:
        said.extend(make(asked))
    except Exception as error:  # one part is no reason to lose the others
        traceback.print_exc()
        said.append(f"**Failed**: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
    return said


def contract(asked: Asked) -> Iterator[str]:
    """The contract tests of all methods."""
    command = [sys.executable, "-m", "pytest", "tests/methods/test_methods.py", "-q", "-p", "no:benchmark"]
    own = os.environ | {"CALIBENCH_TEST_DEVICE": asked.device}
    found = ended([*command, "--no-header", "-rf"], asked, own)
    lines = [line for line in found.splitlines() if line.startswith("FAILED") or " passed" in line]
    yield "\n".join(f"- {line.strip('= ')}" for line in lines) or f"No result: {found[-500:]}"


def ended(command: Sequence[str], asked: Asked, env: dict[str, str] | None = None) -> str:
    """What a command prints, ended when the time is up."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        found, _ = process.communicate(timeout=max(1.0, asked.left))
    except subprocess.TimeoutExpired:
        process.kill()
        found, _ = process.communicate()
        return f"{found}\n1 unfinished: the time was up, so that nothing is said to have passed"
    return found


def run(suite: str, asked: Asked) -> Iterator[str]:
    """A suite, by the command that a user gives."""
    folder = asked.folder / suite
    command = [sys.executable, "-m", "calibench", "run", suite, "--device", asked.device]
    command += ["--model", asked.model, "--dataset", asked.dataset, "-o", str(folder), "--fast"]
    command += ["--limit", str(asked.limit if suite == "sst2" else min(asked.limit, 200))]
    if suite == "sst2":
        command += [part for name in METHODS for part in ("-m", name)]
        command += ["--runtime", "torch", "--runtime", "bfloat16"]
    said = ended(command, asked)
    report = folder / "report.md"
    if report.exists():
        yield f"[{suite}/report.md]({suite}/report.md), in the words of the terminal:"
    yield f"```text\n{said.strip()[-4000:]}\n```"


def duplicated(asked: Asked) -> Iterator[str]:
    """Copies, loops and deterministic passes, for every T, batch size and dtype."""
    import torch

    rows = []
    for dtype, tf32 in settings(asked.device):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        for count in asked.rows:
            for passes in asked.passes:
                if asked.left <= 0:
                    break
                rows.append(race(asked, dtype, tf32, count, passes))
    (asked.folder / "duplicated.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    reached = [row for row in rows if row["of_deterministic"] >= GOAL]
    yield (
        f"Tokens per second of copies reach {GOAL:.0%} of a deterministic pass of as many rows in "
        f"{len(reached)} of {len(rows)} settings. Medians of {TURNS - 1} turns; `wall / events` is the wall "
        "clock over the device's events, of the copies: above 1 the host was waited for."
    )
    heads = ("dtype", "texts", "T", "deterministic tokens/s", "copies tokens/s", "loop tokens/s")
    yield table(
        [
            (
                *(row["dtype"], row["texts"], row["passes"]),
                *(f"{row[key]:,.0f}" for key in ("deterministic", "copies", "loop")),
                f"{row['of_deterministic']:.2f}",
                f"{row['of_loop']:.2f}",
                "-" if row["wall_over_events"] is None else f"{row['wall_over_events']:.2f}",
                "-" if row["peak_mib"] is None else f"{row['peak_mib']:,.0f}",
            )
            for row in rows
        ],
        (*heads, "copies / deterministic", "copies / loop", "wall / events", "peak MiB"),
    )


def settings(device: str) -> tuple[tuple[str, bool], ...]:
    """(dtype, TF32) that the device has."""
    return (
        (("float32", False), ("float32", True), ("bfloat16", False))
        if "cuda" in device
        else (("float32", False),)
    )


def race(asked: Asked, dtype: str, tf32: bool, count: int, passes: int) -> dict[str, Any]:
    """Three ways to the same passes over one batch, in turns."""
    import numpy as np
    import torch

    from calibench.models.plan import Planner
    from calibench_methods.dropout.mc_dropout import McDropout
    from calibench_methods.dropout.mc_dropout_batch import McDropoutBatch
    from calibench_methods.one_pass.frequentist import Frequentist

    checkpoint = loaded(asked)
    planner = Planner.of(checkpoint)
    texts = (longest_texts(asked) * count)[:count]

    def plan_of(times: int) -> Any:
        many = list(texts) * times
        keys = np.arange(len(many), dtype=np.int64)
        return planner.assemble(many, keys, [keys])

    one, all_rows = plan_of(1), plan_of(passes)
    twin = checkpoint if dtype == "float32" else with_dtype(checkpoint, dtype)
    ways = {
        "deterministic": (Frequentist(checkpoint, dtype=dtype), all_rows),
        "copies": (McDropoutBatch(checkpoint, passes=passes, keep_samples=False, dtype=dtype), one),
        "loop": (McDropout(twin, passes=passes, keep_samples=False), one),
    }
    cuda = torch.device(asked.device).type == "cuda"
    seconds: dict[str, list[tuple[float, float | None]]] = {name: [] for name in ways}
    peak = None
    for _ in range(TURNS):
        for name, (method, plan) in ways.items():
            if cuda and name == "copies":
                torch.cuda.reset_peak_memory_stats()
            seconds[name].append(timed(lambda method=method, plan=plan: method.predict(plan, seed=0), cuda))
            if cuda and name == "copies":
                peak = torch.cuda.max_memory_allocated() / 2**20
    tokens = int(all_rows.batches[0].inputs["input_ids"].numel())
    wall = {name: statistics.median(found[0] for found in own[1:]) for name, own in seconds.items()}
    events = [found[1] for found in seconds["copies"][1:] if found[1] is not None]
    rate = {name: tokens / own for name, own in wall.items()}
    return {
        "dtype": f"{dtype}, TF32" if tf32 else dtype,
        "texts": count,
        "passes": passes,
        **rate,
        "of_deterministic": rate["copies"] / rate["deterministic"],
        "of_loop": rate["copies"] / rate["loop"],
        "wall_over_events": wall["copies"] / statistics.median(events) if events else None,
        "peak_mib": peak,
    }


def timed(call: Callable[[], object], cuda: bool) -> tuple[float, float | None]:
    """Seconds by the wall clock and, on a CUDA device, by its events."""
    import torch

    if not cuda:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start, None
    begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter()
    begun.record()
    call()
    done.record()
    torch.cuda.synchronize()
    return time.perf_counter() - start, begun.elapsed_time(done) / 1000.0


def graphs(asked: Asked) -> Iterator[str]:
    """One forward pass: eager, compiled and as a CUDA graph, over batch sizes."""
    import torch

    checkpoint = loaded(asked)
    cuda = torch.device(asked.device).type == "cuda"
    if not cuda:
        yield "Left out: a CPU has no CUDA graphs."
        return
    rows, module = [], checkpoint.module
    for count in asked.rows:
        # Without a mask: with one the model asks the device about it, which no graph can hold.
        ids = torch.randint(5, module.config.vocab_size, (count, 32), device=asked.device)
        with torch.inference_mode():
            compiled = torch.compile(module, dynamic=False)
            ways = {"eager": lambda ids=ids: module(input_ids=ids).logits}
            ways["compile"] = lambda ids=ids, compiled=compiled: compiled(input_ids=ids).logits
            ways["CUDA graph"] = replayed(module, ids)
            expected = ways["eager"]().clone()
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for call in ways.values():
                far = float((call() - expected).abs().max())
                assert far < 1e-3, f"it answers {far:.2g} from the eager pass"
            for _ in range(10 * TURNS):
                for name, call in ways.items():
                    seconds[name].append(timed(call, True)[0])
        rows.append((count, *(f"{1000 * statistics.median(seconds[name]):.3f}" for name in ways)))
    yield "Milliseconds of a pass of 32 tokens per text, medians, float32 without TF32."
    yield table(rows, ("texts", "eager", "compile", "CUDA graph"))


def replayed(module: Any, ids: Any) -> Callable[[], Any]:
    """The pass over these ids as a CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(input_ids=ids)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = module(input_ids=ids).logits

    def replay() -> Any:
        graph.replay()
        return logits

    return replay


_LOADED: dict[tuple[str, str], Any] = {}


def loaded(asked: Asked) -> Any:
    """The checkpoint on the device, once."""
    from calibench.models.loading import load_checkpoint

    key = asked.model, asked.device
    if key not in _LOADED:
        _LOADED[key] = load_checkpoint(asked.model, device=asked.device)
    return _LOADED[key]


def with_dtype(checkpoint: Any, dtype: str) -> Any:
    """The checkpoint with its weights in another dtype."""
    from dataclasses import replace

    return replace(checkpoint, module=checkpoint.twin(dtype))


def longest_texts(asked: Asked) -> list[Any]:
    """Texts of the data of about one length, so that a batch of them has hardly any padding."""
    from calibench.data.huggingface import load

    texts = sorted(load(asked.dataset).texts, key=lambda text: len(str(text)))
    middle = len(texts) * 3 // 4
    return list(texts[middle : middle + max(asked.rows)])


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
