"""The commands of docs/sweep.md run on its example, and it names every key that a sweep file has."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main
from calibench.store.records import load_records
from calibench.sweep.manifest import load_manifest
from calibench.sweep.spec import PairEntry, SweepFile

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, each with exit code 0; those for a bucket are tested in tests/sweep/test_remote.py."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "small.toml").write_text(example)
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    for command in blocks[0].splitlines():
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)
        assert (tmp_path / "sweeps").exists() == ("--plan" not in command)
    manifest = load_manifest(tmp_path / "sweeps" / "small")
    assert manifest is not None
    assert [(item["folder"], item["rows"], item["timed"]) for item in manifest["pairs"]] == [
        ("tiny--test", 12, 12),
        ("tiny--validation", 8, 8),
    ]
    assert {r["data"]["n"] for r in load_records(tmp_path / "sweeps/small/tiny--validation")} == {20}


def test_every_key_is_named() -> None:
    """Those of a sweep file and of a [[pair]]."""
    for kind in (SweepFile, PairEntry):
        for item in fields(kind):
            assert f"`{item.name}`" in DOCUMENT or f"[[{item.name}]]" in DOCUMENT or item.name == "title"
