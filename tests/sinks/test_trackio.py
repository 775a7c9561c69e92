"""Rows in Trackio's own local store are read back by it as the records have them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import logged_runs

if importlib.util.find_spec("trackio") is None:
    pytest.skip("trackio is not installed: pip install 'calibench[trackio]'", allow_module_level=True)

#: In a process of its own: Trackio asks where its store is when it is imported.
SEND = """
import sys
from pathlib import Path
from calibench.flows.logging import log, sinks
print([item.where for item in log(Path(sys.argv[1]), sinks(["trackio"]))])
"""
READ = """
import json
from trackio.sqlite_storage import SQLiteStorage
found = {}
for run in SQLiteStorage.get_run_records("mine"):
    about = ("mine", run["name"])
    rows = SQLiteStorage.get_logs(*about, run_id=run["id"])
    found[run["name"]] = [SQLiteStorage.get_run_config(*about, run_id=run["id"]), rows]
manifest = SQLiteStorage.get_artifact_manifest("mine", "first", 0)
print(json.dumps([found, SQLiteStorage.get_artifacts("mine"), str(manifest)]))
"""


def said(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_row_is_a_run_with_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, in the group of the folder; the failed one has its reason, and the report is there."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    run = logged_runs.make(tmp_path / "first")
    assert said(SEND, str(run.folder)) == "[\"project 'mine', group 'first'\"]\n"
    found: dict[str, Any]
    found, artifacts, manifest = json.loads(said(READ))
    assert found.keys() == {row.name for row in run.rows}
    for row in run.rows:
        config, logs = found[row.name]
        assert {name: config[name] for name in row.config} == row.config
        assert config["_Group"] == "first"
        values = {
            name: value for one in logs for name, value in one.items() if name not in ("timestamp", "step")
        }
        assert values == logged_runs.numbers(row)
    assert [(item["name"], item["type"]) for item in artifacts] == [("first", "report")]
    assert all(file.name in manifest for file in run.files)
