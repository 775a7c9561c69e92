"""docs/log.md: its commands run, its table names every sink, and its own sink is one."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import logged_runs
from calibench.cli import main
from calibench.flows.logging import logged
from calibench.registry import SINKS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")


def test_the_commands_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as they are written, into local stores; a run of few texts."""
    for tool in ("mlflow", "tensorboard"):
        pytest.importorskip(tool, reason=f"{tool} is not installed: pip install 'calibench[{tool}]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (block,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    said = []
    for command in block.splitlines():
        words = shlex.split(command)
        small = ["-L", "24", "--fast"] if words[1] == "run" else []
        result = CliRunner().invoke(main, [*words[1:], *small])
        assert result.exit_code == 0, (command, result.output)
        said += re.findall("^Logged to (.*?):", result.output, re.MULTILINE)
    assert said == ["mlflow", "tensorboard", "mlflow"]
    assert len(list((tmp_path / "runs" / "first" / "tensorboard").rglob("events*"))) == 2


def test_the_table_names_every_sink_and_its_extra() -> None:
    """And no other."""
    rows = re.findall(r"^\| `(\w+)` \| `pip install 'calibench\[(\w+)\]'` \|", DOCUMENT, re.MULTILINE)
    assert rows == [(name, name) for name in SINKS.names()]


def test_the_sink_of_the_document_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, it writes a line per row."""
    block = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec(block[1], made)
    log = made["log"]
    assert callable(log)
    run = logged(logged_runs.write(tmp_path / "first"))
    assert log(run) == "watched.jsonl"
    lines = (tmp_path / "watched.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"run": "first", "row": row.name, **row.values} for row in run.rows
    ]
