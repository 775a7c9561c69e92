"""`run --dry-run`: which cells, and about how long; nothing is measured or written."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from calibench.cli import main
from calibench.suites.loader import parse_suite
from calibench.sweep.dry_run import dry_run

SUITE = """
passes = 2
posthoc = ["temperature"]
[model]
name = "embedded"
[data]
loader = "embedded"
limit = 24
[timing]
blocks = 2
latency = 2
memory = false
token_budget = 256
[[method]]
name = "frequentist"
[[method]]
name = "mc-dropout"
"""


def test_what_is_there_is_told_from_what_is_missing(tmp_path: Path) -> None:
    """A cell takes time where its record is missing; one that shares a pass takes none of its own."""
    file, folder = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(SUITE)
    found = dry_run(parse_suite(SUITE, "small"), folder, "cpu")
    labels = ["frequentist", "frequentist + temperature", "mc-dropout", "mc-dropout + temperature"]
    assert [cell.label for cell in found.cells] == labels
    assert [cell.shares for cell in found.cells] == [False, True, False, True]
    assert [cell.seconds is None for cell in found.cells] == [False, True, False, True]
    assert not any(cell.there for cell in found.cells)
    assert found.examples == 24
    assert found.seconds == sum(cell.seconds for cell in found.cells if cell.seconds is not None)
    assert not folder.exists()
    arguments = ["run", str(file), "-q", "-o", str(folder), "-m", "frequentist"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before = sorted(folder.rglob("*"))
    shown = CliRunner().invoke(main, ["run", str(file), "-o", str(folder), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    lines = {
        line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[-1].strip()
        for line in shown.output.splitlines()
    }
    assert lines["frequentist"] == lines["frequentist + temperature"] == "there"
    assert lines["mc-dropout"].endswith("s")
    assert "2 of 4 cells would be measured, on 24 examples" in " ".join(shown.output.split())
    assert sorted(folder.rglob("*")) == before


def test_what_would_be_refused_is_refused(tmp_path: Path) -> None:
    """As the run itself would."""
    asked = ["run", "--dry-run", "--split", "nowhere", "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, asked)
    assert refused.exit_code == 2
    assert "no split 'nowhere'" in refused.output
