"""Run folders kept under a name: whole copies, replaced whole, found or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main
from calibench.errors import UsageError
from calibench.store.baselines import find_baseline, save_baseline
from calibench.store.predictions import load_predictions
from calibench.store.records import load_records

RUN = Path(__file__).resolve().parents[2] / "results" / "embedded"


def test_a_baseline_is_the_run_and_replaces_the_one_before(tmp_path: Path) -> None:
    """Its records and predictions, without figures and reports; nothing is left of an earlier one."""
    first = tmp_path / "first"
    shutil.copytree(RUN, first)
    save_baseline(first, "main", tmp_path / "kept")
    saved = save_baseline(RUN, "main", tmp_path / "kept")
    assert load_records(saved) == load_records(RUN)
    for record in load_records(saved):
        assert (load_predictions(saved, record).probs == load_predictions(RUN, record).probs).all()
    assert sorted(path.name for path in saved.iterdir()) == ["predictions", "records.jsonl"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["main"]
    assert find_baseline("main", tmp_path / "kept") == saved


def test_what_is_no_baseline_is_refused(tmp_path: Path) -> None:
    """A name that is none, one that is not there, with the nearest, and none at all."""
    with pytest.raises(UsageError, match="is no name for a baseline"):
        save_baseline(RUN, "../main", tmp_path)
    with pytest.raises(UsageError, match="save one with --save-baseline main"):
        find_baseline("main", tmp_path)
    save_baseline(RUN, "main", tmp_path)
    with pytest.raises(UsageError, match="did you mean 'main'"):
        find_baseline("mian", tmp_path)
    with pytest.raises(UsageError, match="There is no baseline"):
        find_baseline("..", tmp_path)


def test_check_keeps_and_finds_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is kept with no limit, or with limits that hold; where one is broken the old one stays."""
    monkeypatch.chdir(tmp_path)
    run = str(RUN)
    kept = CliRunner().invoke(main, ["check", run, "--save-baseline", "main"])
    assert kept.exit_code == 0, kept.output
    limit = ["--max-regression", "accuracy=0.02"]
    held = CliRunner().invoke(main, ["check", run, "--baseline", "main", *limit, "--save-baseline", "next"])
    assert held.exit_code == 0, held.output
    assert find_baseline("next", tmp_path / ".calibench" / "baselines")
    broken = CliRunner().invoke(main, ["check", run, "--max", "nll=0.01", "--save-baseline", "worse"])
    assert broken.exit_code == 1
    assert not (tmp_path / ".calibench" / "baselines" / "worse").exists()
    both = CliRunner().invoke(main, ["check", run, "--baseline", "main", "--against", run, *limit])
    assert both.exit_code == 2
    assert "two bases" in both.output
