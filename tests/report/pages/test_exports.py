"""Exports hold what the records hold, in forms that other programs read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import report_example as example
from calibench import cli
from calibench.report import write_csv, write_json
from calibench.store.records import Record, load_records, write_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    example.build(path)
    return path


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Record]:
    return load_records(folder)


def test_csv_holds_every_metric_of_every_cell(folder: Path, records: list[Record]) -> None:
    """Read back, each row's numbers are the record's to the last bit; a failed cell has one row."""
    with write_csv(folder).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_key = {(row["cell"], row["metric"]): row for row in rows}
    assert len(by_key) == len(rows)
    for record in records:
        if record["status"] == "error":
            row = by_key[record["cell"], ""]
            assert row["error"] == "dropout p is 0 everywhere | nothing to draw"
            assert row["value"] == ""
            continue
        estimates = record["metrics"] | {"cost_ratio": record["cost_ratio"]}
        for name, estimate in estimates.items():
            row = by_key[record["cell"], name]
            assert [float(row[key]) for key in ("value", "low", "high")] == [
                estimate[key] for key in ("value", "low", "high")
            ]
            assert (row["method"], row["dataset"], row["split"]) == (
                record["method"]["name"],
                "sst2",
                "validation",
            )
            assert json.loads(row["params"]) == record["method"]["params"]


def test_csv_says_why_a_number_is_missing(tmp_path: Path) -> None:
    """A value that could not be had is empty, with its reason beside it."""
    made = example.build(tmp_path, example.METHODS[:1])
    made[0]["cost_ratio"] = example.missing("not timed, alas")
    write_records(tmp_path, made)
    with write_csv(tmp_path).open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["metric"] == "cost_ratio"]
    assert (row["value"], row["reason"]) == ("", "not timed, alas")


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    """Words that a spreadsheet would run have an apostrophe before them; a negative number is a number."""
    made = example.build(tmp_path, example.METHODS[:1])
    made[0]["cost_ratio"] = example.missing("=1+1") | {"low": -0.5}
    for key, value in (("name", "@SUM(A1)"), ("config", "-2+3"), ("split", "+1")):
        made[0]["data"][key] = value
    write_records(tmp_path, made)
    with write_csv(tmp_path).open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["metric"] == "cost_ratio"]
    assert (row["reason"], row["low"]) == ("'=1+1", "-0.5")
    assert (row["dataset"], row["config"], row["split"]) == ("'@SUM(A1)", "'-2+3", "'+1")


def test_json_is_one_flat_object_per_cell(folder: Path, records: list[Record]) -> None:
    """Every scalar of a record is found under its path, and nothing is nested."""
    cells = json.loads(write_json(folder).read_text(encoding="utf-8"))
    assert [cell["label"] for cell in cells] == [record["method"]["name"] for record in records]

    def scalars(value: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {} if isinstance(value, list) else {path[1:]: value}
        return {key: item for k, v in value.items() for key, item in scalars(v, f"{path}.{k}").items()}

    for cell, record in zip(cells, records, strict=True):
        assert scalars(record).items() <= cell.items()
        assert not any(isinstance(item, dict) for item in cell.values())
    assert cells[0]["data.labels"] == example.LABELS
    assert "timing.blocks" not in cells[0]


# --- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ([], ["report.md"]),
        (["--html"], ["report.md", "report.html"]),
        (["--format", "html"], ["report.html"]),
        (["--format", "csv", "--format", "json"], ["report.csv", "report.json"]),
        (["--format", "model-card", "--html"], ["model-card.md", "report.html"]),
    ],
)
def test_report_writes_what_it_is_asked_for(tmp_path: Path, options: list[str], written: list[str]) -> None:
    """Formats are written beside the records, nothing else is, and the paths are printed."""
    example.build(tmp_path, example.METHODS[:1], n=60)
    before = set(tmp_path.iterdir())
    done = CliRunner().invoke(cli.main, ["report", str(tmp_path / "records.jsonl"), *options])
    assert done.exit_code == 0, done.output
    assert done.output == "".join(f"Report: {tmp_path / name}\n" for name in written)
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made - {"figures"} == set(written)


def test_sentences_need_the_page(tmp_path: Path) -> None:
    """Sentences are shown on the page only, so asking for them elsewhere is an error."""
    example.build(tmp_path, example.METHODS[:1], n=60)
    done = CliRunner().invoke(cli.main, ["report", str(tmp_path), "--include-text"])
    assert done.exit_code == 2
    assert "add --html" in done.output


def test_sentences_from_a_folder(tmp_path: Path) -> None:
    """With the data set named, the page holds the sentences of the examples it singles out."""
    example.build(tmp_path, example.METHODS[:2], n=60)
    data = tmp_path / "data"
    data.mkdir()
    with (data / "validation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        writer.writerows([example.sentence(row), row % 2] for row in range(60))
    options = ["--format", "html", "--include-text", "--dataset", str(data)]
    done = CliRunner().invoke(cli.main, ["report", str(tmp_path), *options])
    assert done.exit_code == 0, done.output
    assert "the film in row" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_exports_load_no_model(folder: Path) -> None:
    """Every format is written without torch."""
    code = (
        "import sys; from pathlib import Path; from calibench import report; "
        f"folder = Path({str(folder)!r}); "
        "[write(folder) for write in (report.write_report, report.write_html, report.write_csv, "
        "report.write_json, report.write_model_card)]; "
        "print(sorted({'torch', 'transformers', 'baal'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
