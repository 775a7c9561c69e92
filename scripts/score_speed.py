"""Measures how long scoring takes and how much memory, against an older build and other packages.

    python scripts/score_speed.py --base PYTHON --peers PYTHON

writes results/score-speed.md. PYTHON is the interpreter of another environment: one with the build to compare
with, and one with torchmetrics, netcal, uncertainty-calibration, relplot and mapie. What is not there is left
out, and the page says so. Both sides take turns in one run; times are seconds of processor time of a child
with one thread, unless a heading says otherwise. `--only prompt` makes that part of the page anew and keeps
the others; each says with what it was made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tabulate import tabulate

import calibench

PAGE = Path(__file__).resolve().parents[1] / "results" / "score-speed.md"
#: Rows and classes of the files that two builds score, and of those that are scored from the prompt.
BUILDS = ((4_500, 150), (20_000, 2))
PROMPT = ((10_000, 2), (1_000_000, 2), (10_000_000, 2), (1_000_000, 150))
#: The parts of the page, in their order.
PARTS = ("builds", "peers", "prompt")
#: Rows written together.
BLOCK = 50_000
#: Metrics whose interval was made in another way in the older build.
CHANGED = (
    "nll brier sharpness brier_confidence ece ece_15 ece_equal_mass ece_classwise mce smooth_ece ece_debiased"
)

#: What the numbers are about.
SETTING = (
    "Made by `scripts/score_speed.py`. Others used the same cores: what a job costs whatever they do is its "
    "processor seconds, and wall seconds are what one would have waited that day. Numpy's products have one "
    "thread; scoring itself has two. Files hold random predictions that are a little overconfident."
)
#: What a part was made with.
MADE = (
    f"Made with calibench {calibench.__version__} on {os.cpu_count()} cores with Python "
    f"{sys.version.split()[0]} and numpy {np.__version__}, load {{load:.1f}} at its start."
)

#: What both builds do: values and intervals of every metric, and how long they take.
BUILD = """
import json, sys, time
import numpy as np, pyarrow.parquet as pq
try:
    from calibench.metrics.select import select_metrics
    from calibench.score.quality import metric_values
except ImportError:  # where an older build has them
    from calibench.evaluate import metric_values, select_metrics
from calibench.types import Evaluation
table = pq.read_table(sys.argv[1])
probs = np.stack([table.column(i).to_numpy() for i in range(1, table.num_columns)], axis=1)
metrics = select_metrics(sys.argv[2:], posterior_known=False)
given = Evaluation(probs, table.column(0).to_numpy())
start = time.process_time()
values = metric_values(metrics, given, 0)
seconds = time.process_time() - start
shown = {k: [v["value"], v["low"], v["high"]] for k, v in values.items()}
print(json.dumps({"seconds": seconds, "values": shown}))
"""

#: What each peer does with the same file, which of our metrics say the same, and its code.
PEERS = {
    "torchmetrics": (
        "ECE and accuracy",
        "ece_15 accuracy",
        "import torch\nfrom torchmetrics.functional.classification import multiclass_accuracy as acc, "
        "multiclass_calibration_error as ece\np, y = torch.tensor(probs), torch.tensor(labels)\n"
        "def run():\n    ece(p, y, probs.shape[1], n_bins=15); acc(p, y, probs.shape[1], average='micro')",
    ),
    "netcal": (
        "ECE",
        "ece_15",
        "from netcal.metrics import ECE\ndef run():\n    ECE(15).measure(probs[:, 1], labels)",
    ),
    "uncertainty-calibration": (
        "calibration error with its bootstrap interval",
        "ece_debiased",
        "import calibration\ndef run():\n    calibration.get_calibration_error_uncertainties(probs, labels)",
    ),
    "relplot": (
        "SmoothECE",
        "smooth_ece",
        "import relplot\ndef run():\n    relplot.smECE(probs[:, 1], labels)",
    ),
    "mapie": (
        "three tests of calibration",
        "calibration_ks_p calibration_kuiper_p calibration_spiegelhalter_p",
        "from mapie.metrics.calibration import kolmogorov_smirnov_p_value as k, kuiper_p_value as u, "
        "spiegelhalter_p_value as s\ndef run():\n    for test in (k, u, s): test(labels, probs[:, 1])",
    ),
}
PEER = """
import json, sys, time, warnings
from importlib.metadata import version
warnings.simplefilter("ignore")
import numpy as np, pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
labels = table.column(0).to_numpy()
probs = np.stack([table.column(i).to_numpy() for i in range(1, table.num_columns)], axis=1)
{code}
found = []
for _ in range(3):
    start = time.process_time()
    run()
    found.append(time.process_time() - start)
