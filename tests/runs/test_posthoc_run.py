"""Post-hoc steps in whole runs: rows with and without, shared measurements, resuming, and failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibench.data.embedded import load
from calibench.errors import RefusedError, UsageError
from calibench.method import Method
from calibench.metrics.calibration import ECE
from calibench.metrics.scoring import NLL
from calibench.models.checkpoint import Checkpoint
from calibench.posthoc import Calibrator, cross_fit, log_of
from calibench.posthoc.temperature import Temperature
from calibench.registry import METHODS, POSTHOC
from calibench.report.sections import sections
from calibench.report.writing.reproduce import command
from calibench.run import run
from calibench.seeds import derived_seed
from calibench.store.predictions import load_predictions
from calibench.store.records import Record
from calibench.suites.loader import load_suite, parse_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import CalibrationSpec, MethodSpec, Suite, TimingSpec
from calibench.types import Evaluation, FloatArray, Plan, Predictive
from limited_suites import limited

TIMING = TimingSpec(blocks=4, latency=8, memory=False, token_budget=128)
LIMIT = 40
SPLIT = CalibrationSpec(split="validation")


def small(*methods: str, steps: tuple[str, ...] = ("temperature",), **changes: Any) -> Suite:
    """The embedded suite with little timing effort, and a row with each post-hoc step for every method."""
    specs = tuple(MethodSpec(name) for name in methods)
    suite = replace(limited("embedded", LIMIT), method=specs, passes=3, timing=TIMING, posthoc=steps)
    return replace(suite, **changes)


def names(records: list[Record]) -> list[tuple[str, str | None]]:
    return [(record["method"]["name"], record["method"]["posthoc"]) for record in records]


class Watched:
    """A progress that notes the stages, and presses Ctrl-C before a step of one of them."""

    def __init__(self, stop_in: str | None = None, after: int = 0) -> None:
        self.stages: list[tuple[str, int]] = []
        self._stop_in = stop_in
        self._left = after

    def stage(self, name: str, steps: int) -> None:
        self.stages.append((name, steps))

    def step(self, detail: str) -> None:  # noqa: ARG002 - only counted
        if self.stages[-1][0] == self._stop_in:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """Two methods with and without temperature, the method called temperature, and a curve."""
    folder = tmp_path_factory.mktemp("run")
    suite = small("frequentist", "mc-dropout", "temperature", curve=(1, 3))
    suite = replace(suite, timing=replace(TIMING, memory=True))
    return folder, run(suite, folder)


def test_every_method_has_a_row_with_and_without(finished: tuple[Path, list[Record]]) -> None:
    """The row with the step follows the method; a method that has a step of its own gets no second one."""
    assert names(finished[1]) == [
        ("frequentist", None),
        ("frequentist", "temperature"),
        ("mc-dropout", None),
        ("mc-dropout", "temperature"),
        ("temperature", None),
    ]
    assert all(record["status"] == "ok" for record in finished[1])
    assert len({record["cell"] for record in finished[1]}) == 5
    labels = [entry.label for entry in sections(finished[1])[0].entries]
    assert labels[3:] == ["mc-dropout + temperature", "temperature"]


def test_scores_are_cross_fitted(finished: tuple[Path, list[Record]]) -> None:
    """Stored predictions are those of the method alone, cross-fitted in the folds that the seed says."""
    folder, (plain, scaled, sampled, both, own) = finished
    for before, after in ((plain, scaled), (sampled, both), (plain, own)):
        raw = load_predictions(folder, before)
        expected = cross_fit(Temperature, raw.probs, raw.label, seed=derived_seed(0, "folds"))
        stored = load_predictions(folder, after)
        np.testing.assert_array_equal(stored.probs, expected.probs)
        np.testing.assert_array_equal(stored.index, raw.index)
        fit = after["fit"]
        assert fit["parameters"] == expected.parameters
        assert (fit["examples"], fit["folds"], fit["split"]) == (LIMIT, 5, "test")
        assert fit["seconds"] > 0
        assert "intervals do not refit it" in after["notes"][-1]
        assert before["fit"] is None
        assert stored.standard_error is None
        assert after["curve"] is None


def test_a_row_shares_the_measurement_of_its_method(finished: tuple[Path, list[Record]]) -> None:
    """Forward times, set-up and memory are the method's; end to end and latency hold the step on top."""
    _, (_, _, plain, scaled, _) = finished
    for before, after in zip(plain["timing"]["blocks"], scaled["timing"]["blocks"], strict=True):
        assert after["forward_s"] == before["forward_s"]
        assert 0 < after["end_to_end_s"] - before["end_to_end_s"] < 0.1
        assert after["position"] == before["position"]
    latencies = zip(
        plain["timing"]["latency_ms"]["samples"], scaled["timing"]["latency_ms"]["samples"], strict=True
    )
    assert all(before < after < before + 100 for before, after in latencies)
    assert scaled["timing"]["setup_s"] == plain["timing"]["setup_s"]
    assert scaled["memory"] == plain["memory"]
    assert scaled["cost_ratio"]["value"] > plain["cost_ratio"]["value"]
    assert not scaled["reference"]


