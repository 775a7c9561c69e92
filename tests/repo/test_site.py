"""The pages of the site: their commands run, and their numbers and names are those of results and code."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner

import calibench.data
import scored_files
from calibench.cli import main
from calibench.data.embedded import load
from calibench.store.records import load_records
from documents import ROOT, commands, faults, grids, quotations

DOCS = ROOT / "docs"
PAGES = ("index", "quickstart", "which-method", "figures", "faq", "glossary", "plugins", "api")
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}
QUICKSTART = TEXTS["quickstart"]
#: Proven by tests/repo/test_extras.py, and by the test of completion below.
APART = ("pip ", "eval ")
COMMANDS = [command for text in TEXTS.values() for command in commands(text) if not command.startswith(APART)]
#: Numbers of definitions and of what was asked for; what was measured stands in tables and quotations.
GIVEN = {"0", "1", "2", "15", "80%", "90%", "95%", "150"}


@pytest.mark.parametrize("page", PAGES)
def test_tables_and_quotations_are_those_of_results(page: str) -> None:
    """Of a record to the last digit, or of a committed page word for word."""
    assert faults(TEXTS[page]) == []


def test_the_pages_have_numbers() -> None:
    """The test above is not about nothing."""
    rows = [row for text in TEXTS.values() for grid in grids(text) if grid.source for row in grid.rows]
    assert len(rows) >= 40
    assert sum(len(quotations(text)) for text in TEXTS.values()) >= 2


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (".0242 [.000", ".0243 [.000", "ECE of temperature in results/sst2 is .0242"),
        ("| 5 - 3 - 2 |", "| 6 - 2 - 2 |", "results/sweep/leaderboard.md has no row of vector"),
        ("> Nothing that", "> Something that", "results/sst2/report.md does not say: Something that takes"),
    ],
)
def test_another_number_is_seen(old: str, new: str, fault: str) -> None:
    """In a table of records, in one of a page, and in a quotation."""
    text = TEXTS["which-method"]
    assert text.count(old) == 1
    (found,) = faults(text.replace(old, new))
    assert found.startswith(fault)


def prose(text: str) -> str:
    """A page without code, tables, quotations and the targets of links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?:\||>|<!--|#).*", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|^\d\. ", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_no_number_stands_where_nothing_looks_at_it(page: str) -> None:
    """In prose, in a table that does not say where it is from, or in one that is indented."""
    text = TEXTS[page]
    numbers = re.findall(r"(?<![\w-])\.?\d[\d.,]*%?", prose(text))
    assert {number.rstrip(".,") for number in numbers} <= GIVEN
    assert not re.search(r"^[ \t]+[|>]", text, re.MULTILINE)
    unnamed = [cell for grid in grids(text) if not grid.source for row in grid.rows for cell in row]
    assert not re.search(r"\d", " ".join(unnamed))


