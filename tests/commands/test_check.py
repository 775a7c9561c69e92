"""The command: baselines by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calibench.cli import main
from run_pairs import METHOD, REFERENCE, run

HELD = ("--baseline", "main", "--max-regression", "nll=0.05")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with two runs, the second worse, and no step of GitHub's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    run(Path("before"))
    run(Path("after"), REFERENCE, replace(METHOD, sharpness=0.2))


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def test_a_baseline_is_a_base_with_a_name() -> None:
    """Saved alone, it is what a folder is to --against."""
    saved = check("before", "--save-baseline", "main")
    assert (saved.exit_code, saved.output) == (0, "Baseline: .calibench/baselines/main\n")
    assert check("before", *HELD).exit_code == 0
    named = check("after", *HELD)
    given = check("after", "--against", ".calibench/baselines/main", *HELD[2:])
    assert (named.exit_code, named.output) == (given.exit_code, given.output)
    assert named.exit_code == 1


def test_a_baseline_may_lie_elsewhere() -> None:
    """Where a cache or an artifact wants it."""
    assert check("before", "--save-baseline", "v1", "--baselines", "kept").exit_code == 0
    assert (
        check("after", "--baseline", "v1", "--baselines", "kept", "--max-regression", "nll=9").exit_code == 0
    )
    assert check("after", "--baseline", "v1", "--max-regression", "nll=9").exit_code == 2


def test_what_fails_does_not_become_the_baseline() -> None:
    """What is undecided does; and the exit code is that of the limits."""
    records = Path(".calibench/baselines/main/records.jsonl")
    assert check("before", "--save-baseline", "main").exit_code == 0
    first = records.read_bytes()
    failed = check("after", *HELD, "--save-baseline", "main")
    assert failed.exit_code == 1
    assert "Baseline" not in failed.output
    assert records.read_bytes() == first
    assert check("after", "--max", "ece=0.05", "--save-baseline", "main").exit_code == 3
    assert records.read_bytes() == Path("after/records.jsonl").read_bytes() != first


def test_a_report_on_standard_output_is_alone_there() -> None:
    """Where the baseline went is said on standard error."""
    result = check("after", "--max", "ece=0.2", "--format", "json", "--save-baseline", "main")
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith("}")
    assert result.stderr.startswith("Baseline: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "There is no limit to check"),
        (["--against", "before", *HELD], "--against and --baseline are two bases; give one of them."),
        (["--against", "before", "--save-baseline", "main"], "A base is about changes, which have no limit"),
        ([*HELD], "There is no baseline 'main' in .calibench"),
        (["--save-baseline", "feature/x"], "'feature/x' is no name for a baseline"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], sentence: str) -> None:
    """In one sentence, with exit code 2."""
    result = check("after", *arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert result.output.count("\n") == 1
