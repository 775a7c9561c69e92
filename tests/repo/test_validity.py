"""The validity study that is committed: its text is made from its counts, and its promises are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "results" / "validity" / "validity.json"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """The counts of the committed study."""
    loaded: dict[str, Any] = json.loads(STUDY.read_text("utf-8"))
    return loaded


def test_the_text_is_what_the_script_makes_of_the_counts(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of validity.md was typed by hand."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, "validity_report", raising=False)
    import validity_report

    (tmp_path / "validity").mkdir()
    validity_report.write(record, tmp_path)
    made = (tmp_path / "validity.md").read_text("utf-8")
    assert made == (ROOT / "results" / "validity.md").read_text("utf-8")
    assert (tmp_path / "validity" / "coverage.png").stat().st_size > 10_000


def test_the_study_is_as_large_as_it_says(record: dict[str, Any]) -> None:
    """At least 400 replications of all that does not take long, at four sizes."""
    assert record["replications"] >= 400
    for one in record["results"]:
        assert one["replications"] in {record["replications"] // part for part in (1, 2, 5)}
        if one["kind"] == "differences":
            assert one["found"]["families"] == one["replications"]
        else:
            for counts in one["found"].values():
                total = counts["inside"] + counts["above"] + counts["below"] + counts.get("none", 0)
                assert total == one["replications"]
    sizes = {one["n"] for one in record["results"] if one["kind"] in ("coverage", "differences")}
    assert sizes == {50, 200, 872, 5000}


def test_cross_fitted_errors_read_what_new_examples_read(record: dict[str, Any]) -> None:
    """ECE of a cross-fitted temperature is nearer to that of new examples than to the pooled one."""
    crossed = [one for one in record["results"] if one["kind"] == "crossed"]
    assert len(crossed) >= 6
    for one in crossed:
        found = one["found"]["ece"]
        assert abs(found["value"] - found["new"]) < 0.6 * abs(found["raw"] - found["new"])


def test_verdicts_are_false_alarms_at_most_in_one_family_of_twenty(record: dict[str, Any]) -> None:
    """Between seeds of one method, and on equal calibration errors of models that differ in sharpness."""
    compared = [one for one in record["results"] if one["kind"] == "differences"]
    nulls = [
        one for one in compared if all(counts["truth"] == 0.0 for counts in one["found"]["metrics"].values())
    ]
    assert len(nulls) >= 2
    for one in nulls:
        assert one["found"]["any"] <= 0.05 * one["found"]["families"]
    sharp = [one for one in compared if "sharp" in one["population"]]
    assert sharp
    for one in sharp:
        counts = one["found"]["metrics"]["ece_debiased"]
        assert counts["verdicts"] <= 0.05 * counts["count"]


def test_the_debiased_error_holds_its_coverage(record: dict[str, Any]) -> None:
    """The one calibration error that verdicts rest on covers 93% at least, everywhere."""
    for one in record["results"]:
        if one["kind"] == "coverage":
            # One of fifty such shares lies two standard errors below the true one.
            held = one["found"]["ece_debiased"]["inside"] / one["replications"]
            assert held >= 0.93 - 2.0 * (0.93 * 0.07 / one["replications"]) ** 0.5
