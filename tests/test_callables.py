"""`calibench.score`, `compare` and `run` are modules that can be called, and cost nothing before they are."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import calibench
from calibench.flows import library

#: What nobody should wait for who only imports calibench.
HEAVY = {"numpy", "scipy", "pandas", "pyarrow", "matplotlib", "torch", "transformers"}


def child(code: str) -> str:
    """What a new process prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "line",
    ["import calibench", "import calibench.score, calibench.compare", "import calibench; calibench.compare"],
)
def test_an_import_loads_nothing_heavy(line: str) -> None:
    """Not even numpy."""
    assert child(f"import sys\n{line}\nprint({HEAVY} & sys.modules.keys())") == "set()"


@pytest.mark.parametrize("name", ["score", "compare", "run"])
@pytest.mark.parametrize(
    "before",
    [
        "import calibench",
        "import calibench.score.scored, calibench.compare.gate, calibench.run",
        "from calibench.run import run; from calibench.score.scored import Wanted",
    ],
)
def test_what_was_imported_before_does_not_matter(name: str, before: str) -> None:
    """The module itself is what is called, so that nothing takes its place."""
    code = f"{before}\nimport calibench\nprint(callable(calibench.{name}), type(calibench.{name}).__name__)"
    assert child(code) == "True CallableModule"


@pytest.mark.parametrize("name", ["score", "compare", "run"])
def test_a_call_is_that_of_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its arguments, and with its signature for whoever asks."""
    module = getattr(calibench, name)
    assert inspect.signature(module) == inspect.signature(getattr(library, name))
    monkeypatch.setattr(library, name, lambda *args, **kwargs: (args, kwargs))
    assert module(1, two=2) == ((1,), {"two": 2})


def test_every_public_name_is_there() -> None:
    """Those that are imported when they are asked for too, and no others."""
    for name in calibench.__all__:
        assert getattr(calibench, name) is not None
        assert name in dir(calibench)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = calibench.scores  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_type_checker_sees_the_calls(tmp_path: Path) -> None:
    """And no module, whatever of it was imported before; the module's own names stay what they are.

    Of other packages it sees nothing, because it would read all of torch for that.
    """
    package = Path(calibench.__file__).parent
    assert (package / "py.typed").is_file()
    (tmp_path / "calibench").symlink_to(package)
    (tmp_path / "use.py").write_text(
        "import calibench as cb\n"
        "import calibench.score.scored\n"
        "from calibench.run import run\n"
        "reveal_type(cb.score([[0.5, 0.5]], [0]))\n"
        "reveal_type(cb.compare({}, [0]))\n"
        "reveal_type(cb.run('embedded'))\n"
        "cb.score([[0.5, 0.5]])\n"
        "run('embedded')\n"
    )
    words = [
        "--strict",
        "--follow-imports=silent",
        "--ignore-missing-imports",
        "--no-site-packages",
        "--cache-dir",
        "cache",
        "use.py",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout.count('note: Revealed type is "calibench.flows.results.Results"') == 3
    assert 'use.py:7: error: Missing positional argument "labels" in call to "score"' in result.stdout
    assert 'use.py:8: error: Missing positional argument "folder" in call to "run"' in result.stdout
