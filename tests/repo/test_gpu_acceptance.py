"""`scripts/gpu_acceptance.py` runs from end to end, with what a CPU has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from calibench.data.embedded import load

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("deterministic", "copies", "loop")


@pytest.mark.slow
def test_every_part_but_the_long_ones_runs_on_a_cpu(tmp_path: Path) -> None:
    """Rates of every setting, what a CPU lacks is left out, and a part that cannot run costs no other."""
    data = load()
    names = [data.label_names[label] for label in data.labels]
    pd.DataFrame({"text": data.texts, "label": names}).head(60).to_csv(tmp_path / "own.csv", index=False)
    command = [sys.executable, "scripts/gpu_acceptance.py", "--device", "cpu", "--model", "embedded"]
    command += ["--dataset", str(tmp_path / "own.csv"), "--passes", "1", "3", "--rows", "1", "4"]
    command += ["--only", "duplicated", "--only", "graphs", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "duplicated.json").read_text())
    assert [(row["texts"], row["passes"]) for row in rows] == [(1, 1), (1, 3), (4, 1), (4, 3)]
    for row in rows:
        assert min(row[way] for way in WAYS) > 0
        assert row["of_deterministic"] == pytest.approx(row["copies"] / row["deterministic"])
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Left out: a CPU has no CUDA graphs." in page
    assert "Failed" not in page

    broken = [*command[:5], "no-such-model", *command[6:]]
    done = subprocess.run(broken, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "README.md").read_text()
    assert "**Failed**" in page
    assert "## graphs" in page
