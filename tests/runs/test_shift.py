"""Data that drifted: whole runs on corruptions and on other data sets, and what reports show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oos_data
from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.posthoc import log_of
from calibench.registry import METHODS
from calibench.report import sections, write_html, write_report
from calibench.report.drawing import style
from calibench.report.parts.shifts import shift_drawings, shift_matrix, shift_table
from calibench.report.writing.numbers import interval
from calibench.report.writing.reproduce import command
from calibench.run import run
from calibench.store.records import Record
from calibench.suites.loader import load_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import MethodSpec, ShiftSpec, Suite
from calibench.types import Plan, Predictive

# --- whole runs --------------------------------------------------------------------------------------------

SHIFT = ShiftSpec(("typos", "truncate"), (0.5, 0.2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oos_data.write(tmp_path_factory.mktemp("data") / "beyond")


def suite(data: Path, *methods: str, shift: ShiftSpec = SHIFT) -> Suite:
    """Without a threshold; texts out of scope are there and are no part of it."""
    made = oos_data.suite(data, *methods)
    return replace(made, data=replace(made.data, threshold_split=None), shift=shift)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """Two methods, with and without temperature, on two corruptions and another data set."""
    other = tmp_path_factory.mktemp("other") / "elsewhere.jsonl"
    rows = [{"text": "a very good film", "label": "positive"}, {"text": "a dull plot", "label": "negative"}]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    folder = tmp_path_factory.mktemp("run")
    shift = replace(SHIFT, also=(str(other),))
    made = replace(suite(data, "frequentist", "mc-dropout", shift=shift), posthoc=("temperature",))
    return folder, run(made, folder)


def test_a_record_has_every_shift(finished: tuple[Path, list[Record]]) -> None:
    """Corruptions at rising strengths, then other data, with numbers and intervals for every row."""
    for record in finished[1]:
        shifts = record["shifts"]
        assert [(s["kind"], s["strength"], s["n"]) for s in shifts] == [
            ("typos", 0.2, 90),
            ("typos", 0.5, 90),
            ("truncate", 0.2, 90),
            ("truncate", 0.5, 90),
            ("also", None, 20),
        ]
        assert shifts[0]["changed"] <= shifts[1]["changed"]
        assert (shifts[4]["name"], shifts[4]["changed"]) == ("elsewhere.jsonl", None)
        for item in shifts:
            assert set(item["metrics"]) == {"accuracy", "ece", "ece_noise_floor", "nll", "brier"}
            for value in item["metrics"].values():
                if value["low"] is None:
                    # Of 20 texts there may be too few errors.
                    assert (item["kind"], value["high"]) == ("also", None)
                    assert value["reason"]
                else:
                    assert value["low"] <= value["value"] <= value["high"]
            assert item["reason"] is None
        assert record["metrics"]["accuracy"]["value"] > shifts[1]["metrics"]["accuracy"]["value"]


def test_it_is_not_timed(finished: tuple[Path, list[Record]]) -> None:
    """Blocks hold the scored texts once."""
    for record in finished[1]:
        assert sum(block["sentences"] for block in record["timing"]["blocks"]) == 130


class Watched(Method):
    """The reference, taking note of what it is asked for."""

    seen: tuple[list[str], ...] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.inner = METHODS.load("frequentist")(checkpoint)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        type(self).seen += ([str(text) for text in plan.texts],)
        if any("fail" in str(text) for text in plan.texts):
            raise RuntimeError("told to")
        found: Predictive = self.inner.predict(plan, seed=seed)
        return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    load, point = METHODS.load, METHODS.entry_point
    monkeypatch.setattr(METHODS, "load", lambda name: Watched if name == "watched" else load(name))
    monkeypatch.setattr(
        METHODS, "entry_point", lambda name: point("frequentist" if name == "watched" else name)
    )
    monkeypatch.setattr(Watched, "seen", ())
    return Watched


def test_more_is_measured_only_where_it_lacks(data: Path, tmp_path: Path, watched: type[Watched]) -> None:
    """The same command again predicts nothing; another strength does, and replaces the record."""
    made = suite(data, "watched", shift=ShiftSpec(("case",), (0.5,)))
    first = run(made, tmp_path)
    count = len(watched.seen)
    assert run(made, tmp_path) == first
    assert len(watched.seen) == count
    wider = replace(made, shift=ShiftSpec(("case",), (0.5, 1.0)))
    again = run(wider, tmp_path)
    assert [s["strength"] for s in again[1]["shifts"]] == [0.5, 1.0]
    assert [r["cell"] for r in again] == [r["cell"] for r in first]
    assert sum("SWAP" in text or text.isupper() for text in watched.seen[-1]) > 0


def test_failing_there_costs_these_numbers_only(data: Path, tmp_path: Path, watched: type[Watched]) -> None:
    """The record says why, and has all the rest."""
    assert watched is Watched
    other = tmp_path / "other.csv"
    other.write_text("text,label\nplease fail,positive\n")
    record = run(suite(data, "watched", shift=ShiftSpec(also=(str(other),))), tmp_path / "run")[1]
    assert record["status"] == "ok"
    (item,) = record["shifts"]
    assert (item["metrics"], item["reason"]) == (
        None,
        "it failed on also other.csv, split train: told to",
    )


def test_post_hoc_steps_keep_their_folds(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrupted texts go through the fit that did not see their label, others through the mean of all."""
    from calibench.score.steps import FittedStep

    asked: list[Any] = []
    plain = FittedStep.on_other

    def noted(self: FittedStep, probs: np.ndarray, of: np.ndarray | None) -> np.ndarray:
        found = plain(self, probs, of)
        every = [calibrator.transform(log_of(probs)) for calibrator in self.calibrators]
        if of is None:
            np.testing.assert_allclose(found, np.mean(every, axis=0))
        else:
            assert self.fold is not None
            for row, scored in enumerate(of):
                np.testing.assert_array_equal(found[row], every[self.fold[scored]][row])
        asked.append(of is None)
        return found

    monkeypatch.setattr(FittedStep, "on_other", noted)
    other = tmp_path / "other.csv"
    other.write_text("text,label\na good film,positive\na dull plot,negative\n")
    run(suite(data, "temperature", shift=replace(SHIFT, also=(str(other),))), tmp_path / "run")
    assert asked == [False] * 4 + [True]


