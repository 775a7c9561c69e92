"""Rows in MLflow's own local store are read back by its client as the records have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import logged_runs
from calibench.sinks.logged import LoggedRun

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'calibench[mlflow]'")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoggedRun:
    """A run folder, in a place where MLflow finds no other's store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return logged_runs.make(tmp_path / "first")


def read(uri: str, experiment: str) -> tuple[Any, list[Any], Any]:
    """The run of the folder, those of its rows by name, and the client."""
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    (parent,) = [one for one in found if "mlflow.parentRunId" not in one.data.tags]
    rows = [one for one in found if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(rows) == len(found) - 1
    return parent, sorted(rows, key=lambda one: str(one.info.run_name)), client


def test_each_row_is_a_run_with_its_numbers(run: LoggedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, in a database; the failed one is marked so, and the report lies in the parent."""
    from calibench.sinks.mlflow import log

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert log(run) == "experiment 'mine' of sqlite:///store.db"
    parent, rows, client = read("sqlite:///store.db", "mine")
    assert parent.info.run_name == "first"
    assert [one.info.run_name for one in rows] == [row.name for row in run.rows]
    assert [one.info.status for one in rows] == ["FINISHED", "FINISHED", "FAILED"]
    for one, row in zip(rows, run.rows, strict=True):
        assert one.data.metrics == logged_runs.numbers(row)
        assert one.data.params == {name: str(value) for name, value in row.config.items()}
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "figures",
        "records.jsonl",
        "report.md",
    }
    (figure,) = client.list_artifacts(parent.info.run_id, "figures")
    assert figure.path == "figures/front.svg"


def test_a_number_that_mlflow_refuses_leaves_no_run_open(
    run: LoggedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third party's metric may have a name that is none there: the sink fails, and so do both runs."""
    from calibench.sinks.mlflow import log

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store.db")
    first, *_ = run.rows
    odd = replace(run, rows=(replace(first, values={"f(1)": 0.5}),))
    with pytest.raises(mlflow.MlflowException, match=r"Names may only contain"):
        log(odd)
    assert mlflow.active_run() is None
    parent, rows, _ = read("sqlite:///store.db", "calibench")
    assert [one.info.status for one in (parent, *rows)] == ["FAILED", "FAILED"]
