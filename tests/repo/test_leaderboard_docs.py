"""docs/leaderboard.md: its commands run on the committed results, and its table is what one prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:\$ )?calibench (leaderboard .*)$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, beside the results."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "board" / "leaderboard.html").exists() == ("-o board" in command)


def test_the_table_is_what_is_printed() -> None:
    """Every line of it, from the committed records."""
    block = re.search(r"```console\n\$ calibench (.*?)\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    words = [str(ROOT / word) if word.startswith("results/") else word for word in block[1].split()]
    printed = [line.rstrip() for line in CliRunner().invoke(main, words).output.splitlines()]
    shown = block[2].splitlines()
    assert len(shown) == 7
    assert printed[:7] == shown


def test_the_coverage_that_is_claimed_is_in_the_results() -> None:
    """No setting of results/ranks.md is held less often than the page says, nor false calls beyond chance."""
    text = (ROOT / "results" / "ranks.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:2] == "| "
    ]
    table = rows[1:]
    assert {row[1] for row in table} == {"3", "4", "5", "8", "15"}
    claimed = re.search(r"they held in at least (\d+)%", DOCUMENT)
    assert claimed is not None
    assert min(float(row[4]) for row in table) >= int(claimed[1]) / 100
    assert max(float(row[5]) for row in table) <= 0.05
