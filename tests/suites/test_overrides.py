"""What the command line changes, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from calibench.errors import UsageError
from calibench.suites.cells import cells_of
from calibench.suites.loader import load_suite, parse_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import TrainSpec


def test_the_command_line_names_split_and_limit() -> None:
    """--train-split and --train-limit override the suite's."""
    base = load_suite("embedded")
    changed = override(base, Overrides(train_split="more", train_limit=7))
    assert (base.train, changed.train) == (TrainSpec(), TrainSpec("more", 7))


MINIMAL = '[[method]]\nname = "frequentist"\n'


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


def test_a_limit_for_methods_that_hang_is_none_unless_asked_for() -> None:
    """--timeout-per-block overrides the suite's, which has none; nothing else of the timing changes."""
    suite = load_suite("embedded")
    assert suite.timing.timeout_per_block is None
    changed = override(suite, Overrides(timeout_per_block=2.5)).timing
    assert changed == replace(suite.timing, timeout_per_block=2.5)
    text = '[timing]\ntimeout_per_block = 3\n[[method]]\nname = "frequentist"\n'
    assert override(parse_suite(text, "x"), Overrides()).timing.timeout_per_block == 3.0


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


def test_a_file_has_none_of_the_suites_splits(tmp_path: Path) -> None:
    """A folder may have them, and is asked for them; a file is all of one split."""
    file = tmp_path / "own.csv"
    file.write_text("text,label\na film,0\n")
    clinc = load_suite("clinc-oos")
    assert (clinc.data.split, clinc.data.threshold_split) == ("test", "validation")
    own = override(clinc, Overrides(dataset=str(file))).data
    assert (own.split, own.threshold_split) == (None, None)
    folder = override(clinc, Overrides(dataset=str(tmp_path))).data
    assert (folder.split, folder.threshold_split) == ("test", "validation")
    assert override(clinc, Overrides(dataset=str(file), split="train")).data.split == "train"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a=0,b=1"], {"a": "0", "b": "1"}),
        (["a=0", "b=1"], {"a": "0", "b": "1"}),
        (["a,b=0,c=1"], {"a,b": "0", "c": "1"}),
        (["c=x,y,b=1"], {"c": "x,y", "b": "1"}),
        (["a=b=0"], {"a=b": "0"}),
        (["-1=0, 1 = pos"], {"-1": "0", " 1 ": "pos"}),
        (["3="], {"3": ""}),
    ],
)
def test_a_label_map_is_pairs(given: list[str], found: dict[str, str]) -> None:
    """A comma is part of a value or an output where no pair ends, an equals sign of a value."""
    data = override(load_suite("embedded"), Overrides(dataset="x", label_map=given)).data
    assert data.label_map == found


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a=0,=1"], ["a=0", "a=1"], ["a,b"]])
def test_what_is_no_pair_is_refused(given: list[str]) -> None:
    """And one value for two outputs."""
    with pytest.raises(UsageError, match=r"^--label-map "):
        override(load_suite("embedded"), Overrides(dataset="x", label_map=given))
