"""Prediction sets in whole runs: every row has them, records and predictions agree, resuming, and reports."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import oos_data
from calibench.cli import main
from calibench.errors import CalibenchError, UsageError
from calibench.measure.measured import Measured
from calibench.measure.phases import measure
from calibench.measure.session import Session
from calibench.posthoc import cross_fit
from calibench.posthoc.conformal import Recipe, fit_apart, fit_crossed, uniforms
from calibench.posthoc.folds import stratified_folds
from calibench.posthoc.temperature import Temperature
from calibench.report import content, sections, write_csv, write_html
from calibench.report.drawing import style
from calibench.report.parts.sets import sets_table, sets_words, verdict
from calibench.report.parts.sets_drawing import sets_drawing
from calibench.report.terminal.records import terminal_table
from calibench.report.writing.reproduce import command
from calibench.run import run
from calibench.score.outcomes import Outcome
from calibench.seeds import derived_seed
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records
from calibench.suites.loader import load_suite, parse_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import CalibrationSpec, ConformalSpec, MethodSpec, Suite, TimingSpec
from calibench_methods.one_pass.conformal import Conformal
from limited_suites import limited
from tiny_models import tiny_checkpoint

TIMING = TimingSpec(blocks=3, latency=4, memory=False, token_budget=256)
LIMIT = 40
#: The embedded data and model, with the metrics that are quick to resample.
FEW = """
metrics = ["accuracy", "nll"]
method = [{ name = "frequentist" }]
data = { loader = "embedded" }
model = { name = "embedded" }
timing = { blocks = 3, memory = false }
"""
ALL = ConformalSpec(("lac", "aps", "raps"), level=0.8)


def small(*methods: str, **changes: Any) -> Suite:
    """The embedded suite with little timing effort."""
    specs = tuple(MethodSpec(name) for name in methods)
    base = replace(limited("embedded", LIMIT), metrics=("accuracy",), curve=())
    return replace(base, method=specs, passes=2, timing=TIMING, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the command line: two methods with and without temperature, three kinds of sets, and the method."""
    folder = tmp_path_factory.mktemp("run")
    options = [
        *("-m", "frequentist", "-m", "conformal", "-a", "conformal.level=0.7", "--posthoc", "temperature"),
        *("--conformal", "lac", "--conformal", "aps", "--conformal", "raps", "--conformal-level", "0.8"),
        *("-L", str(LIMIT), "--fast", "--token-budget", "256", "-o", str(folder)),
    ]
    suite = folder / "few-metrics.toml"
    suite.write_text(FEW)
    result = CliRunner().invoke(main, ["run", str(suite), *options])
    assert result.exit_code == 0, result.output
    assert "LAC 80%" in result.output
    assert "Prediction sets: share that holds the label, to be 80% or 70%" in " ".join(result.output.split())
    return folder


def test_every_row_has_sets_of_every_kind(finished: Path) -> None:
    """The method's own come first; coverage and size are those of the stored sets."""
    records = load_records(finished)
    kinds = [[(one["column"], one["level"]) for one in record["conformal"]] for record in records]
    asked = [(f"set_{kind}", 0.8) for kind in ("lac", "aps", "raps")]
    assert kinds == [asked, asked, [("set", 0.7), *asked], [("set", 0.7), *asked]]
    for record in records:
        stored = load_predictions(finished, record)
        assert set(stored.sets) == {one["column"] for one in record["conformal"]}
        for one in record["conformal"]:
            sets = stored.sets[one["column"]]
            assert one["coverage"]["value"] == sets[np.arange(LIMIT), stored.label].mean()
            assert one["mean_size"]["value"] == sets.sum(axis=1).mean()
            assert one["singletons"]["value"] == (sets.sum(axis=1) == 1).mean()
            assert one["coverage"]["low"] <= one["coverage"]["value"] <= one["coverage"]["high"]
            assert (one["examples"], one["folds"], one["split"]) == (LIMIT, 5, "test")
            assert one["seconds_per_example"] > 0
            assert len(one["thresholds"]) == 5


def test_sets_can_be_made_again_from_what_is_stored(finished: Path) -> None:
    """By probabilities, rows and seed; each example by the thresholds of the other folds."""
    for record in load_records(finished):
        stored = load_predictions(finished, record)
        uniform = uniforms(stored.index, derived_seed(0, "sets", "test"))
        fold = stratified_folds(stored.label, 5, seed=derived_seed(0, "folds"))
        for one in record["conformal"]:
            recipe = Recipe(one["kind"], one["level"])
            fitted = fit_crossed(recipe, stored.probs, stored.label, uniform, fold, 5)
            np.testing.assert_array_equal(fitted.sets(stored.probs, uniform), stored.sets[one["column"]])
            assert one["thresholds"] == [float(item.values[0]) for item in fitted.thresholds]