print(json.dumps({{"seconds": min(found), "version": version(sys.argv[2])}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="interpreter of the older build")
    parser.add_argument("--base-name", default="bab2617", help="what it is called")
    parser.add_argument("--peers", help="interpreter that has the peers")
    parser.add_argument("--only", choices=PARTS, action="append", help="make this part anew; repeatable")
    parser.add_argument("--rows", type=int, default=10**7, help="leave out larger files than this")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        makers = (
            lambda: builds(asked.base, asked.base_name, Path(folder)),
            lambda: peers(asked.peers, Path(folder)),
            lambda: prompt(asked.rows, Path(folder)),
        )
        kept = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
        parts = [f"# Speed and memory of scoring\n\n{SETTING}\n"]
        for part, make, old in zip(PARTS, makers, kept, strict=True):
            if asked.only and part not in asked.only:
                parts.append(f"## {old.rstrip()}\n")
                continue
            made = MADE.format(load=os.getloadavg()[0])
            heading, *blocks = make()
            parts.append("\n\n".join([heading, made, *blocks]) + "\n")
        PAGE.write_text("\n".join(parts), encoding="utf-8")


def predictions(folder: Path, rows: int, classes: int) -> Path:
    """A parquet file of a label and a probability per class."""
    path = folder / f"{rows}-{classes}.parquet"
    if path.exists():
        return path
    rng = np.random.default_rng(rows + classes)
    writer = None
    for start in range(0, rows, BLOCK):
        logits = rng.standard_normal((min(BLOCK, rows - start), classes)) * 2.0
        probs, true = (np.exp(scale * logits) for scale in (1.0, 0.9))
        probs, true = probs / probs.sum(axis=1, keepdims=True), true / true.sum(axis=1, keepdims=True)
        labels = (rng.random((len(true), 1)) > np.cumsum(true, axis=1)[:, :-1]).sum(axis=1)
        table = pa.table({"label": labels, **{f"p_{c}": probs[:, c] for c in range(classes)}})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def child(command: list[str]) -> tuple[str, float, float, int]:
    """What a command prints, its wall and processor seconds, and its peak memory in bytes."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | threads, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed.")
    return printed, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def builds(base: str | None, name: str, folder: Path) -> Iterator[str]:
    """All metrics with intervals and floors, in turns: new, old, old, new."""
    yield f"## All metrics with intervals and noise floor, against {name}"
    if base is None or not Path(base).exists():
        yield "Not measured: no interpreter of that build was given."
        return
    rows, notes = [], []
    for size, classes in BUILDS:
        file = predictions(folder, size, classes)
        found: dict[str, list[Any]] = {sys.executable: [], base: []}
        for python in (sys.executable, base, base, sys.executable):
            found[python].append(json.loads(child([python, "-c", BUILD, str(file)])[0]))
        new, old = (min(one["seconds"] for one in found[python]) for python in (sys.executable, base))
        rows.append([f"{size:,}", classes, f"{old:.2f}", f"{new:.2f}", f"{old / new:.1f}"])
        notes.append(agreement(found[sys.executable][0]["values"], found[base][0]["values"], size, classes))
    yield table(rows, ["rows", "classes", f"{name}, s", "now, s", "times faster"])
    yield from notes


def agreement(new: dict[str, Any], old: dict[str, Any], size: int, classes: int) -> str:
    """How far values and ends are apart, ends as a share of the interval's width."""
    shared = [key for key in new if key in old and None not in (new[key][0], old[key][0])]
    apart = max(abs(new[key][0] - old[key][0]) for key in shared if key != "ece_noise_floor")
    ends = {
        key: max(abs(new[key][i] - old[key][i]) for i in (1, 2)) / (old[key][2] - old[key][1])
        for key in shared
        if None not in (*new[key], *old[key]) and old[key][2] > old[key][1]
    }
    same = {key: share for key, share in ends.items() if key not in CHANGED.split()}
    other = {key: share for key, share in ends.items() if key in CHANGED.split()}
    shown = ", ".join(f"{key} {share:.2f}" for key, share in sorted(same.items(), key=lambda item: -item[1]))
    made = ", ".join(f"{key} {share:.2f}" for key, share in sorted(other.items(), key=lambda item: -item[1]))
    return (
        f"{size:,} rows of {classes} classes: values differ by {apart:.1g} at the most. Ends differ, as a "
        f"share of the older interval's width, by: {shown}. Made in another way since, or may be: {made}."
    )


def prompt(most: int, folder: Path) -> Iterator[str]:
    """`calibench score` of whole files, from the prompt to the table and to the end of the report."""
    yield "## From the prompt to the table and the report"
    rows = []
    for size, classes in PROMPT:
        if size > most:
            continue
        file, out = predictions(folder, size, classes), folder / f"run-{size}-{classes}"
        score = [
            sys.executable,
            "-m",
            "calibench.cli",
            "score",
            str(file),
            "--label",
            "label",
            "--probs",
            "p_*",
        ]
        table_s, wall, used, peak = to_table([*score, "-o", str(out)])
        stored = sum(path.stat().st_size for path in (out / "predictions").iterdir())
        cells = [
            f"{table_s:.1f}",
            f"{wall:.1f}",
            f"{used:.1f}",
            f"{peak / 2**20:,.0f}",
            f"{stored / 2**20:,.0f}",
        ]
        rows.append([f"{size:,}", classes, *cells])
        file.unlink()
    yield table(
        rows,
        [
            "rows",
            "classes",
            "to the table, wall s",
            "to the end, wall s",
            "processor s",
            "peak MiB",
            "stored MiB",
        ],
    )
    yield "\n".join(stages(folder))


def to_table(command: list[str]) -> tuple[float, float, float, int]:
    """Wall seconds to the first line of the table and to the end, processor seconds, and peak bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    process.stdout.readline()
    first = time.perf_counter() - start
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed.")
    return first, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


#: The stages of one file, by the functions that the command calls.
STAGES = """
import time
start = time.process_time()
import sys
from pathlib import Path
import calibench.flows.scoring, calibench.readers.methods, calibench.report.terminal.records
from calibench.readers.asked import Asked
from calibench.score.scored import Wanted
def lap(name):
    global start
    print(f"- {name}: {time.process_time() - start:.2f} s")
    start = time.process_time()
lap("imports")
tables = calibench.readers.methods.read_methods([sys.argv[1]], Asked(label="label", probs="p_*"))
lap("reading")
calibench.flows.scoring.score(tables, Path(sys.argv[2]), Wanted())
lap("numbers, and storing predictions")
from calibench.report import write_report
write_report(Path(sys.argv[2]))
lap("report, after the table")
"""


def stages(folder: Path) -> list[str]:
    file = predictions(folder, *PROMPT[0])
    printed = child([sys.executable, "-c", STAGES, str(file), str(folder / "stages")])[0]
    return [f"Where the time of {PROMPT[0][0]:,} rows goes, without the start of Python:\n", printed.strip()]


def peers(python: str | None, folder: Path) -> Iterator[str]:
    """What other packages take for one number, against all of ours with their intervals."""
    size, classes = BUILDS[1]
    yield f"## Other packages on one file, {size:,} rows of {classes} classes"
    if python is None or not Path(python).exists():
        yield "Not measured: no interpreter that has them was given."
        return
    file = predictions(folder, size, classes)

    def ours(*names: str) -> float:
        command = [sys.executable, "-c", BUILD, str(file), *names]
        return min(float(json.loads(child(command)[0])["seconds"]) for _ in range(2))

    every, rows = ours(), []
    for name, (what, same, code) in PEERS.items():
        own = ours(*same.split())
        try:
            found = json.loads(child([python, "-c", PEER.format(code=code), str(file), name])[0])
        except SystemExit:
            rows.append([name, what, "", "did not run", f"{own:.3f}", "", ""])
            continue
        seconds = found["seconds"]
        shown = [f"{seconds:.3f}", f"{own:.3f}", f"{seconds / own:.2f}", f"{seconds / every:.2f}"]
        rows.append([name, what, found["version"], *shown])
    yield (
        f"All metrics with intervals of 1,000 resamples and the noise floor take us {every:.3f} s. Beside "
        "each package stands what its own metrics take us, always with our interval, which only "
        "uncertainty-calibration gives too."
    )
    yield table(
        rows,
        [
            "package",
            "what it gives",
            "version",
            "its s",
            "ours, the same with interval, s",
            "over that",
            "over all",
        ],
    )


if __name__ == "__main__":
    main()
