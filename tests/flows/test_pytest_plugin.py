"""The fixture of pytest: there for everyone, at no cost for those who do not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import calibench as cb
import scored_files

HEAVY = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "torch",
    "transformers",
    "calibench.flows.library",
)
USE = """
import sys


def test_before():
    assert "calibench.flows.pytest_plugin" in sys.modules
    assert {heavy!r} & sys.modules.keys() == set()


def test_with_it(calibration):
    calibration.assert_calibrated([[0.5, 0.5]] * 4000, [0, 1] * 1990 + [1] * 20, ece=0.05)


def test_undecided(calibration):
    calibration.assert_calibrated([[0.5, 0.5]] * 40, [0, 1] * 19 + [1] * 2, ece=0.05)


def test_that_fails(calibration):
    calibration.assert_calibrated([[0.9, 0.1]] * 4000, [0, 1] * 2000, ece=0.05)
"""


def test_the_fixture_is_the_assertions(calibration: ModuleType) -> None:
    """Registered with the package, which is what makes it appear here."""
    assert calibration.assert_calibrated is cb.assert_calibrated
    assert calibration.assert_no_worse is cb.assert_no_worse
    probs, labels = scored_files.predictions(2000)
    calibration.assert_calibrated(probs, labels)
    (point,) = entry_points(group="pytest11", name="calibench")
    assert point.value == "calibench.flows.pytest_plugin"


def test_loading_it_costs_nothing(tmp_path: Path) -> None:
    """In a project of its own: nothing is imported before the fixture is used, and failures are short."""
    (tmp_path / "test_use.py").write_text(USE.format(heavy=set(HEAVY)))
    words = ["-q", "-p", "calibench.flows.pytest_plugin", "-p", "no:cacheprovider", "-rA"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "test_use.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert "1 failed, 3 passed, 1 warning" in result.stdout, result.stdout
    assert "Undecided: ECE is" in result.stdout
    assert "AssertionError: ECE is .4000" in result.stdout
    assert "def _hold" not in result.stdout
    assert "assertions.py:" not in result.stdout
