"""What `calibench compare` prints."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from calibench.cli import main
from calibench.compare.gate import BEYOND, FINE, NOISY, NOT_APART, REGRESSION, Checked, Finding, Judgement
from calibench.compare.limits import CHANGE, MOST, Limit
from calibench.compare.runs import Run
from calibench.compare.speeds import SECONDS
from calibench.report.terminal.comparison import checked
from calibench.report.terminal.progress import as_text
from calibench.report.writing.check_words import judged
from calibench.types import Interval
from run_pairs import METHOD, REFERENCE, put, run


def calibench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_compare_prints_every_method_and_metric(tmp_path: Path) -> None:
    """Two new runs, each against the base; a difference that is plain is called one."""
    base, same = run(tmp_path / "a"), run(tmp_path / "b")
    worse = run(tmp_path / "c", REFERENCE, replace(METHOD, sharpness=0.2))
    result = calibench("compare", base, same, worse)
    assert result.exit_code == 0, result.output
    first, second = result.output.split(str(worse), 1)
    assert str(same) in first
    for name in ("frequentist", "mc-dropout", "accuracy", "nll", "brier", "ece_debiased", "throughput"):
        assert name in first
    assert "worse" not in first
    row = next(line for line in second.split("mc-dropout")[1].splitlines() if line.startswith("nll"))
    assert row.split()[-1] == "worse"
    assert "all 8 verdicts" in " ".join(second.split())


def test_compare_takes_other_metrics(tmp_path: Path) -> None:
    """By name, without a verdict; an unknown one is refused."""
    base = run(tmp_path / "a")
    result = calibench("compare", base, base, "--metric", "mce", "--quality-only")
    assert result.exit_code == 0, result.output
    assert "mce" in result.output
    assert "verdicts" not in result.output
    assert "throughput " not in result.output.split("Differences")[0]
    assert calibench("compare", base, base, "--metric", "mcce").exit_code == 2


def test_compare_refuses_in_one_sentence(tmp_path: Path) -> None:
    """Exit code 2."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", change=put("data.split", "test"))
    result = calibench("compare", base, new)
    assert result.exit_code == 2
    assert "data.split is validation" in result.output
    assert calibench("compare", base).exit_code == 2
    assert calibench("compare", base, tmp_path / "none").exit_code == 2


@pytest.mark.parametrize(
    ("judgement", "sign", "colour"),
    [
        (FINE, "ok", "\x1b[32m"),
        (REGRESSION, "FAIL", "\x1b[1;31m"),
        (BEYOND, "FAIL", "\x1b[1;31m"),
        (NOISY, "?", "\x1b[33m"),
        (NOT_APART, "?", "\x1b[33m"),
    ],
)
def test_what_is_undecided_does_not_look_like_what_is_broken(
    judgement: Judgement, sign: str, colour: str
) -> None:
    """Another word, sign and colour, in the row and in the last line."""
    limit = Limit("nll", 0.5, CHANGE if judgement in (REGRESSION, NOISY) else MOST)
    finding = Finding("m", limit, Interval(0.5, 0.4, 0.6), 100, judgement, None)
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system="standard", highlight=False)
    console.print(checked(Checked(Run(Path("new"), "new", ()), None, (finding,))), markup=False)
    _, row, *_, last = file.getvalue().splitlines()
    assert f"{colour}{sign} {judgement}" in row
    assert last == f"{colour}1 {finding.outcome}.\x1b[0m"
    assert ("regression" in row) == (judgement == REGRESSION)


def test_the_table_of_a_check_is_ascii() -> None:
    """A terminal of another encoding shows it as it is, and no exit code comes of a letter it lacks."""
    made = [
        Finding("m", Limit("nll", 0.5, kind), Interval(0.5, 0.4, 0.6), 100, judgement, 7)
        for kind, judgements in ((CHANGE, (FINE, REGRESSION, NOISY)), (MOST, (FINE, BEYOND, NOT_APART)))
        for judgement in judgements
    ]
    assert as_text(checked(Checked(Run(Path("new"), "new", ()), None, tuple(made)))).isascii()


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("label", ["m", "mc-dropout (passes=20, seed 0) + temperature"])
def test_no_word_of_a_check_is_cut(width: int, label: str) -> None:
    """Whatever does not fit goes on in the next line, on a narrow terminal too."""
    limit = Limit("throughput", 0.1, CHANGE)
    finding = Finding(label, limit, Interval(0.17, -1.53, 0.72), 12, NOISY, None, SECONDS, "blocks")
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    console.print(checked(Checked(Run(Path("new"), "new", ()), None, (finding,))), markup=False)
    _, *lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    letters = Counter("".join("".join(lines).split()))
    expected = f"{label}throughputworse<=10%17%[-153%,72%]inseconds?{judged(finding)}1undecided."
    assert letters == Counter("".join(expected.split()))
