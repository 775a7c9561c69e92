"""`--json`: every command has it, and prints one document and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from calibench.cli import main

RESULT = Path(__file__).resolve().parents[2] / "results" / "embedded"


def said(*arguments: str, code: int = 0) -> Any:
    """What a command prints with `--json`, read."""
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_it(name: str) -> None:
    """Under that name, whatever else it can print."""
    assert "--json" in [option for item in main.commands[name].params for option in item.opts]


@pytest.mark.parametrize("what", ["methods", "metrics", "suites", "runtimes"])
def test_what_is_registered(what: str) -> None:
    """The lines of the listing."""
    listed = CliRunner().invoke(main, ["ls", what]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == [entry["name"] for entry in said("ls", what)]
    assert all(entry["summary"] for entry in said("ls", what))


def test_records_and_the_machine() -> None:
    """Records as they are stored, and what a record says of a machine."""
    stored = [json.loads(line) for line in (RESULT / "records.jsonl").read_text("utf-8").splitlines()]
    assert said("show", str(RESULT)) == stored
    assert said("env")["python"]


def test_a_run_and_what_it_would_do(tmp_path: Path) -> None:
    """The records of a run, or its plan; progress and sentences go elsewhere."""
    words = [
        "run",
        "-m",
        "frequentist",
        "-m",
        "temperature",
        "-L",
        "40",
        "--fast",
        "-o",
        str(tmp_path / "run"),
    ]
    plan = said(*words, "--dry-run")
    assert [cell["label"] for cell in plan["cells"]] == ["frequentist", "temperature"]
    assert plan["examples"] == 40
    found = said(*words)
    assert [record["method"]["name"] for record in found["records"]] == ["frequentist", "temperature"]
    assert Path(found["report"]).is_file()
    assert found["folder"] == str(tmp_path / "run")


def test_a_score_a_report_and_a_comparison(tmp_path: Path) -> None:
    """A file's row; the paths of reports; every metric, adjusted where it has a verdict."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"p": rng.random(60)})
    table["label"] = (rng.random(60) < table["p"]).astype(int)
    table.to_csv(tmp_path / "a.csv", index=False)
    words = ["score", str(tmp_path / "a.csv"), "--label", "label", "--prob", "p", "-o", str(tmp_path / "run")]
    (record,) = said(*words)["records"]
    assert record["data"]["n"] == 60
    assert said("report", str(tmp_path / "run"), "--format", "csv") == [str(tmp_path / "run" / "report.csv")]
    printed = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--format", "csv", "-o", "-"]).stdout
    assert printed == (tmp_path / "run" / "report.csv").read_text(encoding="utf-8")
    refused = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--html", "-o", "-"])
    assert refused.exit_code == 2
    assert "give one --format of csv, json, model-card, eval-results." in refused.stderr
    (compared,) = said("compare", str(tmp_path / "run"), str(tmp_path / "run"))
    (row,) = compared["rows"]
    metrics = {one["metric"]: one for one in row["metrics"]}
    assert metrics["nll"]["difference"]["value"] == 0.0
    assert metrics["nll"]["verdict"] == "no difference shown"
    assert metrics["ece"]["verdict"] is None
    assert row["speeds"] == []
    timed = shutil.copytree(RESULT, tmp_path / "timed")
    (compared,) = said("compare", str(timed), str(timed))
    assert [one["speed"] for one in compared["rows"][0]["speeds"]] == ["throughput", "latency"]


def test_a_check_and_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as `--format json`, and the files of a package."""
    words = ["check", str(RESULT), "--max", "frequentist:ece=1"]
    assert said(*words) == json.loads(CliRunner().invoke(main, [*words, "--format", "json"]).stdout)
    monkeypatch.chdir(tmp_path)
    assert all(Path(file).is_file() for file in said("new-plugin", "some-method"))
