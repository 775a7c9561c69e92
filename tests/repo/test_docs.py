"""Every command of the README runs, and every number in its table is in a committed record."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import scored_files
from calibench.errors import Undecided
from calibench.report.sections import sections
from calibench.report.writing.numbers import bound, fraction, interval, memory, significant
from calibench.store.records import Record, load_records
from stub_hub import suite_hub
from tiny_models import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Proven by other means: tests/repo/test_wheel.py installs, and .ci/run runs tox.
SETUP = ("pip ", "tox", "git ", "cd ", "python -m venv")


def commands() -> list[str]:
    """The lines of the README's shell blocks, with `$ ` taken off and output left out."""
    found: list[str] = []
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += prompted or lines
    return [part.strip() for line in found for part in line.split("&&")]


CALIBENCH = [command for command in commands() if command.startswith("calibench ")]


def test_the_readme_has_no_other_commands() -> None:
    """What is neither set-up nor calibench would go untested."""
    others = [command for command in commands() if not command.startswith(("calibench ", *SETUP))]
    assert others == []
    assert len(CALIBENCH) >= 5


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's examples refer to."""
    folder = tmp_path_factory.mktemp("docs")
    quick = ["run", "-L", "40", "--passes", "2", "-m", "frequentist", "-m", "mc-dropout", "--fast"]
    for name in ("before", "after"):
        run(["calibench", *quick, "-o", name], folder, dict(os.environ))
    scored_files.write(folder)
    for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL):
        (folder / "my-suite.toml").write_text(block)
    return folder


def run(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "calibench.cli", *command[1:]]
    return subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("command", dict.fromkeys(CALIBENCH))
def test_readme_command(command: str, workplace: Path, tmp_path: Path) -> None:
    """The command exits 0 as it is written; what it would download comes from a stub of the hub."""
    words = shlex.split(command)
    small = ["-L", "40", "--passes", "2", "--fast"] if words[1] == "run" else []
    suite = words[2] if len(words) > 2 and words[2] in ("sst2", "sst2-iterations", "clinc-oos") else "sst2"
    with suite_hub(tmp_path / "hub", suite) as hub:
        result = run([*words, *small], workplace, {**os.environ, **hub.env})
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.splitlines()[0])
def test_readme_python(block: str) -> None:
    """Each block runs as it is written on what it takes for given, and its last line of names is there."""
    probs, labels = scored_files.predictions()
    sharper, _ = scored_files.predictions(scale=1.1)
    given = {"probs_a": probs, "probs_b": sharper, "labels": labels}
    given |= {"model": tiny_model("bert", "eager"), "tokenizer": tiny_tokenizer()}
    # What lies within the limit or on both sides of it passes; the second warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Undecided)
        exec(block, given)


def test_the_readme_has_two_blocks_of_python() -> None:
    """A call of the library and a method in an application: no more, and none that is not found."""
    assert len(python_blocks()) == README.count("```python") == 2


def test_the_first_table_is_the_committed_records() -> None:
    """Accuracy, ECE and NLL in the output that the README opens with are those of results/embedded."""
    table = re.search(r"```console\n\$ calibench run\n(.*?)```", README, re.DOTALL)
    assert table is not None
    for record in load_records(ROOT / "results" / "embedded"):
        values = [record["metrics"][name]["value"] for name in ("accuracy", "ece", "nll")]
        shown = [f"{value:.4f}".removeprefix("0") for value in values]
        lines = [line for line in table[1].splitlines() if line.startswith(record["method"]["name"] + " ")]
        assert any(all(number in line for number in shown) for line in lines), (record["cell"], shown)


#: How each column of the README's tables reads a record.
COLUMNS: dict[str, Callable[[Record], str]] = {
    "T": lambda r: f"{r['passes_used']['mean']:.3g}",
    "accuracy": lambda r: fraction(r["metrics"]["accuracy"]["value"]),
    "ECE": lambda r: interval(r["metrics"]["ece"], fraction, bound),
    "NLL": lambda r: fraction(r["metrics"]["nll"]["value"]),
    "cost": lambda r: f"{significant(r['cost_ratio']['value'])}x",
    "p50 ms": lambda r: significant(r["timing"]["latency_ms"]["p50"]["value"]),
    "memory": lambda r: memory(r["memory"]["peak_bytes"]),
    "fit": lambda r: f"{significant(r['fit']['seconds'])} s" if r["fit"] else "-",
    "AUROC out of scope": lambda r: interval(r["metrics"]["oos_auroc"], fraction, bound),
    "FPR95": lambda r: fraction(r["metrics"]["oos_fpr95"]["value"], 3),
}


@pytest.mark.parametrize("folder", ["sst2", "clinc-oos"])
def test_the_tables_are_the_committed_records(folder: str) -> None:
    """Every row of the README's table of a suite is a record under results/, to the last digit."""
    table = re.search(rf"<!-- results/{folder} -->\n(.*?)\n\n", README, re.DOTALL)
    assert table is not None
    head, _, *rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[1].splitlines()]
    assert len(rows) >= 5
    (section,) = sections(load_records(ROOT / "results" / folder))
    records = {entry.label: entry.record for entry in section.entries}
    for label, *cells in rows:
        record = records[label.strip("`")]
        for column, cell in zip(head[1:], cells, strict=True):
            assert cell == COLUMNS[column](record), (label, column)
