"""`new-plugin` writes a package that installs, and whose own tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main


@pytest.mark.slow
def test_its_tests_pass_once_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method is measured, the metric is there, the loader brings its texts: as they stand."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["new-plugin", "my-smoothing"])
    assert done.exit_code == 0, done.output
    assert "my-smoothing/my_smoothing/loader.py" in done.output
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", "site", "./my-smoothing"], check=True, capture_output=True)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my-smoothing/tests"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "2 passed" in tested.stdout


@pytest.mark.parametrize("name", ["My-Method", "my_method", "-m", "my--method", "../elsewhere", ""])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["new-plugin", "--", name])
    assert done.exit_code == 2
    assert "is no name for a package" in done.output
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name is nobody's to write into."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    done = CliRunner().invoke(main, ["new-plugin", "mine"])
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert not list((tmp_path / "mine").iterdir())