def test_the_promise_is_kept_from_rows_with_a_post_hoc_step(finished: Path) -> None:
    """Their probabilities depend on the labels that set the thresholds."""
    found = [
        (record["method"]["posthoc"], {one["guarantee"] for one in record["conformal"]})
        for record in load_records(finished)
    ]
    assert found == [(None, {"marginal"}), ("temperature", {None})] * 2


def test_the_method_has_the_probabilities_of_the_one_below_and_the_time_of_its_sets(finished: Path) -> None:
    """Predictions are bit-identical; its end-to-end time holds what forward and tokenising do not."""
    plain, _, own, both = load_records(finished)
    np.testing.assert_array_equal(
        load_predictions(finished, plain).probs, load_predictions(finished, own).probs
    )
    assert own["method"]["params"]["over"] == "frequentist"
    for before, after in zip(own["timing"]["blocks"], both["timing"]["blocks"], strict=True):
        assert before["forward_s"] == after["forward_s"]


def test_the_time_of_sets_is_added_to_the_method_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To each block and each sentence; rows whose sets the run asks for have them beside their time."""

    def an_hour(outcome: Outcome, rows: Any, positions: Any) -> float:  # noqa: ARG001 - its signature
        return 3600.0 if outcome.source.cell.name == "conformal" else 0.0

    monkeypatch.setattr("calibench.score.step_time.seconds_of", an_hour)
    plain, own = run(small("frequentist", "conformal", conformal=ALL), tmp_path)
    assert all(block["end_to_end_s"] > 3600 for block in own["timing"]["blocks"])
    assert min(own["timing"]["latency_ms"]["samples"]) > 3.6e6
    assert all(block["end_to_end_s"] < 3600 for block in plain["timing"]["blocks"])


def test_sets_can_be_added_changed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run is measured again for sets it lacks, or has otherwise, and for nothing else."""
    measured: list[int] = []

    def counted(session: Session) -> Measured:
        measured.append(len(session.active))
        return measure(session)

    monkeypatch.setattr("calibench.run.measure", counted)
    first = run(small("frequentist", "temperature"), tmp_path)
    assert [record["conformal"] for record in first] == [[], []]
    one = small("frequentist", conformal=ConformalSpec(("lac",)))
    second = run(one, tmp_path)
    assert [item["kind"] for item in second[0]["conformal"]] == ["lac"]
    assert second[0]["cell"] == first[0]["cell"]
    assert run(one, tmp_path) == second
    assert run(small("frequentist"), tmp_path) == second
    assert measured == [2, 1]
    third = run(small("frequentist", conformal=ALL), tmp_path)
    assert [item["level"] for item in third[0]["conformal"]] == [0.8] * 3
    assert first[1] in load_records(tmp_path)  # what this run was not about stays


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """With a calibration split, texts out of scope, and a threshold per class."""
    data = oos_data.write(tmp_path_factory.mktemp("data") / "beyond")
    folder = tmp_path_factory.mktemp("apart")
    suite = oos_data.suite(data, "frequentist", "conformal")
    suite = replace(
        suite,
        metrics=("accuracy", "oos_auroc"),
        curve=(),
        data=replace(suite.data, threshold_split=None),
        conformal=replace(ALL, class_conditional=True),
        posthoc=("temperature",),
        calibration=CalibrationSpec("validation"),
    )
    return folder, run(suite, folder)


def test_a_calibration_split_sets_one_threshold_per_class(apart: tuple[Path, list[Record]]) -> None:
    """From its examples in scope that are not scored too; what chance would make of the coverage is there."""
    for record in apart[1]:
        assert record["status"] == "ok"
        for one in record["conformal"]:
            assert (one["split"], one["folds"], one["examples"]) == ("validation", None, 89)
            assert np.shape(one["thresholds"]) == ((1, 2) if one["class_conditional"] else (1,))
            assert one["chance"]["low"] <= one["expected"] <= one["chance"]["high"]
            assert one["out_of_scope"]["n"] == 40
    assert apart[1][0]["conformal"][0]["guarantee"] == "class"