def test_the_sizes_in_prose_are_those_of_the_data() -> None:
    """Ten tasks with 2 to 150 classes, and the 150 intents."""
    board = (ROOT / "results" / "sweep" / "leaderboard.md").read_text(encoding="utf-8")
    (tasks,) = [grid for grid in grids(board) if {"split", "classes"} <= set(grid.head)]
    classes = [int(row[tasks.head.index("classes")]) for row in tasks.rows]
    assert "ten tasks](../results/sweep/leaderboard.md) with 2 to 150 classes" in TEXTS["which-method"]
    assert (len(classes), min(classes), max(classes)) == (10, 2, 150)
    assert len(load_records(ROOT / "results" / "clinc-oos")[0]["data"]["labels"]) == 150


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    scored_files.write(tmp_path)
    sure = scored_files.table(2000, scale=2.0)
    pa.csv.write_csv(sure.drop_columns(["region", "part", "usd"]), "predictions.csv")
    pa.csv.write_csv(scored_files.table(scale=2.0), "parts.csv")
    probs, labels = scored_files.predictions(classes=2)
    pa.csv.write_csv(pa.table({"label": labels, "p_spam": probs[:, 1]}), "spam.csv")
    corpus = load(None, split="validation")
    rows = zip(corpus.texts[:60], corpus.labels[:60], strict=True)
    texts = [f'"{text}",{corpus.label_names[label]}' for text, label in rows]
    (tmp_path / "reviews.csv").write_text("\n".join([shown("text,label"), *texts, ""]))
    shutil.copytree(Path(calibench.data.__path__[0]) / "assets" / "checkpoint", "my-model")
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def shown(head: str) -> str:
    """The beginning of a file, as the quick start shows it."""
    block = re.search(rf"```text\n({head}.*?)\n```", QUICKSTART, re.DOTALL)
    assert block is not None
    return block[1]


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_commands_run() -> None:
    """Page after page, as they are written; a run on few texts, and with the output that is shown."""
    for command in dict.fromkeys(COMMANDS):
        program, *words = shlex.split(command)
        assert program == "calibench"
        small = ["-L", "40", "--passes", "2", "--fast"] if words[0] == "run" else []
        result = CliRunner().invoke(main, [*words, *small])
        assert result.exit_code == 0, (command, result.output)
        assert result.output.strip()
        for output in re.findall(rf"\$ {re.escape(command)}\n(.*?)```", "".join(TEXTS.values()), re.DOTALL):
            assert [line.rstrip() for line in result.output.splitlines()] == output.splitlines()


def test_every_page_has_a_place() -> None:
    """In the contents of the site; a page without one would fail its build."""
    contents = (DOCS / "_toc.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"(?:file|root): ((?:docs|results)/\S+)", contents)) - {"results/README"}
    pages = [*DOCS.glob("*.md"), *DOCS.glob("*.ipynb"), *(ROOT / "results").glob("*/*.md")]
    assert listed == {path.relative_to(ROOT).with_suffix("").as_posix() for path in pages}


def test_there_are_enough_commands() -> None:
    """The pages show how."""
    assert len(set(COMMANDS)) >= 15


def test_the_file_of_predictions_is_the_one_that_is_shown(workplace: Path) -> None:
    """Its head and its first row."""
    lines = (workplace / "predictions.csv").read_text().replace('"', "").splitlines()
    assert lines[:2] == shown("id,label").splitlines()


def test_the_code_draws_the_figure(workplace: Path) -> None:
    """Which no committed page has."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXTS["figures"], re.DOTALL)
    exec(code, {})
    assert (workplace / "risk-coverage.png").stat().st_size > 10_000


def test_every_name_in_the_glossary_is_there() -> None:
    """Functions, classes, metrics and modules that it says compute a thing."""
    names = re.findall(r"`(calibench\.[\w.]+)`", TEXTS["glossary"])
    assert len(names) >= 30
    for name in names:
        module, _, attribute = name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(name)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_shell_completes(tmp_path: Path) -> None:
    """After the line of the quick start, in bash; and there is a script for each shell that is named."""
    (line,) = [command for command in commands(QUICKSTART) if command.startswith("eval ")]
    called = "from calibench.cli import main; main(prog_name='calibench')"
    (tmp_path / "calibench").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{called}" "$@"\n')
    (tmp_path / "calibench").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    tab = "COMP_WORDS=(calibench sco); COMP_CWORD=1; _calibench_completion calibench; echo ${COMPREPLY[@]}"
    result = subprocess.run(["bash", "-c", f"{line}; {tab}"], env=env, capture_output=True, text=True)
    assert result.stdout.split() == ["score"], result.stderr
    for shell in re.findall(r"`(\w+)_source`", QUICKSTART):
        asked = {**env, "_CALIBENCH_COMPLETE": f"{shell}_source"}
        made = subprocess.run(["calibench"], env=asked, capture_output=True, text=True)
        assert f"{shell}_complete" in made.stdout