def test_the_reference_costs_one_with_and_more_with_the_step(finished: tuple[Path, list[Record]]) -> None:
    """The time of the step is in the row that has it and not in the reference."""
    assert finished[1][0]["cost_ratio"]["value"] == 1
    assert 1 < finished[1][1]["cost_ratio"]["value"] < 2


def test_the_report_says_how_to_measure_it_again(finished: tuple[Path, list[Record]]) -> None:
    """The command names each method once, and the step."""
    words = command(sections(finished[1])[0]).split()
    assert words.count("-m") == 3
    assert words[words.index("--posthoc") + 1] == "temperature"


def test_a_step_can_be_added_to_a_finished_run(tmp_path: Path) -> None:
    """The method is measured again beside the reference, its record stays, and a third run has no work."""
    first = run(small("frequentist", "mc-dropout", steps=()), tmp_path)
    watched = Watched()
    second = run(small("frequentist", "mc-dropout"), tmp_path, progress=watched)
    assert ("Setting up", 2) in watched.stages
    assert [second[0], second[2]] == first
    assert names(second)[1::2] == [("frequentist", "temperature"), ("mc-dropout", "temperature")]
    raw, scaled = (load_predictions(tmp_path, record) for record in second[2:])
    assert cross_fit(Temperature, raw.probs, raw.label, seed=derived_seed(0, "folds")).probs.tolist() == (
        scaled.probs.tolist()
    )
    idle = Watched()
    assert run(small("frequentist", "mc-dropout"), tmp_path, progress=idle) == second
    assert [name for name, _ in idle.stages] == ["Loading"]
    other_folds = small("frequentist", calibration=CalibrationSpec(folds=4))
    third = run(other_folds, tmp_path)
    assert third[0] == first[0]
    assert third[1]["fit"]["folds"] == 4


class Breaking(Method):
    """Raises on plans longer than its limit of examples."""

    def __init__(self, checkpoint: Checkpoint, *, longest: int = 0) -> None:
        super().__init__(checkpoint)
        self._longest = longest

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        if len(plan) > self._longest:
            raise RuntimeError("the fan fell off")
        return Predictive(np.full((len(plan), 2), 0.5), np.ones(len(plan), dtype=np.int64))


