"""Names lead to methods and metrics without importing more than was asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.registry import METHODS, METRICS, Registry


class FakeDistribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"


def entry(name: str, value: str, distribution: str) -> EntryPoint:
    point = EntryPoint(name, value, "calibench.methods")
    vars(point).update(dist=FakeDistribution(distribution))
    return point


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    """Three distributions: one sound, one that breaks on import, and one that takes a name that is taken."""
    (tmp_path / "sound_plugin.py").write_text('"""Sound in every way."""\nTHING = 1\n')
    (tmp_path / "broken_plugin.py").write_text('"""Would be fine."""\nraise RuntimeError("no such GPU")\n')
    (tmp_path / "leaving_plugin.py").write_text('print("goodbye")\nraise SystemExit(0)\n')
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        entry("sound", "sound_plugin:THING", "alpha"),
        entry("broken", "broken_plugin:THING", "beta"),
        entry("leaving", "leaving_plugin:THING", "beta"),
        entry("twice", "sound_plugin:THING", "alpha"),
        entry("twice", "sound_plugin:THING", "gamma"),
    ]
    monkeypatch.setattr("calibench.registry.entry_points", lambda group: points if group else [])
    return Registry("calibench.methods", "method")


def test_an_unknown_name_lists_the_choices_and_the_nearest(registry: Registry) -> None:
    """A typo is answered with what was probably meant."""
    with pytest.raises(
        UsageError, match=r"Unknown method 'sond'; did you mean 'sound'\? choose from broken,"
    ):
        registry.load("sond")


def test_a_name_registered_twice_names_both_distributions(registry: Registry) -> None:
    """Two plugins under one name are an error that says whose they are."""
    with pytest.raises(UsageError, match=r"'twice' is registered by both alpha 1\.0 and gamma 1\.0"):
        registry.load("twice")


def test_a_plugin_that_exits_on_import_is_reported_too(
    registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its SystemExit ends nothing, and what it prints is not on standard output."""
    with pytest.raises(CalibenchError, match=r"'leaving' from beta 1\.0 failed to import .*SystemExit\(0\)"):
        registry.load("leaving")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "goodbye\n")


def test_a_plugin_that_fails_to_import_is_reported_by_name(registry: Registry) -> None:
    """The error names the plugin, its distribution and what it raised."""
    with pytest.raises(
        CalibenchError, match=r"'broken' from beta 1\.0 failed to import \(RuntimeError: no such"
    ):
        registry.load("broken")


def test_a_broken_plugin_does_not_take_the_listing_down(registry: Registry) -> None:
    """Listing reads docstrings without importing, so that even a broken plugin is described."""
    assert [registry.summary(name) for name in ("broken", "sound")] == [
        "Would be fine.",
        "Sound in every way.",
    ]
    assert "registered by both" in registry.summary("twice")
    assert "broken_plugin" not in sys.modules


def test_the_same_distribution_found_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install may be found by two path entries and is no conflict."""
    points = [entry("sound", "json:loads", "alpha"), entry("sound", "json:loads", "alpha")]
    monkeypatch.setattr("calibench.registry.entry_points", lambda group: points if group else [])
    assert Registry("calibench.methods", "method").load("sound") is not None


def test_every_built_in_loads_and_is_described() -> None:
    """Each built-in method is a Method with a one-line description, and each metric bears its own name."""
    from calibench import Method

    for name in METHODS.names():
        assert issubclass(METHODS.load(name), Method)
        assert METHODS.summary(name).endswith(".")
    for name in METRICS.names():
        assert METRICS.load(name).name == name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ls", "methods"], ["ls", "metrics"], ["ls", "posthoc"], ["ls", "suites"]]
)
def test_listing_imports_no_torch(arguments: list[str]) -> None:
    """Help and listings answer without importing torch, transformers or datasets."""
    program = (
        "import sys; from calibench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout
