"""Names lead to methods and metrics without importing more than was asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.registry import METHODS, METRICS, Registry, require


class FakeDistribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"
        self.requires = [
            "numpy",
            "no-such-package>=2; extra == 'far-off'",
            "scipy; extra == 'far-off'",
            "scipy; extra == 'near'",
            f"{name}[far-off]; extra == 'near'",
        ]


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
        entry("needy", "broken_plugin:THING [far_off]", "alpha"),
        entry("content", "sound_plugin:THING [near]", "alpha"),
    ]
    monkeypatch.setattr("calibench.registry.entry_points", lambda group: points if group else [])
    return Registry("calibench.methods", "method")


def test_an_unknown_name_lists_the_choices_and_the_nearest(registry: Registry) -> None:
    """A typo is answered with what was probably meant."""
    with pytest.raises(
        UsageError, match=r"Unknown method 'sond'; did you mean 'sound'\? choose from broken,"
    ):
        registry.load("sond")


def test_what_is_lacking_is_said_with_what_installs_it(registry: Registry) -> None:
    """By the extras that an entry point names; `importlib.metadata` gives these without hyphens."""
    says = "needs no-such-package: pip install 'alpha[far-off]'"
    assert registry.lacks("needy") == says
    with pytest.raises(UsageError, match=re.escape(f"The method 'needy' {says}.")):
        registry.load("needy")
    assert registry.lacks("sound") is None
    assert registry.lacks("content") is None
    assert registry.load("content") == 1


def test_ours_are_looked_up_in_our_own_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every extra that a method names is one of calibench's, with packages; an absent one is asked for."""
    extras = {extra for name in METHODS.names() for extra in METHODS.entry_point(name).extras}
    assert {"baal", "peers", "torch_uncertainty", "laplace"} <= extras
    require("run", "calibench run")
    monkeypatch.setattr("calibench.registry._is_installed", lambda name: name not in ("torch", "datasets"))
    with pytest.raises(UsageError) as refused:
        require("run", "calibench run")
    assert str(refused.value) == (
        "calibench run needs datasets and torch, which this installation leaves out: "
        "pip install 'calibench[run]'."
    )
    monkeypatch.setattr("calibench.registry._is_installed", lambda _: False)
    for extra in extras:
        with pytest.raises(UsageError, match="pip install"):
            require(extra, "It")


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
    """Help and listings answer without torch, transformers or datasets, and methods without numpy."""
    program = (
        "import sys; from calibench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "heavy |= {'numpy'} & set(sys.modules) if sys.argv[-1] in ('--help', 'methods') else set()\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout
