"""Suite files are read strictly, and the command line changes them as it says."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from calibench.errors import UsageError
from calibench.method import bind
from calibench.registry import METHODS
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.suites.cells import cells_of
from calibench.suites.loader import load_suite, parse_suite, suite_names
from calibench.suites.overrides import Overrides, override
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


def test_methods_keep_the_parameters_the_suite_gives_them() -> None:
    """--method selects among the suite's methods and adds others."""
    suite = parse_suite(MINIMAL + "[[method]]\nname = 'mc-dropout'\nparams = {passes = 7}\n", "x")
    chosen = override(suite, Overrides(methods=["mc-dropout", "mc-dropout-baal"]))
    cells = {cell.name: cell.params for cell in cells_of(chosen)}
    assert cells["mc-dropout"]["passes"] == 7
    assert cells["mc-dropout-baal"]["passes"] == suite.passes
    assert "frequentist" in cells  # the reference is measured even where it was not asked for


def test_passes_from_the_command_line_stand_above_the_suite() -> None:
    """--passes holds for every method."""
    suite = parse_suite(MINIMAL + "[[method]]\nname = 'mc-dropout'\nparams = {passes = 7}\n", "x")
    cells = cells_of(override(suite, Overrides(passes=3)))
    assert [cell.params.get("passes") for cell in cells] == [None, 3]


def test_method_arguments() -> None:
    """METHOD.key=value reaches its method; key=value needs exactly one."""
    suite = load_suite("embedded")
    cells = cells_of(override(suite, Overrides(method_args=["mc-dropout.passes=5"])))
    assert {cell.name: cell.params["passes"] for cell in cells if cell.name == "mc-dropout"} == {
        "mc-dropout": 5
    }
    one = override(suite, Overrides(methods=["mc-dropout"], method_args=["passes=5"]))
    assert cells_of(one)[-1].params["passes"] == 5


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("passes=5", r"names no method, and \d are run"),
        ("passes", "is not METHOD.key=value"),
        ("deep-ensemble.members=a", "which is not run; choose from frequentist"),
    ],
)
def test_bad_method_arguments(argument: str, message: str) -> None:
    """A method argument that reaches nothing is refused."""
    with pytest.raises(UsageError, match=message):
        override(load_suite("embedded"), Overrides(method_args=[argument]))


def test_effort_changes_timing_only() -> None:
    """--fast and --rigorous change neither examples nor passes."""
    suite = load_suite("sst2")
    fast, rigorous = (override(suite, Overrides(effort=effort)) for effort in ("fast", "rigorous"))
    assert (fast.data, fast.method, fast.passes) == (suite.data, suite.method, suite.passes)
    assert fast.timing.blocks == suite.timing.blocks == rigorous.timing.blocks
    assert fast.timing.latency < suite.timing.latency < rigorous.timing.latency


def test_another_data_set_drops_what_belongs_to_the_suites_own() -> None:
    """--dataset keeps neither revision nor columns of the data set it replaces."""
    data = override(load_suite("sst2"), Overrides(dataset="somewhere")).data
    assert (data.name, data.config, data.revision, data.text, data.label) == (
        "somewhere",
        None,
        None,
        (),
        None,
    )
    assert data.split == "validation"
    assert override(load_suite("embedded"), Overrides(dataset="somewhere")).data.loader == "huggingface"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pases": 3}, "has no parameter 'pases'; choose from passes"),
        ({"passes": "three"}, "mc-dropout.passes is 'three'; expected a whole number"),
        ({"passes": 2.5}, "expected a whole number"),
        ({"passes": True}, "expected a whole number"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    """A parameter the method does not have, or of another type, is refused by name."""
    with pytest.raises(UsageError, match=message):
        bind("mc-dropout", METHODS.load("mc-dropout"), given)


def test_cell_keys_change_with_what_is_measured() -> None:
    """Parameters, seed and context are in the key; nothing else is."""
    first, second = cells_of(
        override(load_suite("embedded"), Overrides(methods=["frequentist", "mc-dropout"]))
    )
    third = cells_of(override(load_suite("embedded"), Overrides(methods=["mc-dropout"], passes=2)))[-1]
    context = {"data": "a"}
    keys = {first.key(context), second.key(context), third.key(context), second.key({"data": "b"})}
    assert len(keys) == 4
    assert second.key(context) == second.key(dict(context))


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


def test_a_suite_without_a_model_asks_for_one(tmp_path: Path) -> None:
    """Nothing is loaded, and nothing written, before the user is told to pass --model."""
    with pytest.raises(UsageError, match="'clinc-oos' comes without a model; pass --model with a hub id or"):
        run(load_suite("clinc-oos"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.shared
def test_the_local_copy_of_clinc_runs(tmp_path: Path, shared: Path) -> None:
    """Labels are matched by name, and rows of the label declared out of scope are kept apart."""
    given = Overrides(
        dataset=str(shared / "data" / "clinc_oos"),
        model=str(shared / "models" / "clinc-minilm"),
        methods=["frequentist"],
        effort="fast",
        limit=60,
    )
    suite = override(load_suite("clinc-oos"), given)
    (record,) = run(replace(suite, timing=replace(suite.timing, memory=False)), tmp_path)
    assert (record["status"], record["data"]["n"], len(record["data"]["labels"])) == ("ok", 60, 150)
    labels = load_predictions(tmp_path, record).label
    assert record["data"]["out_of_scope"] == (labels < 0).sum() > 0
