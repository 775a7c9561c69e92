"""action.yml: its steps run in bash as a job of GitHub's would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_pairs import METHOD, REFERENCE, run

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
INSTALL, CHECK = ACTION["runs"]["steps"]
EMBEDDED = "results/embedded"


def step(
    found: dict[str, Any], inputs: dict[str, str], folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A step with these inputs and the defaults of the others."""
    given = {name: about.get("default") for name, about in ACTION["inputs"].items()} | inputs
    assert set(inputs) <= set(ACTION["inputs"])
    own = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda at: given[at[1]], text)
        for name, text in found["env"].items()
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]],
        cwd=folder,
        env={**os.environ, "PATH": path, **own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_input_reaches_a_step() -> None:
    """By a variable, and none as text of a script, where it could be a command."""
    steps = ACTION["runs"]["steps"]
    used = {
        name
        for item in steps
        for text in item["env"].values()
        for name in re.findall(r"inputs\.([\w-]+)", text)
    }
    assert used == set(ACTION["inputs"])
    assert not any("${{" in item["run"] for item in steps)


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"max": "nll=1"}, 0),
        ({"max": "nll=0.1"}, 1),
        ({"max": "\n  mc-dropout : nll=1\n  temperature:ece=0.2,\n\n"}, 0),
        ({"max": "ece=0.05"}, 3),
        ({"max": "ece=0.05", "undecided": "pass"}, 0),
        ({"max": "nll=0.1", "undecided": "pass"}, 1),
        ({"max": "nll=1", "undecided": "perhaps"}, 2),
        ({"against": EMBEDDED, "max-regression": "ece=0.01\naccuracy=0.01", "min": "accuracy=0.5"}, 0),
        ({"max-regression": "ece=0.01"}, 2),
        ({"max": "$(touch made);nll=1"}, 2),
        ({}, 2),
    ],
)
def test_the_exit_code_is_the_check_s(inputs: dict[str, str], code: int, tmp_path: Path) -> None:
    """And the summary is written where something was checked."""
    summary = tmp_path / "summary.md"
    done = step(CHECK, {"records": EMBEDDED, **inputs}, GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == code, done.stdout + done.stderr
    assert summary.exists() == (code != 2)
    assert not (ROOT / "made").exists()


@pytest.mark.parametrize(("extras", "asked"), [("", "/action here"), ("run,onnx", "/action here[run,onnx]")])
def test_what_is_installed_is_the_action_s_own_folder(extras: str, asked: str, tmp_path: Path) -> None:
    """With the extras that are asked for, and as one argument."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s|" "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = step(INSTALL, {"extras": extras}, PATH=path, GITHUB_ACTION_PATH="/action here")
    assert done.stdout == f"-m|pip|install|{asked}|"


def test_a_pull_request_is_held_to_what_the_main_branch_saved(tmp_path: Path) -> None:
    """Before there is a baseline, that is a warning; what fails does not become one."""
    run(tmp_path / "before")
    run(tmp_path / "after", REFERENCE, replace(METHOD, sharpness=0.2))
    held = {"baseline": "main", "max-regression": "nll=0.05"}
    saving = {"save-baseline": "main"}

    def done(records: str, **inputs: str) -> tuple[int, bool]:
        found = step(CHECK, {"records": records, **held, **inputs}, tmp_path)
        return found.returncode, "::warning title=calibench::There is no baseline 'main' yet" in found.stdout

    assert done("after") == (0, True)
    assert done("after", min="accuracy=0.9") == (1, True)
    assert done("before", **saving) == (0, True)
    assert done("before") == (0, False)
    assert done("after", **saving) == (1, False)
    assert done("before", **saving) == (0, False)
    assert done("after") == (1, False)
