"""Names of rows: one for each, whoever shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibench.compare.runs import load_run
from calibench.report.sections import sections
from calibench.store.naming import anywhere, label, telling_parameters
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


def test_parameters_that_differ_are_told() -> None:
    """Those and no others, by name and in order; one that a namesake lacks differs too."""

    def record(**params: Any) -> dict[str, Any]:
        return {"method": {"name": "m", "params": params}}

    first, second = record(size=2, passes=5, dtype="same"), record(size=4, passes=20, dtype="same")
    assert telling_parameters(first, [first]) == []
    assert telling_parameters(first, [first, second]) == ["passes=5", "size=2"]
    assert telling_parameters(second, [first, second, second]) == ["passes=20", "size=4"]
    alone = record(passes=5, dtype="same")
    assert telling_parameters(first, [first, alone]) == ["size=2"]
    assert telling_parameters(alone, [first, alone]) == ["size=None"]
    lists = record(layers=["a", "b"]), record(layers=["a"])
    assert [telling_parameters(item, lists) for item in lists] == [["layers=a,b"], ["layers=a"]]
    failed: dict[str, Any] = {"method": {"name": "m", "params": None}}
    assert telling_parameters(failed, [failed, record(passes=5)]) == ["passes=None"]


def test_names_tell_cells_apart() -> None:
    """By the number of members where that says which, else in full; by weights where nothing else differs."""

    def record(members: list[str], weights: str) -> dict[str, Any]:
        found = [{"name": name, "sha256": weights + name} for name in members]
        return {"method": {"name": "deep-ensemble", "params": {"members": members}, "members": found}}

    two, three, other = record(["a", "b"], "1"), record(["a", "b", "c"], "1"), record(["a", "c"], "1")
    assert telling_parameters(two, [two]) == []
    assert telling_parameters(two, [two, three]) == ["2 members"]
    assert telling_parameters(two, [two, two, three, three]) == ["2 members"]
    assert telling_parameters(other, [two, three, other]) == ["members=a,c"]
    assert telling_parameters(three, [two, three, other]) == ["members=a,b,c"]
    again = record(["a", "b"], "2")
    (first,), (second,) = telling_parameters(two, [two, again]), telling_parameters(again, [two, again])
    assert first.startswith("weights ")
    assert first != second


def test_a_row_is_the_same_on_every_data_set() -> None:
    """Seeds, weights and the checkpoints of a task are not the method; parameters and the step are."""
    method = {"name": "deep-ensemble", "distribution": "calibench 0.1.0", "posthoc": None}

    def ensemble(folders: list[str], seed: int, size: int = 2) -> dict[str, Any]:
        params = {"members": folders, "size": size}
        members = [{"name": name, "sha256": name} for name in folders]
        return {"method": method | {"params": params, "folders": folders, "members": members}, "seed": seed}

    first = anywhere(ensemble(["sst2-a", "sst2-b"], 0))
    assert first == anywhere(ensemble(["clinc-a", "clinc-b"], 1))
    assert first["method"]["params"] == {"members": "2 checkpoints", "size": 2}
    assert first != anywhere(ensemble(["sst2-a", "sst2-b", "sst2-c"], 0))
    assert first != anywhere(ensemble(["sst2-a", "sst2-b"], 0, size=1))
    assert anywhere({"method": method | {"posthoc": "temperature"}}) != anywhere({"method": method})
    assert anywhere({"method": method | {"distribution": "other 1"}}) != anywhere({"method": method})
