"""Where the time of fast MC-Dropout goes: a markdown table of shares beside the machine's own GEMM rate.

    python scripts/profile_mc.py --model FOLDER --texts FILE [--tolerance 0.0115] [--limit 200]

FILE is a parquet file, its column named by --column, or one text a line. Deterministic but for the clock;
under two minutes for 200 sentences and a model of MiniLM's size.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from calibench.method import Method
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.types import Plan
from calibench_methods.dropout.mc_dropout_adaptive import McDropoutAdaptive
from calibench_methods.one_pass.frequentist import Frequentist

# By what an operator is used for in these models; what is not named is the rest.
KINDS = {
    "GEMM": {"addmm", "mm", "linear"},
    "attention": {
        "bmm",
        "baddbmm",
        "_softmax",
        "masked_fill_",
        "_scaled_dot_product_flash_attention_for_cpu",
    },
    "masks": {
        *("bitwise_and", "bitwise_and_", "bitwise_or_", "bitwise_xor_", "bitwise_right_shift", "__rshift__"),
        *("bitwise_right_shift_", "ne", "addcmul", "bucketize", "mul_"),
    },
    "copies": {"copy_", "_to_copy", "repeat", "cat", "index"},
}
GEMM = (4096, 384, 1536)


@click.command()
@click.option("--model", required=True, help="Folder or hub id of a text classifier.")
@click.option("--texts", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--column", default="sentence", show_default=True, help="Of a parquet file.")
@click.option("--limit", default=200, show_default=True, help="A random subset of this size, seed 0.")
@click.option("--tolerance", default=0.0115, show_default=True, help="Of mc-dropout-adaptive.")
@click.option("--dtype", default="same", show_default=True)
@click.option("--threads", default=0, help="0: torch's own choice.")
def main(
    model: str, texts: Path, column: str, limit: int, tolerance: float, dtype: str, threads: int
) -> None:
    """Print the profile of one deterministic pass and of mc-dropout-adaptive."""
    if threads:
        torch.set_num_threads(threads)
    checkpoint = load_checkpoint(model, device="cpu")
    plan = Planner.of(checkpoint, token_budget=1024).plan(*_sample(texts, column, limit))
    methods: dict[str, Method] = {
        "one deterministic pass": Frequentist(checkpoint, dtype=dtype),
        f"mc-dropout-adaptive, {tolerance:g}": McDropoutAdaptive(
            checkpoint, tolerance=tolerance, dtype=dtype
        ),
    }
    rows = []
    for name, method in methods.items():
        shares, seconds, passes = _profiled(method, plan)
        kinds = [f"{shares[kind]:.1%}" for kind in (*KINDS, "rest")]
        rows.append([name, f"{passes:.2f}", f"{seconds:.2f}", *kinds])
    print(tabulate(rows, ["", "passes", "seconds", *KINDS, "rest"], tablefmt="pipe", disable_numparse=True))
    rate = _gemm_rate(next(checkpoint.twin(dtype).parameters()).dtype)
    print(
        f"\n{len(plan)} texts, {torch.get_num_threads()} threads; a product of {GEMM[0]} x {GEMM[1]} x "
        f"{GEMM[2]} ran at {rate:.0f} GFLOP/s here. Seconds are without the profiler, the least of three."
    )


def _sample(path: Path, column: str, limit: int) -> tuple[list[str], Any]:
    """Texts and their row numbers."""
    if path.suffix == ".parquet":
        found = pq.read_table(path, columns=[column])[column].to_pylist()
    else:
        found = path.read_text(encoding="utf-8").splitlines()
    count = min(limit, len(found))
    rows = np.sort(np.random.default_rng(0).choice(len(found), size=count, replace=False))
    return [found[row] for row in rows], rows


def _profiled(method: Method, plan: Plan) -> tuple[Counter[str], float, float]:
    """Shares of self time by kind, seconds without the profiler, mean passes."""
    method.predict(plan, seed=0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        passes = float(method.predict(plan, seed=0).passes.mean())
        seconds.append(time.perf_counter() - start)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        method.predict(plan, seed=0)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        times[next((kind for kind, names in KINDS.items() if name in names), "rest")] += (
            event.self_cpu_time_total
        )
    total = sum(times.values())
    return Counter({kind: value / total for kind, value in times.items()}), min(seconds), passes


def _gemm_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of the feed-forward layer's product, the best of 20."""
    rows, inner, columns = GEMM
    a, b = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * rows * inner * columns / best


if __name__ == "__main__":
    main()