# --- asking for it -----------------------------------------------------------------------------------------


def test_the_command_line_asks_for_it() -> None:
    """Each option replaces the suite's own."""
    plain = load_suite("embedded")
    given = override(plain, Overrides(shift=["typos"], shift_strengths="0.1,1", also=["there"]))
    assert given.shift == ShiftSpec(("typos",), (0.1, 1.0), ("there",))
    assert override(plain, Overrides()).shift == plain.shift == ShiftSpec()


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (ShiftSpec(("typo",)), "Unknown shift 'typo'; did you mean 'typos'. choose from typos, drop-words"),
        (
            ShiftSpec(("typos",), (0.1, 1.5)),
            "A shift has strength 1.5; expected a number above 0",
        ),
        (ShiftSpec(("typos",), (0.0,)), "A shift has strength 0; expected"),
        (ShiftSpec(("typos",), ()), "A shift was asked for and no strength"),
    ],
)
def test_unknown_shifts_are_refused(tmp_path: Path, shift: ShiftSpec, message: str) -> None:
    """Before anything is loaded."""
    chosen = replace(load_suite("embedded"), shift=shift, method=(MethodSpec("frequentist"),))
    with pytest.raises(UsageError, match=message):
        run(chosen, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Overrides(shift_strengths="0.1"), "nothing is; add --shift NAME"),
        (
            Overrides(shift=["typos"], shift_strengths="a,b"),
            "'a,b' is not a list of numbers, such as",
        ),
    ],
)
def test_bad_strengths_are_refused(given: Overrides, message: str) -> None:
    """In one sentence."""
    with pytest.raises(UsageError, match=message):
        override(load_suite("embedded"), given)


# --- reports -----------------------------------------------------------------------------------------------


def test_the_report_shows_it(finished: tuple[Path, list[Record]]) -> None:
    """A row per method and shift, a figure per corruption that starts at the scored data, and the command."""
    folder, records = finished
    (section,) = sections.sections(records)
    table = shift_table(section)
    assert table is not None
    assert len(table.rows) == 4 * 5
    first = records[0]["shifts"][0]["metrics"]
    assert [cell.text for cell in table.rows[0].cells[:2]] == ["typos", ".2"]
    assert [cell.text for cell in table.rows[0].cells[3:]] == [
        interval(first[name]) for name in ("accuracy", "ece", "ece_noise_floor", "nll", "brier")
    ]
    assert table.rows[4].cells[0].text == "elsewhere.jsonl"
    matrix = shift_matrix(section)
    assert matrix is not None
    assert [column.title for column in matrix.columns][:3] == ["As scored", "typos .2", "typos .5"]
    assert [cell.text for cell in matrix.rows[0].cells[:2]] == [
        interval(records[0]["metrics"]["nll"]),
        interval(first["nll"]),
    ]
    assert len(matrix.rows) == 4
    with style.styled():
        drawings = shift_drawings(section)
    assert [drawing.name for drawing in drawings] == ["embedded-shift-typos", "embedded-shift-truncate"]
    line = drawings[0].figure.axes[1].lines[0]
    shifts = records[0]["shifts"]
    assert list(np.asarray(line.get_ydata())) == [
        records[0]["metrics"]["ece"]["value"],
        *(shifts[i]["metrics"]["ece"]["value"] for i in (0, 1)),
    ]
    np.testing.assert_allclose(np.asarray(line.get_xdata()), [0.0, 0.2, 0.5], atol=0.02)
    text = write_report(folder).read_text()
    assert "## Under shift\n" in text
    assert "Other data: `elsewhere.jsonl` (split `train`, 20 examples)." in text
    assert "figures/embedded-shift-typos.png" in text
    assert '<section id="under-shift">' in write_html(folder).read_text()
    asked = command(section)
    assert "--shift typos --shift truncate --shift-strengths 0.2,0.5 --also PATH/TO/elsewhere.jsonl" in asked


def test_runs_without_it_have_no_such_section(data: Path, tmp_path: Path) -> None:
    """Neither table nor options."""
    records = run(suite(data, "frequentist", shift=ShiftSpec()), tmp_path)
    (section,) = sections.sections(records)
    assert records[0]["shifts"] == []
    assert shift_table(section) is None
    assert "--shift" not in command(section)
