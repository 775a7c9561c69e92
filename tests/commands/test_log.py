"""`calibench log` and `run --log`: what is asked for is looked for first, and a failure costs no number."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import logged_runs
from calibench.cli import main
from calibench.registry import SINKS
from calibench.sinks.logged import LoggedRun
from calibench.store.records import RECORDS, load_records
from foreign_metrics import register

SMALL = ["run", "-L", "24", "--passes", "2", "--fast", "-m", "frequentist"]


def calibench(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def fails(_: LoggedRun) -> str:
    raise ConnectionError("no such host")


def test_a_folder_is_sent_to_each_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is then is said, a line each; a records file stands for its folder."""
    register(monkeypatch, registry=SINKS, rows=lambda run: f"{len(run.rows)} rows", name=lambda run: run.name)
    logged_runs.write(tmp_path / "first")
    done = calibench("log", str(tmp_path / "first" / RECORDS), "--to", "rows", "--to", "name")
    assert done.exit_code == 0, done.output
    assert done.output == "Logged to rows: 3 rows\nLogged to name: first\n"


def test_a_sink_that_fails_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence; the other sink has got its copy."""
    register(monkeypatch, registry=SINKS, fails=fails, rows=lambda run: f"{len(run.rows)} rows")
    logged_runs.write(tmp_path / "first")
    done = calibench("log", str(tmp_path / "first"), "--to", "fails", "--to", "rows")
    assert done.exit_code == 1
    assert done.stdout == "Logged to rows: 3 rows\n"
    assert done.stderr.count("\n") == 1
    assert "The sink 'fails' failed (ConnectionError: no such host);" in done.stderr


@pytest.mark.parametrize("arguments", [["--to", "mlfow"], []])
def test_what_is_not_understood_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    """A name that is none, or no name."""
    assert calibench("log", str(logged_runs.write(tmp_path / "first")), *arguments).exit_code == 2


def test_a_run_is_whole_where_its_sink_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and report are there, the table is printed, and the exit code is 1."""
    seen: list[LoggedRun] = []
    register(monkeypatch, registry=SINKS, fails=fails, keeps=lambda run: str(seen.append(run)))
    target = tmp_path / "out"
    done = calibench(*SMALL, "--log", "fails", "--log", "keeps", "-o", str(target))
    assert done.exit_code == 1
    assert "The sink 'fails' failed (ConnectionError: no such host);" in done.stderr
    assert f"Report: {target / 'report.md'}\nLogged to keeps: " in done.stdout
    (record,) = load_records(target)
    assert record["status"] == "ok"
    assert (target / "report.md").is_file()
    ((row,),) = [run.rows for run in seen]
    assert row.values["accuracy"] == record["metrics"]["accuracy"]["value"]
    assert target / "report.md" in seen[0].files


def test_a_run_with_a_failed_cell_and_a_failed_sink_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither hides the other, and failed rows are sent too."""
    seen: list[LoggedRun] = []
    register(monkeypatch, registry=SINKS, fails=fails, keeps=lambda run: str(seen.append(run)))
    broken = ["-m", "mc-dropout-batch", "-a", "mc-dropout-batch.memory_budget_mb=-1"]
    done = calibench(*SMALL, *broken, "--log", "fails", "--log", "keeps", "-o", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "1 of 2 cells failed (mc-dropout-batch)" in done.stderr
    assert "The sink 'fails' failed" in done.stderr
    assert [row.failure is None for row in seen[0].rows] == [True, False]


def test_a_sink_that_is_not_there_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that installs it, and nothing written."""
    monkeypatch.setattr("calibench.registry._is_installed", lambda package: package != "mlflow-skinny")
    done = calibench(*SMALL, "--log", "mlflow", "-o", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "The sink 'mlflow' needs mlflow-skinny: pip install 'calibench[mlflow]'." in done.stderr
    assert not (tmp_path / "out").exists()


def test_sinks_are_listed() -> None:
    """With what they are and, where that is absent, what installs them."""
    done = calibench("ls", "sinks")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "mlflow",
        "tensorboard",
        "trackio",
        "wandb",
    ]
