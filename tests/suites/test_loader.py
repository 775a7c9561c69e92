"""Suite files are read strictly, and the documented one is one."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from calibench.errors import UsageError
from calibench.suites.cells import cells_of
from calibench.suites.loader import load_suite, parse_suite, suite_names, suite_of, table_of
from calibench.suites.spec import (
    CalibrationSpec,
    DataSpec,
    MethodSpec,
    ModelSpec,
    ShiftSpec,
    Suite,
    TimingSpec,
    YardstickSpec,
)

MINIMAL = '[[method]]\nname = "frequentist"\n'


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_travels_as_json(name: str) -> None:
    """As a table it is made of again, to the last field; a parameter that is none stays one."""
    suite = load_suite(name)
    assert suite_of(json.loads(json.dumps(table_of(suite))), "another name") == suite
    given = replace(suite, method=(MethodSpec("mc-dropout", {"passes": None}),))
    assert suite_of(json.loads(json.dumps(table_of(given))), "x").method[0].params == {"passes": None}


@pytest.mark.parametrize("name", suite_names())
def test_built_in_suites_parse_and_bind(name: str) -> None:
    """Every suite we ship names methods that exist, with parameters that they have."""
    cells = cells_of(load_suite(name))
    assert sum(cell.reference for cell in cells) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pases = 3\n" + MINIMAL, "Unknown key 'pases' in the suite 'x'; did you mean 'passes'"),
        ('passes = "3"\n' + MINIMAL, "passes in the suite 'x' is '3'; expected a whole number"),
        ("passes = true\n" + MINIMAL, "expected a whole number"),
        ("passes = 0\n" + MINIMAL, "passes is 0 .* expected 1 or more"),
        ("[timing]\ntimeout_per_block = 0\n" + MINIMAL, "timeout_per_block is 0 .* seconds above 0"),
        ("seeds = []\n" + MINIMAL, "seeds is empty"),
        ("seeds = [0.5]\n" + MINIMAL, "seeds in the suite 'x' is 0.5"),
        (
            "[data]\nsplits = 'test'\n" + MINIMAL,
            "Unknown key 'splits' in data in the suite 'x'; did you mean",
        ),
        ("data = 3\n" + MINIMAL, "data in the suite 'x' is 3; expected a table"),
        ("method = 3\n", "expected a list"),
        ("[[method]]\npasses = 3\nname = 'mc-dropout'\n", r"parameters go under \[method.params\]"),
        ("[[method]]\nparams = {passes = 3}\n", "has no name"),
        ("passes = 3\n", "names no method"),
        ("passes = \n", "not valid TOML"),
    ],
)
def test_a_bad_suite_is_refused_in_one_sentence(text: str, message: str) -> None:
    """What is wrong in a suite file is named with what was expected."""
    with pytest.raises(UsageError, match=message):
        parse_suite(text, "x")


def test_unknown_suites_and_missing_files(tmp_path: Path) -> None:
    """A name that is no suite lists the suites; a file that cannot be read says so."""
    with pytest.raises(UsageError, match=r"Unknown suite 'sst'; did you mean 'sst2'\? choose from clinc-oos"):
        load_suite("sst")
    with pytest.raises(UsageError, match="No such file or directory"):
        load_suite(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_suite(str(tmp_path / "binary.toml"))


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    """A suite file without a name gets its file's."""
    (tmp_path / "mine.toml").write_text(MINIMAL)
    assert load_suite(str(tmp_path / "mine.toml")).name == "mine"


def test_the_documented_suite_is_one() -> None:
    """docs/suites.md shows every key a suite has, and no other."""
    text = (Path(__file__).parents[2] / "docs" / "suites.md").read_text(encoding="utf-8")
    block = text.split("```toml\n")[1].split("```")[0]
    parse_suite(block, "documented")
    for kind in (
        Suite,
        DataSpec,
        ModelSpec,
        MethodSpec,
        CalibrationSpec,
        ShiftSpec,
        TimingSpec,
        YardstickSpec,
    ):
        for key in (item.name for item in fields(kind)):
            assert re.search(rf"^\[*{key}\b", block, re.MULTILINE), key