def test_a_step_is_cross_fitted_where_it_sets_thresholds(tmp_path: Path) -> None:
    """Thresholds of a row with a step come from calibration examples that its fit did not see."""
    apart_spec = {"calibration": CalibrationSpec("validation"), "conformal": ConformalSpec(("lac",))}
    scored = run(small("frequentist", posthoc=("temperature",), **apart_spec), tmp_path / "a")
    there = small("frequentist")
    there = replace(there, data=replace(there.data, split="validation"))
    raw = load_predictions(tmp_path / "b", run(there, tmp_path / "b")[0])
    crossed = cross_fit(Temperature, raw.probs, raw.label, seed=derived_seed(0, "folds"))
    for record, probs in zip(scored, (raw.probs, crossed.probs), strict=True):
        fitted = fit_apart(Recipe("lac"), probs, raw.label, np.zeros(LIMIT))
        expected = float(fitted.thresholds[0].values[0])
        assert record["conformal"][0]["thresholds"] == [pytest.approx(expected, abs=1e-5)]


def test_what_cannot_be_calibrated_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without predictions for the calibration split a row has no sets; a method that makes its own failed."""

    def broken(*_: Any) -> None:
        raise CalibenchError("the fan fell off")

    monkeypatch.setattr(Measured, "on_calibration", broken)
    suite = small("frequentist", "conformal", calibration=CalibrationSpec("validation"), conformal=ALL)
    plain, own = run(suite, tmp_path)
    assert plain["status"] == "ok"
    assert {one["reason"] for one in plain["conformal"]} == {"the fan fell off"}
    assert load_predictions(tmp_path, plain).sets == {}
    assert own["error"] == {"type": "CalibenchError", "message": "the fan fell off"}


def printed(records: list[Record], folder: Path) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(terminal_table(records, folder))
    return out.getvalue()


def part_of(records: list[Record]) -> content.Part:
    (section,) = sections.sections(records)
    with style.styled():
        drawing = sets_drawing(section)
    drawings = () if drawing is None else (drawing,)
    return content.Part("", sets_words(section), sets_table(section), drawings)


def test_the_report_says_what_is_promised(finished: Path, apart: tuple[Path, list[Record]]) -> None:
    """Cross-fitted, with a split, by class, and of rows with a step; a drawing with every method."""
    crossed = part_of(load_records(finished))
    assert "near the level by construction" in crossed.text
    assert "Rows with a post-hoc step" in crossed.text
    assert "with so few classes it is APS" in crossed.text
    assert crossed.table is not None
    assert len(crossed.table.rows) == 3 + 3 + 4 + 4
    assert crossed.table.rows[6].cells[0].text == "LAC 70%"
    assert "conformal: LAC 70%" in crossed.drawings[0].alt
    text = part_of(apart[1])
    assert "Thresholds come from 89 examples of the split `validation`" in text.text
    assert "By class, the promise is about each class" in text.text
    assert text.table is not None
    assert "Size out of scope" in [column.title for column in text.table.columns]
    assert "Prediction sets" in (finished / "report.md").read_text()
    assert '<section id="prediction-sets">' in write_html(finished).read_text()
    assert "set_lac_coverage" in write_csv(finished).read_text()


def test_the_terminal_has_a_column_per_kind(apart: tuple[Path, list[Record]]) -> None:
    """Coverage and size, within 100 columns; none without sets."""
    lines = printed(apart[1], apart[0]).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("LAC by class 80%" in line for line in lines)
    bare = [record | {"conformal": []} for record in apart[1]]
    assert "Prediction sets" not in printed(bare, apart[0])
    (section,) = sections.sections(bare)
    assert sets_table(section) is None
    assert sets_drawing(section) is None


def test_twenty_rows_and_150_classes(apart: tuple[Path, list[Record]]) -> None:
    """Thresholds that are infinite, classes without their own, and a long name: all of it is said."""
    record = apart[1][0]
    entry = record["conformal"][0] | {
        "without_own": 150,
        "guarantee": "some classes",
        "thresholds": [[None] * 150],
        "mean_size": {"value": 150.0, "low": 150.0, "high": 150.0, "reason": None},
        "worst_class": record["conformal"][0]["worst_class"] | {"label": "a_class_of_a_long_name"},
    }
    part = part_of([record | {"conformal": [entry]}])
    assert "150 classes have too few examples for a threshold of their own" in part.text
    assert "every class is in the set" in part.text
    assert part.table is not None
    assert "a_class_of_a_long_name" in part.table.rows[0].cells[5].text


def test_a_reason_stands_in_place_of_sets(apart: tuple[Path, list[Record]]) -> None:
    """Where a method failed on the calibration split its row stays, and says why it has none."""
    record = apart[1][0] | {"conformal": [apart[1][0]["conformal"][0] | {"reason": "the fan fell off"}]}
    part = part_of([record])
    assert part.text == "No prediction sets could be made."
    assert part.table is not None
    assert part.table.rows[0].cells[1].text == "the fan fell off"
    assert part.drawings == ()
    assert "the fan" in printed([record], apart[0])


@pytest.mark.parametrize(
    ("value", "low", "high", "chance", "expected"),
    [
        (0.90, 0.88, 0.92, (None, None), ""),
        (0.85, 0.80, 0.89, (None, None), "below"),
        (0.95, 0.93, 0.97, (None, None), "above"),
        (0.87, 0.85, 0.89, (0.86, 0.93), ""),
        (0.85, 0.83, 0.91, (0.86, 0.93), "below"),
        (0.94, 0.90, 0.96, (0.86, 0.93), "above"),
        (None, None, None, (None, None), ""),
    ],
)
def test_verdicts(value: Any, low: Any, high: Any, chance: tuple[Any, Any], expected: str) -> None:
    """By what chance does with a split, by the interval without."""
    fields = {
        "coverage": {"value": value, "low": low, "high": high},
        "chance": {"low": chance[0], "high": chance[1]},
        "level": 0.9,
        "expected": 0.905,
    }
    assert verdict(fields) == expected


def test_the_report_says_how_to_make_the_sets_again(finished: Path, apart: tuple[Path, list[Record]]) -> None:
    """Kinds, level, classes and split; the method's own level is a parameter of the method."""
    words = command(sections.sections(load_records(finished))[0])
    assert "--conformal lac --conformal aps --conformal raps --conformal-level 0.8 --seed" in words
    assert "-a conformal.level=0.7" in words
    again = command(sections.sections(apart[1])[0])
    assert "--conformal-level 0.8 --class-conditional --calibration-split validation" in again


