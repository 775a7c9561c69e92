"""Names of rows: one for each, whoever shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibench.compare.runs import load_run
from calibench.report.sections import sections
from calibench.store.naming import label
from calibench.store.records import load_records

STUDY = Path(__file__).resolve().parents[2] / "results" / "sst2"


def record(posthoc: str | None, passes: int, seed: int = 0) -> dict[str, Any]:
    """What a name is made of."""
    return {"method": {"name": "mc-dropout", "params": {"passes": passes}, "posthoc": posthoc}, "seed": seed}


def test_a_comparison_and_a_report_call_each_row_alike() -> None:
    """The rows of the study have 38 names, all of them different."""
    run = load_run(STUDY)
    compared = [run.label(record) for record in run.records]
    (section,) = sections(load_records(STUDY))
    reported = {entry.record["cell"]: entry.label for entry in section.entries}
    assert compared == [reported[record["cell"]] for record in run.records]
    assert len(set(compared)) == len(compared) == 38
    assert "mc-dropout (passes=20) + temperature" in compared


def test_what_tells_a_row_stands_before_its_post_hoc_step() -> None:
    """Parameters and seeds, and only where there are several; a row is no namesake of another method's."""
    plain, step, more = record(None, 5), record("temperature", 5), record(None, 20)
    assert [label(one, [plain, step]) for one in (plain, step)] == ["mc-dropout", "mc-dropout + temperature"]
    assert label(step, [step, more]) == "mc-dropout (passes=5) + temperature"
    again = record("temperature", 5, seed=1)
    assert label(again, [again, step]) == "mc-dropout (seed 1) + temperature"
    assert label(again, [again, more]) == "mc-dropout (passes=5, seed 1) + temperature"
    other = {"method": {"name": "frequentist", "params": {"x": 1}, "posthoc": None}, "seed": 0}
    assert label(plain, [plain, other]) == "mc-dropout"
