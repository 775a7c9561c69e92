"""Every command of the README runs, and every number in its table is in a committed record."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import scored_files
from calibench.errors import Undecided
from calibench.store.records import load_records
from documents import ROOT, commands, faults, grids
from stub_hub import suite_hub
from tiny_models import tiny_model, tiny_tokenizer

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Proven by other means: tests/repo/test_wheel.py installs, and .ci/run runs tox.
SETUP = ("pip ", "tox", "git ", "cd ", "python -m venv")


CALIBENCH = [command for command in commands(README) if command.startswith("calibench ")]


def test_the_readme_has_no_other_commands() -> None:
    """What is neither set-up nor calibench would go untested."""
    others = [command for command in commands(README) if not command.startswith(("calibench ", *SETUP))]
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


def test_the_tables_are_the_committed_records() -> None:
    """Every row of the README's tables of suites is a record under results/, to the last digit."""
    named = {grid.source: len(grid.rows) for grid in grids(README) if grid.source}
    assert set(named) == {"results/sst2", "results/clinc-oos"}
    assert min(named.values()) >= 5
    assert faults(README) == []