def test_suites_and_options_say_the_same() -> None:
    """Keys of a suite file and options of the command line lead to the same suite."""
    table = """
        conformal = { kinds = ["lac", "raps"], level = 0.95, class_conditional = true }
        [[method]]
        name = "frequentist"
    """
    plain = parse_suite('[[method]]\nname = "frequentist"', "mine")
    options = Overrides(conformal=("lac", "raps", "lac"), conformal_level=0.95, class_conditional=True)
    assert override(plain, options) == parse_suite(table, "mine")
    assert override(parse_suite(table, "mine"), Overrides(conformal=("aps",))).conformal.level == 0.95
    with pytest.raises(UsageError, match="none are; add --conformal KIND"):
        override(plain, Overrides(conformal_level=0.8))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ConformalSpec(("lac", "app")), "Unknown kind of prediction sets 'app'"),
        (ConformalSpec(("lac",), level=90), "level of prediction sets is 90"),
    ],
)
def test_sets_that_cannot_be_made_stop_the_run_at_once(
    tmp_path: Path, spec: ConformalSpec, message: str
) -> None:
    """Before anything is loaded."""
    with pytest.raises(UsageError, match=message):
        run(small("frequentist", conformal=spec), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": "conformal"}, "over is 'conformal', which makes sets itself"),
        ({"over": "temperature"}, "run -m conformal with --posthoc temperature instead"),
        ({"over": "frequentst"}, "did you mean 'frequentist'"),
        ({"kind": "app"}, "Unknown kind"),
    ],
)
def test_the_method_refuses_what_it_cannot_be_over(settings: dict[str, str], message: str) -> None:
    """In one sentence that says what to do."""
    with pytest.raises(UsageError, match=message):
        Conformal(tiny_checkpoint(), **settings)


def test_the_method_is_what_it_is_over() -> None:
    """Passes, coverage, modules and batching are those of the method below."""
    own = Conformal(tiny_checkpoint(), over="hf-pipeline-baal")
    assert own.tokenises
    assert own.passes > 1
    assert own.coverage is not None
    assert not Conformal.tokenises


@pytest.mark.shared
@pytest.mark.slow
def test_coverage_of_a_real_model(shared: Path, tmp_path: Path) -> None:
    """On SST-2 validation the sets of every kind are near the level, and those of "lac" the smallest."""
    options = Overrides(
        dataset=str(shared / "data" / "sst2"),
        model=str(shared / "models" / "sst2-minilm"),
        methods=("frequentist",),
        conformal=("lac", "aps", "raps"),
    )
    suite = replace(override(load_suite("sst2"), options), timing=replace(TIMING, token_budget=1024))
    (record,) = run(suite, tmp_path)
    lac, aps, _ = record["conformal"]
    for one in record["conformal"]:
        assert abs(one["coverage"]["value"] - 0.9) < 4 * math.sqrt(0.09 / 872)
    assert lac["mean_size"]["value"] < aps["mean_size"]["value"]
