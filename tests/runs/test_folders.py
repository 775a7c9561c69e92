"""Whole runs in folders that hold something: nothing measured is lost, nobody else's number changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibench.compare.runs import load_run, match
from calibench.data.embedded import checkpoint_folder
from calibench.errors import CalibenchError, UsageError, WriteError
from calibench.report import write_report
from calibench.run import run
from calibench.store.records import Record, load_records, write_records
from calibench.suites.spec import MethodSpec, Suite, TimingSpec
from limited_suites import limited


def small(*methods: str, limit: int = 24, **changes: Any) -> Suite:
    """The embedded suite with as little effort as there is."""
    timing = TimingSpec(blocks=2, latency=2, memory=False, token_budget=256)
    specs = tuple(MethodSpec(name) for name in methods)
    return replace(limited("embedded", limit), method=specs, passes=2, timing=timing, **changes)


class Heard:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []

    def stage(self, name: str, steps: int) -> None:  # noqa: ARG002 - only names count
        self.stages.append(name)

    def step(self, detail: str) -> None:
        pass

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def without_hashes(record: Record) -> Record:
    """The record as it was before it held hashes of predictions, config and tokenizer; its key too."""
    model = {key: value for key, value in record["model"].items() if not key.endswith("_sha256")}
    kept = {key: value for key, value in record.items() if key != "predictions_sha256"}
    return kept | {"model": model, "cell": "0" * 12}


def test_what_cannot_be_run_costs_nothing(tmp_path: Path) -> None:
    """`always` with a split that is not there leaves records, predictions and a user's own files alone."""
    run(small("frequentist"), tmp_path)
    (tmp_path / "predictions" / "mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    suite = small("frequentist")
    with pytest.raises(UsageError, match="tset"):
        run(replace(suite, data=replace(suite.data, split="tset")), tmp_path, overwrite="always")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (record,) = run(suite, tmp_path, overwrite="always")
    assert load_records(tmp_path) == [record]
    assert (tmp_path / "predictions" / "mine.txt").read_text() == "mine"
    assert len(list((tmp_path / "predictions").iterdir())) == 2


def test_records_of_another_plan_stay(tmp_path: Path) -> None:
    """Also those that a self-check has not been made for, and those that failed."""
    first = run(small("frequentist"), tmp_path)
    failed = {k: v for k, v in first[0].items() if not k.startswith("predictions")} | {
        "cell": "f" * 12,
        "suite": "other",
        "status": "error",
        "error": {"type": "E", "message": "m"},
    }
    write_records(tmp_path, [*first, failed])
    run(small("frequentist", limit=12), tmp_path, self_check=True)
    found = {record["cell"]: record for record in load_records(tmp_path)}
    assert len(found) == 3
    assert [found[record["cell"]] for record in (*first, failed)] == [*first, failed]
    assert write_report(tmp_path).exists()


@pytest.mark.parametrize(
    "changes",
    [{"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}}, {"activation": "relu"}],
)
def test_another_config_is_another_cell(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Weights do not tell what an output is called, nor what is between them."""
    model = tmp_path / "model"
    shutil.copytree(checkpoint_folder(), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    suite = small("frequentist")
    suite = replace(suite, model=replace(suite.model, name=str(model)))
    (wrong,) = run(suite, tmp_path / "run")
    (model / "config.json").write_text(json.dumps(config))
    (right,) = run(suite, tmp_path / "run")
    assert wrong["cell"] != right["cell"]
    assert wrong["metrics"]["nll"] != right["metrics"]["nll"]
    config["_name_or_path"] = "/elsewhere"
    (model / "config.json").write_text(json.dumps(config))
    assert run(suite, tmp_path / "run") == [right]


def test_an_older_record_is_measured_again_and_said_to_be(tmp_path: Path) -> None:
    """It can be read until then; the new one takes its place."""
    written = [without_hashes(record) for record in run(small("frequentist"), tmp_path)]
    write_records(tmp_path, written)
    assert write_report(tmp_path).exists()
    assert match(load_run(tmp_path), load_run(tmp_path)).pairs
    heard = Heard()
    (record,) = run(small("frequentist"), tmp_path, progress=heard)
    assert [sentence for sentence in heard.said if "measured again" in sentence] == [
        "1 record here is older than keys that tell a model's config and tokenizer from another's: what they "
        "are of is measured again."
    ]
    assert load_records(tmp_path) == [record]


def test_predictions_that_are_others_are_refused_and_remade(tmp_path: Path) -> None:
    """Two files swapped: no report, no comparison, and a run that measures both again."""
    found = run(small("frequentist", "mc-dropout"), tmp_path)
    one, other = (tmp_path / record["predictions"] for record in found)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    with pytest.raises(UsageError, match="is not the file that the record of"):
        write_report(tmp_path)
    again = run(small("frequentist", "mc-dropout"), tmp_path)
    assert [record["metrics"] for record in again] == [record["metrics"] for record in found]
    assert {(tmp_path / record["predictions"]).read_bytes() for record in again} == set(contents)
    assert len(list((tmp_path / "predictions").iterdir())) == 2
    assert write_report(tmp_path).exists()


def test_a_full_disk_is_nobody_s_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where predictions find no room the run stops, without a record; the same command goes on."""

    def full(*_: object) -> None:
        raise WriteError("No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr("calibench.store.predictions.pour", full)
        with pytest.raises(CalibenchError, match="No space left"):
            run(small("frequentist"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"journal"}
    heard = Heard()
    (record,) = run(small("frequentist"), tmp_path, progress=heard)
    assert record["status"] == "ok"
    assert not (tmp_path / "journal").exists()
