"""A check as JSON, Markdown and JUnit: each says of every limit what the terminal says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from calibench.cli import main
from calibench.compare.gate import BEYOND, FINE, NOT_APART, Checked, Finding, Judgement
from calibench.compare.limits import MOST, Limit
from calibench.compare.runs import Run
from calibench.report.pages.check import as_json, as_junit, as_markdown
from calibench.types import Interval
from run_pairs import METHOD, REFERENCE, run

LIMIT = Limit("nll", 0.5, MOST)


def finding(judgement: Judgement, label: str = "a | b", needed: int | None = None) -> Finding:
    """One of this judgement."""
    return Finding(label, LIMIT, Interval(0.5, 0.4, 0.6), 100, judgement, needed)


def found(*findings: Finding, failed: tuple[tuple[str, str], ...] = ()) -> Checked:
    """A check that found these."""
    return Checked(Run(Path("new"), "new", ()), None, findings, failed)


ALL = found(finding(FINE), finding(BEYOND), finding(NOT_APART, needed=7), failed=(("c", "no dropout"),))


def check(*arguments: object, **environment: str) -> Result:
    """`calibench check` with these."""
    return CliRunner().invoke(main, ["check", *map(str, arguments)], env=environment)


def test_junit_counts_what_failed_and_skips_what_is_undecided() -> None:
    """Parsed back, each limit of each row is one test."""
    root = ET.fromstring(as_junit(ALL))
    (suite,) = root.findall("testsuite")
    assert [suite.get(name) for name in ("tests", "failures", "skipped", "errors")] == ["4", "2", "1", "0"]
    # The schema of Jenkins' xUnit plugin allows these and no others of ours, and refuses the whole file.
    assert set(root.keys()) <= {"name", "time", "tests", "failures", "errors"}
    ends = [(case.get("classname"), [child.tag for child in case]) for case in suite.findall("testcase")]
    assert ends == [("a | b", []), ("a | b", ["failure"]), ("a | b", ["skipped"]), ("c", ["failure"])]
    assert [item.get("message") for item in root.iter("skipped")] == [
        ".5000 [.400, .600]: not told apart from the limit: 100 examples; about 7 more would tell"
    ]


@given(st.text(st.characters(exclude_categories=())))
def test_junit_can_be_read_whatever_a_row_and_its_error_are_called(text: str) -> None:
    """Also with what XML cannot hold."""
    root = ET.fromstring(as_junit(found(finding(BEYOND, text), failed=((text, text),))).encode())
    assert len(list(root.iter("failure"))) == 2


def test_json_holds_the_numbers() -> None:
    """The interval, the limit and what follows."""
    content = json.loads(as_json(ALL))
    assert (content["outcome"], content["exit_code"], content["against"]) == ("failed", 1, None)
    assert [item["outcome"] for item in content["findings"]] == ["passed", "failed", "undecided"]
    assert content["findings"][2]["limit"] == {"kind": "max", "name": "nll", "amount": 0.5}
    assert [content["findings"][2][name] for name in ("value", "low", "high", "needed")] == [0.5, 0.4, 0.6, 7]
    assert content["failed"] == [{"row": "c", "message": "no dropout"}]


def test_a_table_of_markdown_has_a_line_for_each_limit() -> None:
    """A bar in a row's name does not part cells, and the signs differ by outcome."""
    lines = [line for line in as_markdown(ALL).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)
    assert [line.split()[1] for line in lines[2:]] == ["✓", "✗", "?"]


@pytest.mark.parametrize(("form", "start"), [("json", "{"), ("markdown", "###"), ("junit", "<?xml")])
def test_a_form_goes_to_standard_output_or_to_a_file(form: str, start: str, tmp_path: Path) -> None:
    """The same text; with a file the terminal has the table."""
    folder, file = run(tmp_path / "a"), tmp_path / "made" / "check"
    asked = (folder, "--max", "nll=100", "--format", form)
    printed, written = check(*asked), check(*asked, "-o", file)
    assert (printed.exit_code, written.exit_code) == (0, 0), printed.output + written.output
    assert printed.output.startswith(start)
    assert file.read_text(encoding="utf-8") == printed.output
    assert written.output == check(folder, "--max", "nll=100").output


def test_the_exit_code_is_that_of_the_outcome_in_every_form(tmp_path: Path) -> None:
    """1 where a row failed, though every limit is kept."""
    folder = run(tmp_path / "a", REFERENCE, replace(METHOD, error="no dropout"))
    for form in ("table", "json", "markdown", "junit"):
        assert check(folder, "--max", "nll=100", "--format", form).exit_code == 1


def test_a_job_s_summary_is_added_to(tmp_path: Path) -> None:
    """What stands there stays, and without the variable nothing is written."""
    folder, summary = run(tmp_path / "a"), tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    check(folder, "--max", "nll=100", GITHUB_STEP_SUMMARY=str(summary))
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n### ✓ calibench check: passed")
    check(folder, "--max", "nll=100", GITHUB_STEP_SUMMARY="")
    assert summary.read_text(encoding="utf-8") == text
    refused = check(folder, "--max", "nll=100", GITHUB_STEP_SUMMARY=str(tmp_path))
    assert refused.exit_code == 0
    assert "Warning: Could not write" in refused.output
