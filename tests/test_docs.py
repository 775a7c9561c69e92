"""Every command of the README runs, and every number in its table is in a committed record."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from calibench.records import load_records
from stub_hub import suite_hub

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Proven by other means: tests/test_wheel.py installs, and .ci/run runs tox.
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


@pytest.mark.parametrize(
    ("block", "folder"),
    [(r"```console\n\$ calibench run\n(.*?)```", "embedded"), (r"```text\n(method .*?)```", "sst2")],
)
def test_the_tables_are_the_committed_records(block: str, folder: str) -> None:
    """Accuracy, ECE and NLL in the README's tables are those of the records under results/."""
    table = re.search(block, README, re.DOTALL)
    assert table is not None
    for record in load_records(ROOT / "results" / folder):
        values = [record["metrics"][name]["value"] for name in ("accuracy", "ece", "nll")]
        shown = [f"{value:.4f}".removeprefix("0") for value in values]
        lines = [line for line in table[1].splitlines() if line.startswith(record["method"]["name"] + " ")]
        assert any(all(number in line for number in shown) for line in lines), (record["cell"], shown)
