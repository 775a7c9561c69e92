"""docs/library.md and docs/notebook.ipynb: their code runs and gives the output that stands below it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "library.md").read_text(encoding="utf-8")
#: Code, and the output below it, where some is shown.
BLOCKS: list[tuple[str, str]] = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)
SCRIPT = [(code, output) for code, output in BLOCKS if "def test_" not in code]
TESTS = [code for code, _ in BLOCKS if "def test_" in code]


def executed(code: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What code prints, and the value of the expression that it ends with, as a notebook shows them."""
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    return printed.getvalue(), value


@pytest.mark.slow
def test_the_page_gives_the_output_that_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block, as a reader would run them, to the last digit."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert len(SCRIPT) >= 8
    for code, output in SCRIPT:
        printed, _ = executed(code, names)
        assert printed == output or not output, code
        assert printed or "print(" not in code


def test_the_tests_of_the_page_pass_where_calibench_is_installed(tmp_path: Path) -> None:
    """In a process of their own, with nothing but the fixture that comes with the package."""
    assert TESTS
    for number, code in enumerate(TESTS):
        (tmp_path / f"test_{number}.py").write_text(code)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(TESTS)} passed" in result.stdout


@pytest.mark.slow
def test_the_notebook_gives_the_output_that_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cells print, and the tables that their last lines show; figures are there and not compared."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            printed, value = executed("".join(cell["source"]), names)
            streams = [item for item in cell["outputs"] if item["output_type"] == "stream"]
            assert printed == "".join(text for item in streams for text in item["text"])
            data = [item["data"] for item in cell["outputs"] if item["output_type"] == "execute_result"]
            assert len(data) == (value is not None)
            shown += [(kind, "".join(kept), value) for kinds in data for kind, kept in kinds.items()]
    for kind, kept, value in shown:
        if kind == "text/html":
            assert value._repr_html_() == kept
        elif kind == "image/png":
            assert value._repr_png_().startswith(b"\x89PNG")
    assert {kind for kind, _, _ in shown} == {"text/html", "text/plain", "image/png"}
    assert "/" + "tmp" not in json.dumps(cells)
