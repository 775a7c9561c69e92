"""The command: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import boards
from calibench.cli import main

METHODS = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.5}


def leaderboard(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["leaderboard", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(boards.write_tasks(tmp_path / "runs", 3, METHODS))


def test_a_table_and_a_paragraph(folder: str) -> None:
    """Within 100 columns, ranked by the metric that is asked for first."""
    result = leaderboard(folder, "--metric", "brier")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Method")
    assert "temperature has the best mean rank" in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= 100


def test_files_go_where_they_are_told(folder: str, tmp_path: Path) -> None:
    """--format chooses among them, and -q prints nothing."""
    result = leaderboard(folder, "-o", str(tmp_path / "out"), "--format", "csv", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["leaderboard.csv"]


def test_json_is_all_that_is_printed(folder: str, tmp_path: Path) -> None:
    """One object, with files written or not."""
    result = leaderboard(folder, "--json", "-o", str(tmp_path / "out"))
    assert json.loads(result.output)["reference"] == "frequentist"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "knn"], "'knn' is none of the methods ranked"),
        (["--metric", "nope"], "nope"),
        (["--format", "csv"], "add -o FOLDER"),
        (["--min-tasks", "4"], "with --min-tasks 4"),
        (["--min-tasks", "0"], "min-tasks"),
    ],
)
def test_usage_errors(folder: str, arguments: list[str], message: str) -> None:
    """One sentence, exit code 2, no traceback."""
    result = leaderboard(folder, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_nothing_there(tmp_path: Path) -> None:
    """A folder without run folders."""
    result = leaderboard(str(tmp_path))
    assert result.exit_code == 2
    assert "There is no run folder" in result.output
