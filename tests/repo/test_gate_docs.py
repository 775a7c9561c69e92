"""docs/gate.md: its check prints what it shows, its limits are limits, and its recipe fits the action."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from calibench.cli import main
from calibench.compare.limits import CHANGE, COSTS, LEAST, MOST, Kind, parse_limits
from calibench.store.baselines import BASELINES
from run_pairs import run

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")


def test_the_check_is_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of it, from the committed records, and the exit code that is named."""
    block = re.search(r"```console\n\$ calibench (.*?)\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, shlex.split(block[1]))
    assert [line.rstrip() for line in result.output.splitlines()] == block[2].splitlines()
    assert f"The exit code is {result.exit_code} here." in DOCUMENT


@pytest.mark.parametrize(("option", "kind"), [("max", MOST), ("min", LEAST), ("max-regression", CHANGE)])
def test_limits_of_the_table_are_limits(option: str, kind: Kind) -> None:
    """Each is read as its option reads it."""
    row = re.search(rf"\| `--{option} NAME=.*?\| (.*) \|", DOCUMENT)
    assert row is not None
    texts = re.findall(r"`(\w+=[^`]+)`", row[1])
    assert len(parse_limits(texts, kind)) == len(texts) >= 2


def test_every_cost_is_named() -> None:
    """No other is one."""
    sentence = re.search(r"Costs are (.*?)\.", DOCUMENT, re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == set(COSTS)


def test_the_recipe_gives_the_action_its_inputs() -> None:
    """All that it requires, and none that it does not have."""
    inputs = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    block = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    steps = yaml.safe_load(block[1])["jobs"]["gate"]["steps"]
    used = [item["with"] for item in steps if "/calibench@" in item.get("uses", "")]
    assert len(used) == 1
    for given in used:
        assert {name for name, about in inputs.items() if about.get("required")} <= set(given) <= set(inputs)
        for name, kind in (("max", MOST), ("min", LEAST), ("max-regression", CHANGE)):
            assert parse_limits(given.get(name, "").split(), kind) or name not in given
    assert all(f"`{name}`" in DOCUMENT for name in inputs)


def test_the_commands_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as they are written, on two runs that are alike."""
    monkeypatch.chdir(tmp_path)
    run(Path("before"))
    run(Path("after"))
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)


def test_the_recipe_caches_where_baselines_lie() -> None:
    """The same folder is fetched and kept, and what is kept is found by the beginning of its key."""
    block = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    steps = yaml.safe_load(block[1])["jobs"]["gate"]["steps"]
    fetch, keep = (item["with"] for item in steps if "actions/cache" in item.get("uses", ""))
    assert fetch["path"] == keep["path"] == BASELINES.as_posix()
    assert keep["key"].startswith(fetch["restore-keys"])
