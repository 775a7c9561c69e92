"""One name for one thing: a row stands once, and no two sections have one heading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import report_example as example
from calibench.report import content, sections, write_csv
from calibench.report.writing import words
from calibench.store.records import Record, write_records

FIT = {"seconds": 0.1, "examples": 872, "split": "validation", "parameters": {"temperature": [1.9, 2.0]}}


def twins(folder: Path) -> list[Record]:
    """The reference, a step on it, and the method that is just this."""
    specs = [example.Spec("frequentist", 1.9, 1.0, passes=1)]
    specs += [
        example.Spec(name, 1.0, cost, passes=1, noise=0.8, like="frequentist")
        for name, cost in (("step", 1.0), ("temperature", 1.1))
    ]
    records = example.build(folder, tuple(specs))
    records[1]["method"] |= {"name": "frequentist", "posthoc": "temperature"}
    records[1]["fit"], records[2]["fit"] = FIT, FIT | {"seconds": 0.2}
    write_records(folder, records)
    return records


def labels(section: sections.Section) -> list[str]:
    return [entry.label for entry in section.entries]


def test_a_step_that_is_a_method_stands_once(tmp_path: Path) -> None:
    """Under the method's name, with its own time, in every table; the notes say so, and exports hold both."""
    twins(tmp_path)
    report = content.read(tmp_path)
    (section,) = report.sections
    assert labels(section) == ["frequentist", "temperature"]
    assert ("frequentist + temperature", "is temperature, which was timed itself.") in words.remarks(section)
    for part in report.contents[0].parts:
        for table in (part.table, part.details):
            assert table is None or "frequentist + temperature" not in [row.entry.label for row in table.rows]
    assert "frequentist + temperature" in write_csv(tmp_path).read_text()


@pytest.mark.parametrize("change", ["fit", "metric", "parameters", "step"])
def test_what_differs_in_anything_stands_for_itself(tmp_path: Path, change: str) -> None:
    """Other temperatures, numbers or parameters, or no step at all, make two rows."""
    records = twins(tmp_path)
    if change == "fit":
        records[1]["fit"] = FIT | {"parameters": {"temperature": [1.9, 2.1]}}
    elif change == "metric":
        records[1]["metrics"]["nll"]["value"] += 0.001
    elif change == "parameters":
        records[1]["method"]["params"] = {"dtype": "bfloat16"}
    else:
        records[1]["method"] |= {"name": "other", "posthoc": None}
    (section,) = sections.sections(records)
    assert len(section.once().entries) == 3


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("data", {"n": 60}, {"n": 1200}, ["60 examples", "1,200 examples"]),
    ("data", {"split": "test"}, {"split": "validation"}, ["split test", "split validation"]),
    ("data", {"config": None}, {"config": "full"}, ["config none", "config full"]),
    ("model", {"dtype": "float32"}, {"dtype": "bfloat16"}, ["float32", "bfloat16"]),
    ("model", {"sha256": "a" * 64}, {"sha256": "b" * 64}, ["weights aaaaaaaaaaaa", "weights bbbbbbbbbbbb"]),
]


@pytest.mark.parametrize(("block", "one", "other", "telling"), CHANGES)
def test_no_two_sections_have_one_heading(
    tmp_path: Path, block: str, one: dict[str, Any], other: dict[str, Any], telling: list[str]
) -> None:
    """What they differ in stands in the heading, and nothing else does."""
    records = []
    for at, change in enumerate((one, other)):
        record = example.build(tmp_path / str(at), example.METHODS[:1])[0]
        records.append(record | {"cell": str(at), block: record[block] | change})
    found = sections.sections(records)
    titles = [words.title(section) for section in found]
    assert titles == [f"`sst2`: `sst2` with `sst2-minilm`, seed 0, {text}" for text in telling]


def test_sections_of_other_names_are_told_by_these(tmp_path: Path) -> None:
    """Two seeds need no more than their seeds, however many examples each has."""
    records = example.build(tmp_path, example.METHODS[:1], seeds=(0, 1))
    records[1]["data"] = records[1]["data"] | {"n": 60}
    assert [section.telling for section in sections.sections(records)] == [(), ()]