class Refusing(Calibrator):
    """Declines whatever it is given."""

    def fit(self, log_probs: FloatArray, labels: Any) -> None:  # noqa: ARG002 - it looks at nothing
        raise RefusedError("not on a Monday")

    def transform(self, log_probs: FloatArray) -> FloatArray:
        return log_probs

    @property
    def parameters(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method called "breaking" and a post-hoc step called "refusing"."""
    load_method, load_step, point = METHODS.load, POSTHOC.load, METHODS.entry_point
    step_point = POSTHOC.entry_point
    monkeypatch.setattr(
        POSTHOC, "entry_point", lambda name: step_point("temperature" if name == "refusing" else name)
    )
    monkeypatch.setattr(METHODS, "load", lambda name: Breaking if name == "breaking" else load_method(name))
    monkeypatch.setattr(POSTHOC, "load", lambda name: Refusing if name == "refusing" else load_step(name))
    monkeypatch.setattr(
        METHODS, "entry_point", lambda name: point("frequentist" if name == "breaking" else name)
    )


@pytest.mark.usefixtures("plugins")
def test_a_failed_method_fails_its_rows_and_a_refused_step_its_row_alone(tmp_path: Path) -> None:
    """Both are records with the reason, and cost the other rows nothing."""
    suite = small("frequentist", "breaking", steps=("refusing", "temperature"))
    found = run(suite, tmp_path)
    assert [record["status"] for record in found] == ["ok", "error", "ok", "error", "error", "error"]
    assert found[1]["error"] == {"type": "RefusedError", "message": "not on a Monday"}
    assert {record["error"]["message"] for record in found[3:]} == {"the fan fell off"}
    assert "metrics" not in found[1]
    assert "metrics" not in found[4]


@pytest.mark.usefixtures("plugins")
def test_a_method_that_fails_on_the_calibration_split_keeps_its_own_row(tmp_path: Path) -> None:
    """What cannot be fitted is the row with the step."""
    suite = small("frequentist", calibration=SPLIT)
    suite = replace(suite, method=(*suite.method, MethodSpec("breaking", {"longest": LIMIT - 1})))
    found = run(suite, tmp_path)
    assert [record["status"] for record in found] == ["ok", "ok", "ok", "error"]
    assert found[3]["error"]["message"] == "breaking failed on the calibration split: the fan fell off"


def test_a_calibration_split_is_fitted_once(tmp_path: Path) -> None:
    """One temperature from the other split's predictions, whose time counts as cost of the fit."""
    suite = small("frequentist", "temperature", calibration=SPLIT)
    plain, scaled, own = run(suite, tmp_path / "split")
    apart = run(
        replace(
            suite, data=replace(suite.data, split="validation"), calibration=CalibrationSpec(), posthoc=()
        ),
        tmp_path / "apart",
    )
    there = load_predictions(tmp_path / "apart", apart[0])
    expected = Temperature()
    expected.fit(log_of(there.probs), there.label)
    for record in (scaled, own):
        fit = record["fit"]
        assert (fit["split"], fit["folds"], fit["examples"]) == ("validation", None, LIMIT)
        assert fit["parameters"]["temperature"] == [pytest.approx(expected.temperature, rel=1e-5)]
        assert fit["seconds"] > 0.001
        probs = load_predictions(tmp_path / "split", record).probs
        raw = load_predictions(tmp_path / "split", plain).probs
        np.testing.assert_allclose(probs, expected.transform(log_of(raw)), atol=1e-6)
    crossed = run(small("frequentist", "temperature"), tmp_path / "split")
    assert crossed[0] == plain
    assert {record["cell"] for record in crossed[1:]}.isdisjoint({scaled["cell"], own["cell"]})


def test_a_run_killed_on_the_calibration_split_goes_on_there(tmp_path: Path) -> None:
    """What the first method predicted there is kept, and the outcome is that of a run never stopped."""
    suite = small("frequentist", "mc-dropout", calibration=SPLIT)
    with pytest.raises(KeyboardInterrupt):
        run(suite, tmp_path / "killed", progress=Watched("Calibration split"))
    watched = Watched()
    resumed = run(suite, tmp_path / "killed", progress=watched)
    assert ("Calibration split", 1) in watched.stages
    whole = run(suite, tmp_path / "whole")
    for one, other in zip(resumed, whole, strict=True):
        assert one["metrics"] == other["metrics"]
    assert not (tmp_path / "killed" / "journal").exists()


def test_scored_texts_are_left_out_of_the_calibration_split(tmp_path: Path) -> None:
    """A text that is in both splits is not fitted on, and the record says how many there were."""
    texts = load(None, split="test").texts[:30]
    for split, chosen in (("validation", texts[:20]), ("test", texts[15:])):
        rows = [f'{{"text": "{text}", "label": {i % 2}}}' for i, text in enumerate(chosen)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    suite = override(small("frequentist", calibration=SPLIT), Overrides(dataset=str(tmp_path), split="test"))
    suite = replace(suite, calibration=replace(SPLIT, unseen=True))
    record = run(suite, tmp_path / "run")[1]
    assert record["fit"]["examples"] == 15
    words = "15 examples of validation, without 5 whose texts are scored, declared unseen by the model"
    assert words in record["notes"][-1]
    assert "--calibration-split validation --unseen" in command(sections([record])[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CalibrationSpec("train"), "'train' is named like training data"),
        (CalibrationSpec("Training"), "'Training' is named like training data"),
        (CalibrationSpec("test", unseen=True), "'test' is the one that is scored"),
        (CalibrationSpec(unseen=True), "none is named; add --calibration-split"),
        (CalibrationSpec("train", unseen=True), "no split 'train'"),
        (CalibrationSpec("validation", limit=0), "The limit is 0"),
    ],
)
def test_a_calibration_split_that_teaches_nothing_is_refused(
    tmp_path: Path, spec: CalibrationSpec, message: str
) -> None:
    """Before anything is measured, in one sentence; training data only until it is declared unseen."""
    with pytest.raises(UsageError, match=message):
        run(small("frequentist", calibration=spec), tmp_path)
    assert not (tmp_path / "journal").exists()


def test_an_unknown_step_is_a_usage_error(tmp_path: Path) -> None:
    """The message lists the choices and the nearest."""
    with pytest.raises(UsageError, match="Unknown post-hoc step 'temprature'; did you mean 'temperature'"):
        run(small("frequentist", steps=("temprature",)), tmp_path)


def test_suites_and_options_say_the_same() -> None:
    """Keys of a suite file and options of the command line lead to the same suite."""
    table = """
        posthoc = ["temperature"]
        calibration = { split = "train", unseen = true }
        [[method]]
        name = "frequentist"
    """
    plain = parse_suite('[[method]]\nname = "frequentist"', "mine")
    options = Overrides(posthoc=("temperature", "temperature"), calibration_split="train", unseen=True)
    assert override(plain, options) == parse_suite(table, "mine")
    other = override(parse_suite(table, "mine"), Overrides(calibration_split="dev"))
    assert other.calibration == CalibrationSpec(split="dev")
    with pytest.raises(UsageError, match="folds is 1 in the suite 'mine'; expected 2 or more"):
        parse_suite('calibration.folds = 1\n[[method]]\nname = "frequentist"', "mine")


@pytest.mark.shared
@pytest.mark.slow
def test_the_temperature_of_a_real_model(shared: Path, tmp_path: Path) -> None:
    """On SST-2 validation the best temperature is about 2.05, the folds are near it, and ECE and NLL improve.

    Each fold's fit shares three quarters of its examples with any other; log T has a standard error of .06.
    """
    options = Overrides(
        dataset=str(shared / "data" / "sst2"),
        model=str(shared / "models" / "sst2-minilm"),
        methods=("frequentist",),
        posthoc=("temperature",),
    )
    suite = replace(override(load_suite("sst2"), options), timing=replace(TIMING, token_budget=1024))
    plain, scaled = run(suite, tmp_path)
    raw, after = (load_predictions(tmp_path, record) for record in (plain, scaled))
    whole = Temperature()
    whole.fit(log_of(raw.probs), raw.label)
    assert whole.temperature == pytest.approx(2.05, abs=0.02)
    np.testing.assert_allclose(scaled["fit"]["parameters"]["temperature"], 2.05, atol=0.15)
    before, now = Evaluation(raw.probs, raw.label), Evaluation(after.probs, after.label)
    assert ECE.evaluate(now) < 0.5 * ECE.evaluate(before)
    assert NLL.evaluate(now) < NLL.evaluate(before) - 0.05
    np.testing.assert_array_equal(after.probs.argmax(axis=1), raw.probs.argmax(axis=1))
