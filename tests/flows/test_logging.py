"""What sinks are given is what the records hold, and what they do wrong is their failure alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import logged_runs
import report_example as example
from calibench.errors import CalibenchError, UsageError
from calibench.flows.logging import log, logged, sinks
from calibench.registry import SINKS
from calibench.report.pages.exports import estimates_of
from calibench.sinks.logged import LoggedRun
from calibench.store.records import load_records
from foreign_metrics import register


def test_rows_hold_every_number_of_their_records(tmp_path: Path) -> None:
    """Metrics and costs with the ends of their intervals, bit for bit, by the names of the exports."""
    run = logged_runs.make(tmp_path)
    records = load_records(tmp_path)
    assert [row.name for row in run.rows] == ["frequentist", "mc-dropout", "no-dropout"]
    for row, record in zip(run.rows[:2], records, strict=False):
        known = {name: found for name, found in estimates_of(record) if found["value"] is not None}
        assert row.values == {name: found["value"] for name, found in known.items()}
        assert row.ends == {
            f"{name}_{end}": found[end] for name, found in known.items() for end in ("low", "high")
        }
        assert {"accuracy", "ece", "cost_ratio", "latency_p50_ms"} <= row.values.keys()
        assert row.config["cell"] == record["cell"]
        assert row.created.isoformat() == record["created"]
        assert row.failure is None


def test_a_number_that_could_not_be_had_says_why(tmp_path: Path) -> None:
    """It is no value, neither zero nor NaN; its reason is in the configuration."""
    _, row, _ = logged_runs.make(tmp_path).rows
    assert not {"mce", "mce_low", "mce_high"} & logged_runs.numbers(row).keys()
    assert row.config["absent"] == f'{{"mce": "{logged_runs.NOTHING_TO_BIN}"}}'


def test_a_failed_row_has_its_reason_and_no_numbers(tmp_path: Path) -> None:
    """What a plan or a run asked for is there all the same."""
    *_, row = logged_runs.make(tmp_path).rows
    assert row.failure == row.config["failure"] == "dropout p is 0 everywhere | nothing to draw"
    assert logged_runs.numbers(row) == {}
    assert row.config["method"] == "no-dropout"


def test_files_are_records_reports_and_figures(tmp_path: Path) -> None:
    """No predictions, and no local path in what stands beside them."""
    run = logged_runs.make(tmp_path / "first")
    names = [file.relative_to(run.folder).as_posix() for file in run.files]
    assert names == ["figures/front.svg", "records.jsonl", "report.md"]
    assert run.name == "first"
    assert str(tmp_path) not in repr([row.config for row in run.rows])


def test_rows_of_several_sections_have_names_of_their_own(tmp_path: Path) -> None:
    """Seeds are sections: their rows stand below them."""
    example.build(tmp_path, example.METHODS[:2], seeds=(0, 1), n=40)
    names = [row.name for row in logged(tmp_path).rows]
    assert len(set(names)) == len(names) == 4
    assert names[0] == "sst2/frequentist"


def raises(error: BaseException) -> Any:
    """A sink that does."""

    def sink(_: LoggedRun) -> str:
        raise error

    return sink


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (raises(ConnectionError("no such host:\nexample.invalid.")), "(ConnectionError: no such host: exam"),
        (raises(SystemExit(0)), "raised SystemExit(0), which ends a process"),
        (raises(KeyError("//me:secret@host/db")), "(KeyError: '//host/db')"),
        ("no function", "(TypeError: "),
    ],
    ids=["raises", "exits", "tells", "is none"],
)
def test_a_sink_that_fails_stops_no_other(tmp_path: Path, bad: Any, said: str) -> None:
    """One sentence says what it was, without a password, and what to do; the folder is as it was."""
    folder = logged_runs.write(tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    first, second = log(folder, {"bad": bad, "good": lambda run: f"{len(run.rows)} rows"})
    assert first.failure is not None
    assert first.failure.startswith("The sink 'bad' failed ")
    assert said in first.failure
    assert first.failure.endswith(f"`calibench log {folder} --to bad` tries again.")
    assert (second.where, second.failure) == ("3 rows", None)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_a_sink_prints_is_not_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tools greet and advertise; a command's output is for programs too."""

    def sink(_: LoggedRun) -> str:
        print("Buy our hosting!")
        return "there"

    logged_runs.write(tmp_path / "run")
    assert [item.where for item in log(tmp_path / "run", {"loud": sink})] == ["there"]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "hosting" in printed.err


def test_a_place_is_said_without_who_logs_in_there(tmp_path: Path) -> None:
    """Addresses of databases hold passwords, and what is printed is read by many."""
    (item,) = log(logged_runs.write(tmp_path / "run"), {"db": lambda _: "postgresql://me:pw@host/db"})
    assert item.where == "postgresql://host/db"


def test_a_sink_is_looked_for_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names get the nearest; what does not import says so; each is there once."""
    register(monkeypatch, registry=SINKS, sound=len, broken=ImportError("no such GPU"))
    assert sinks(["sound", "sound"]) == {"sound": len}
    with pytest.raises(UsageError, match=r"Unknown sink 'mlfow'; did you mean 'mlflow'\?"):
        sinks(["sound", "mlfow"])
    with pytest.raises(CalibenchError, match=r"The sink 'broken' from halves 1\.0 failed to import"):
        sinks(["broken"])


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "trackio", "wandb"])
def test_a_missing_package_is_said_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each of ours, wherever it is not installed; its own package is not imported to find out."""
    monkeypatch.setattr("calibench.registry._is_installed", lambda _: False)
    said = rf"^The sink '{name}' needs [\w -]*\b{name}\b[\w -]*: pip install 'calibench\[{name}\]'\.$"
    with pytest.raises(UsageError, match=said):
        sinks([name])
    monkeypatch.setattr("calibench.registry._is_installed", lambda _: True)
    before = set(sys.modules)
    assert callable(sinks([name])[name])
    assert name not in set(sys.modules) - before
