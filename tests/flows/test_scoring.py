"""Files of predictions as a run folder: the same numbers as a run's, kept, replaced, compared and "
"reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.testing import assert_array_equal

import scored_files
from calibench.cli import main
from calibench.errors import UsageError
from calibench.flows.scoring import Overwrite, score
from calibench.metrics.scoring import NLL
from calibench.metrics.select import select_metrics
from calibench.posthoc import cross_fit
from calibench.posthoc.conformal import recipes
from calibench.posthoc.temperature import Temperature
from calibench.readers.asked import Asked
from calibench.readers.methods import read_methods
from calibench.readers.scored import Scored
from calibench.report import write_csv, write_html, write_json, write_model_card, write_report
from calibench.score.scored import Wanted
from calibench.seeds import derived_seed
from calibench.stats.mapped import is_mapped
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records
from calibench.types import Evaluation
from foreign_metrics import register

TABLE = ["--label", "label", "--probs", "p_*", "--id", "id"]
ASKED = Asked(label="label", probs="p_*", id="id")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of docs/score.md."""
    folder = tmp_path_factory.mktemp("files")
    scored_files.write(folder)
    return folder


def tables(files: Path, *words: str, asked: Asked = ASKED) -> list[Scored]:
    return read_methods([word.replace("@", f"{files}/") for word in words], asked)


def names(records: Sequence[Record]) -> list[tuple[str, str | None, bool]]:
    return [(r["method"]["name"], r["method"]["posthoc"], r["reference"]) for r in records]


def test_the_numbers_are_those_of_the_metrics(files: Path, tmp_path: Path) -> None:
    """Every metric of what was predicted, by name; nothing was timed, and the record says why."""
    (record,) = score(tables(files, "A=@a.parquet"), tmp_path, Wanted())
    stored = load_predictions(tmp_path, record)
    probs, labels = scored_files.predictions()
    order = np.argsort([f"row {i}" for i in range(len(labels))])
    assert_array_equal(stored.probs, probs[order])
    assert_array_equal(stored.label, labels[order])
    evaluation = Evaluation(stored.probs, stored.label)
    for metric in select_metrics((), posterior_known=False):
        assert record["metrics"][metric.name]["value"] == metric.evaluate(evaluation)
    assert record["timing"] is record["model"] is record["plan"] is None
    for field in ("cost_ratio", "latency_ratio", "memory"):
        assert record[field]["reason"] == record["scored"]["reason"] == "scored from a file"
    assert record["data"]["labels"] == list(scored_files.NAMES)
    assert load_records(tmp_path) == [record]


def test_a_step_is_cross_fitted_and_sets_are_made(files: Path, tmp_path: Path) -> None:
    """As a run does: the row with the step has what `cross_fit` gives, and the guarantee goes."""
    wanted = Wanted(posthoc=("temperature",), recipes=recipes(["lac", "aps"]), seed=3)
    plain, stepped = score(tables(files, "@b.parquet"), tmp_path, wanted)
    before, after = (load_predictions(tmp_path, record) for record in (plain, stepped))
    found = cross_fit(Temperature, before.probs, before.label, seed=derived_seed(3, "folds"))
    assert_array_equal(after.probs, found.probs)
    assert stepped["fit"]["parameters"] == found.parameters
    assert [item["guarantee"] for item in plain["conformal"]] == ["marginal"] * 2
    assert [item["guarantee"] for item in stepped["conformal"]] == [None] * 2
    assert set(before.sets) == {"set_lac", "set_aps"}
    assert before.sets["set_lac"][np.arange(len(before.label)), before.label].mean() == pytest.approx(
        0.9, abs=0.03
    )


def test_steps_and_sets_are_fitted_on_the_rows_that_are_held_out(files: Path, tmp_path: Path) -> None:
    """And on no other: the rows that are scored are the others, and what is fitted does not see them."""
    asked = replace(ASKED, calibration_split="part=dev")
    wanted = Wanted(posthoc=("temperature",), recipes=recipes(["lac"], level=0.8))
    plain, stepped = score(tables(files, "A=@a.parquet", asked=asked), tmp_path, wanted)
    frame = pq.read_table(files / "a.parquet").to_pandas().sort_values("id", kind="stable")
    dev, test = frame[frame["part"] == "dev"], frame[frame["part"] == "test"]
    probs = {len(part): part.filter(like="p_").to_numpy() for part in (dev, test)}
    labels = {len(part): part["label"].map(scored_files.NAMES.index).to_numpy() for part in (dev, test)}
    step = Temperature()
    step.fit(np.log(probs[80]), labels[80])
    assert plain["data"]["n"] == 160
    stored = load_predictions(tmp_path, stepped)
    np.testing.assert_allclose(stored.probs, step.transform(np.log(probs[160])), rtol=1e-12)
    assert_array_equal(stored.label, labels[160])
    assert stepped["fit"]["examples"] == 80
    assert (stepped["fit"]["folds"], stepped["fit"]["split"]) == (None, "part=dev")
    (sets,) = plain["conformal"]
    assert (sets["examples"], sets["folds"], sets["guarantee"]) == (80, None, "marginal")
    true = np.sort(1.0 - probs[80][np.arange(80), labels[80]])
    assert sets["thresholds"] == [pytest.approx(true[65 - 1])]  # ceil(81 x 0.8)
    included = load_predictions(tmp_path, plain).sets["set_lac"]
    assert_array_equal(included, 1.0 - probs[160] <= sets["thresholds"][0])
    report = write_report(tmp_path).read_text()
    assert "--calibration-split part=dev" in report
    assert "split `part=dev`" in report


def test_rows_that_are_held_out_change_the_cell(files: Path, tmp_path: Path) -> None:
    """What is fitted on other rows is not taken for what is there."""
    asked = replace(ASKED, calibration_split="part=dev")
    (table,) = tables(files, "A=@a.parquet", asked=asked)
    assert table.calibration is not None
    first = score([table], tmp_path, Wanted(recipes=recipes(["lac"])))
    other = replace(table, calibration=replace(table.calibration, probs=table.calibration.probs[:, ::-1]))
    assert score([table], tmp_path, Wanted(recipes=recipes(["lac"]))) == first
    assert score([other], tmp_path, Wanted(recipes=recipes(["lac"])))[0]["cell"] != first[0]["cell"]


def test_named_metrics_are_all_that_is_computed(files: Path, tmp_path: Path) -> None:
    """Each as among all; and a later command that asks for all does not keep the record with a few."""
    given = tables(files, "A=@a.parquet")
    (few,) = score(given, tmp_path, Wanted(metrics=("ece", "nll")))
    (every,) = score(given, tmp_path, Wanted())
    assert list(few["metrics"]) == ["ece", "ece_noise_floor", "nll"]
    assert all(every["metrics"][name] == value for name, value in few["metrics"].items())
    assert few["scored"]["metrics"] == ["ece", "nll"]
    assert len(every["metrics"]) > 10
    assert "--metric ece --metric nll" in write_report(
        score_alone(given, tmp_path / "few", Wanted(metrics=("ece", "nll")))
    ).read_text(encoding="utf-8")


def score_alone(given: Sequence[Scored], folder: Path, wanted: Wanted) -> Path:
    score(given, folder, wanted)
    return folder


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def stage(self, name: str, steps: int) -> None:
        self.heard.append((name, steps))

    def step(self, detail: str) -> None:
        self.heard.append(("step", detail))

    def say(self, sentence: str) -> None:
        raise AssertionError(sentence)


def test_whoever_waits_is_told_of_every_row_and_of_every_metric_of_many(tmp_path: Path) -> None:
    """As many steps as were announced."""
    file = calibrated(tmp_path, 10_500, 3)
    told, read = Told(), []
    given = read_methods([f"A={file}"], Asked(label="label", probs="p_*"), told=read.append)
    score(given, tmp_path / "run", Wanted(metrics=("nll", "ece", "aurc")), progress=told)
    assert read == ["A"]
    steps = [("step", "NLL"), ("step", "ECE"), ("step", "AURC"), ("step", "stored")]
    assert told.heard == [("Scoring A", 4), *steps]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_long_file_says_how_far_it_is_where_nobody_sees_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    """A line a minute on standard error; nothing with -q, and nothing of what takes less than one."""
    file = calibrated(tmp_path, 10_500, 3)
    command = ["score", str(file), "--label", "label", "--probs", "p_*", "--metric", "nll", "--metric", "ece"]
    short = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "short")])
    monkeypatch.setattr("calibench.report.terminal.progress._APART", 0.0)
    words = [*command, "-o", str(tmp_path / "long"), *(["-q"] if quiet else [])]
    long = CliRunner().invoke(main, words)
    assert short.exit_code == long.exit_code == 0
    assert short.stderr == ""
    heard = [] if quiet else ["Reading: 1 of 1 (many)", "Scoring many: 1 of 3", "2 of 3", "3 of 3 (stored)"]
    lines = long.stderr.splitlines()
    assert len(lines) == len(heard)
    assert all(words in line for words, line in zip(heard, lines, strict=True))


def test_a_second_time_scores_only_what_is_missing(files: Path, tmp_path: Path) -> None:
    """Records that are there stay as they are; sets that are asked for later are made."""
    found = tables(files, "A=@a.parquet", "B=@b.parquet")
    first = score(found[:1], tmp_path, Wanted())
    both = score(found, tmp_path, Wanted())
    assert both[0] == first[0]
    assert names(both) == [("A", None, True), ("B", None, False)]
    again = score(found, tmp_path, Wanted(recipes=recipes(["lac"])))
    assert [len(record["conformal"]) for record in again] == [1, 1]
    assert len(load_records(tmp_path)) == 2
    with pytest.raises(UsageError, match="holds records already"):
        score(found, tmp_path, Wanted(), overwrite="never")


@pytest.mark.parametrize("overwrite", ["only-missing", "always"])
def test_other_predictions_of_a_name_take_its_place(
    files: Path, tmp_path: Path, overwrite: Overwrite
) -> None:
    """The old row and its file go; other rows stay, and so do those about other data."""
    score(tables(files, "A=@a.parquet", "B=@b.parquet"), tmp_path, Wanted())
    spam = Asked(label="label", prob="p_spam")
    score(tables(files, "A=@spam.parquet", asked=spam), tmp_path, Wanted())
    (new,) = score(tables(files, "A=@b.parquet"), tmp_path, Wanted(), overwrite=overwrite)
    records = load_records(tmp_path)
    assert sorted(record["method"]["name"] for record in records) == ["A", "A", "B"]
    assert new in records
    assert len(list((tmp_path / "predictions").iterdir())) == 3


def test_a_later_method_is_compared_with_the_reference_that_is_there(files: Path, tmp_path: Path) -> None:
    """Its price too; another reference is asked for by name, and has to be there."""
    priced = replace(ASKED, price="usd")
    score(tables(files, "A=@a.parquet", asked=priced), tmp_path, Wanted())
    (later,) = score(tables(files, "B=@b.parquet", asked=priced), tmp_path, Wanted())
    assert not later["reference"]
    assert later["cost_ratio"] == {
        "value": pytest.approx(2.0),
        "low": None,
        "high": None,
        "reason": "a ratio of prices per row, which are not measured",
    }
    (turned,) = score(tables(files, "B=@b.parquet", asked=priced), tmp_path, Wanted(reference="B"))
    assert turned["reference"]
    with pytest.raises(UsageError, match="'C' is no method; choose from B, A"):
        score(tables(files, "B=@b.parquet"), tmp_path, Wanted(reference="C"))


def test_prices_by_method_are_as_good_as_a_column(files: Path, tmp_path: Path) -> None:
    """A free reference has no ratio, and the record says so."""
    found = tables(files, "A=@a.parquet", "B=@b.parquet")
    _, priced = score(found, tmp_path / "a", Wanted(prices={"A": 0.5, "B": 2.0}))
    assert (priced["cost_ratio"]["value"], priced["scored"]["price_per_row"]) == (4.0, 2.0)
    _, free = score(found, tmp_path / "b", Wanted(prices={"A": 0.0, "B": 2.0}))
    assert free["cost_ratio"]["reason"] == "the reference costs nothing"


def test_a_step_that_does_not_apply_costs_its_row_alone(files: Path, tmp_path: Path) -> None:
    """Isotonic regression is for two classes: its row is a failure, with the reason."""
    plain, failed = score(tables(files, "@a.parquet"), tmp_path, Wanted(posthoc=("isotonic",)))
    assert (plain["status"], failed["status"]) == ("ok", "error")
    assert failed["error"]["type"] == "RefusedError"


def test_confidences_need_no_classes(files: Path, tmp_path: Path) -> None:
    """What needs no class is computed, and the rest says why it is not."""
    asked = Asked(confidence="confidence", correct="correct")
    (record,) = score(tables(files, "@judge.csv", asked=asked), tmp_path, Wanted())
    probs, labels = scored_files.predictions()
    right = probs.argmax(axis=1) == labels
    assert record["metrics"]["accuracy"]["value"] == right.mean()
    expected = np.mean((probs.max(axis=1) - right) ** 2)
    assert record["metrics"]["brier_confidence"]["value"] == pytest.approx(expected)
    (full,) = score(tables(files, "@a.parquet"), tmp_path / "full", Wanted())
    for name in ("ece", "ece_debiased", "smooth_ece", "aurc", "error_auroc", "calibration_ks_p"):
        assert record["metrics"][name]["value"] == pytest.approx(full["metrics"][name]["value"])
    floor = [item["metrics"]["ece_noise_floor"]["value"] for item in (record, full)]
    assert floor[0] == pytest.approx(floor[1], rel=0.1)
    for name in ("nll", "brier", "ece_classwise", "sharpness"):
        assert record["metrics"][name]["value"] is None
        assert record["metrics"][name]["reason"] == "needs the probability of every class"


@pytest.mark.parametrize("confidences", [False, True])
def test_reports_exports_and_comparisons_read_the_folder(
    files: Path, tmp_path: Path, confidences: bool
) -> None:
    """Everything that reads a run folder, without times, without a model, and without classes."""
    asked = Asked(confidence="confidence", correct="correct") if confidences else ASKED
    words = ("A=@judge.csv", "B=@judge.csv") if confidences else ("A=@a.parquet", "B=@b.parquet")
    score(tables(files, *words, asked=asked), tmp_path, Wanted())
    for write in (write_report, write_html, write_csv, write_json):
        assert write(tmp_path).stat().st_size > 500
    with pytest.raises(UsageError, match="write csv or json"):
        write_model_card(tmp_path)
    with pytest.raises(UsageError, match="come without texts"):
        write_html(tmp_path, include_text=True)
    text = (tmp_path / "report.md").read_text()
    assert "Sentences/s" not in text
    assert "Where the time goes" not in text
    assert "## Against the reference" in text
    assert "None" not in text
    for command in (
        ["show", str(tmp_path)],
        ["compare", str(tmp_path), str(tmp_path)],
        ["check", str(tmp_path), "--against", str(tmp_path), "--max-regression", "ece=0.01"],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert "throughput" not in result.output
    refused = CliRunner().invoke(main, [*command[:-1], "throughput=5%"])
    assert refused.exit_code == 2
    assert "have no times" in refused.output


def test_a_report_says_how_its_files_were_scored(files: Path, tmp_path: Path) -> None:
    """The command scores the same files again, with folders to be filled in."""
    arguments = [f"A={files}/a.parquet", f"B={files}/b.parquet", *TABLE, "--posthoc", "temperature"]
    result = CliRunner().invoke(main, ["score", *arguments, "--prices", "A=1,B=2", "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "a" / "report.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("calibench score ")]
    assert line == (
        "calibench score A=PATH/TO/a.parquet B=PATH/TO/b.parquet --label label --probs 'p_*' --id id "
        "--prices A=1,B=2 --posthoc temperature --seed 0 --suite scored"
    )


def test_recommendations_go_by_quality_where_no_price_is_known(tmp_path: Path) -> None:
    """The sharper method is worse; from it the other is recommended, and its price is part of the words."""
    for name, scale in (("B", 3.0), ("A", 1.0)):
        pq.write_table(scored_files.table(900, scale=scale), tmp_path / f"{name}.parquet")
    found = tables(tmp_path, "@B.parquet", "@A.parquet")
    score(found, tmp_path / "a", Wanted())
    text = write_report(tmp_path / "a").read_text()
    assert "**Use `A`.**" in text
    assert "this goes by quality alone" in text
    assert "Cost against quality" not in text
    score(found, tmp_path / "b", Wanted(prices={"B": 0.002, "A": 0.003}))
    text = write_report(tmp_path / "b").read_text()
    assert "It costs 1.50 times the reference's price, 0.00300 per row." in text
    assert "| NLL, price |" in " ".join(text.split()).replace("  ", " ")
    assert "the reference's time" not in text.partition("## How to read this")[0]


def test_neither_torch_nor_transformers_is_imported(files: Path, tmp_path: Path) -> None:
    """Nor datasets nor baal: a file of predictions takes what reads and scores it, report and page "
    "included."""
    script = (
        "import sys\nfrom calibench.cli import main\n"
        "for words in ARGUMENTS:\n    main(words, standalone_mode=False)\n"
        "print({'torch', 'transformers', 'datasets', 'baal'} & sys.modules.keys())\n"
    ).replace("\\\n", "\n")
    given = [f"A={files}/a.parquet", f"B={files}/b.parquet", *TABLE, "--group", "region", "--prices", "usd"]
    steps = ["--posthoc", "temperature", "--posthoc", "vector", "--conformal", "aps", "-o", str(tmp_path)]
    arguments: list[Any] = [["score", *given, *steps], ["report", str(tmp_path), "--html"]]
    code = script.replace("ARGUMENTS", json.dumps(arguments))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few hundred rows are too large for memory, and read, resampled and stored in many parts."""
    monkeypatch.setattr("calibench.stats.mapped.IN_MEMORY", 100)
    monkeypatch.setattr("calibench.score.scored.IN_MEMORY", 100)
    monkeypatch.setattr("calibench.stats.mapped.PART", 800)
    monkeypatch.setattr("calibench.metrics.binning.PART", 800)
    monkeypatch.setattr("calibench.stats.mapped.COLUMNS", 2_000)


def calibrated(folder: Path, rows: int, classes: int) -> Path:
    """A parquet file of predictions whose labels are drawn from a flatter distribution than they say."""
    rng = np.random.default_rng(rows)
    logits = 2.0 * rng.standard_normal((rows, classes))
    said, true = (np.exp(scale * logits) for scale in (1.0, 0.8))
    said, true = said / said.sum(axis=1, keepdims=True), true / true.sum(axis=1, keepdims=True)
    labels = (rng.random((rows, 1)) > np.cumsum(true, axis=1)[:, :-1]).sum(axis=1)
    table = pa.table({"label": labels, **{f"p_{c}": said[:, c] for c in range(classes)}})
    pq.write_table(table, folder / "many.parquet", row_group_size=128)
    return folder / "many.parquet"


def numbers(record: Record) -> dict[str, list[float]]:
    """The value and the ends of every metric, NaN where there are none."""
    ends = ("value", "low", "high")
    found = record["metrics"].items()
    return {name: [np.nan if one[end] is None else one[end] for end in ends] for name, one in found}


@pytest.mark.parametrize(("rows", "classes"), [(600, 5), (10_500, 3)])
def test_a_file_that_does_not_fit_memory_reads_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, rows: int, classes: int
) -> None:
    """All numbers, hashes and stored predictions, below and above where sums are drawn from their limit."""
    file = calibrated(tmp_path, rows, classes)
    asked = Asked(label="label", probs="p_*")
    (whole,) = score(read_methods([str(file)], asked), tmp_path / "whole", Wanted())
    request.getfixturevalue("small_memory")
    tables = read_methods([str(file)], asked)
    assert is_mapped(tables[0].probs)
    (parts,) = score(tables, tmp_path / "parts", Wanted())
    assert parts["status"] == "ok"
    assert parts["cell"] == whole["cell"]
    ours, theirs = numbers(parts), numbers(whole)
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        assert found == pytest.approx(theirs[name], rel=1e-6, abs=1e-9, nan_ok=True), name
    stored = [load_predictions(tmp_path / name, one) for name, one in (("parts", parts), ("whole", whole))]
    assert_array_equal(stored[0].probs, stored[1].probs)
    assert_array_equal(stored[0].label, stored[1].label)
    assert write_report(tmp_path / "parts").exists()


def test_groups_of_a_file_that_does_not_fit_memory_read_the_same(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All metrics of all groups, and their verdicts."""
    file = calibrated(tmp_path, 600, 5)
    frame = pq.read_table(file)
    frame = frame.append_column("region", pa.array([f"r{i % 4}" for i in range(600)]))
    pq.write_table(frame, file, row_group_size=128)
    asked = Asked(label="label", probs="p_*", group="region")
    (whole,) = score(read_methods([str(file)], asked), tmp_path / "whole", Wanted())
    request.getfixturevalue("small_memory")
    given = read_methods([str(file)], asked)
    assert is_mapped(given[0].probs)
    (parts,) = score(given, tmp_path / "parts", Wanted())
    assert [one["name"] for one in parts["groups"]["groups"]] == ["r0", "r1", "r2", "r3"]
    for ours, theirs in zip(parts["groups"]["groups"], whole["groups"]["groups"], strict=True):
        assert numbers(ours) == {
            name: pytest.approx(found, rel=1e-6, abs=1e-9, nan_ok=True)
            for name, found in numbers(theirs).items()
        }
        against = [
            [one[key] for one in found["against_rest"].values()]
            for found in (ours, theirs)
            for key in ("value", "low", "high", "p_holm")
        ]
        assert against[:4] == [pytest.approx(found, rel=1e-6, abs=1e-9) for found in against[4:]]


@pytest.mark.usefixtures("small_memory")
def test_a_third_party_s_metric_is_not_given_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be given copies; the record says so, and all other metrics are there."""
    register(monkeypatch, halves=replace(NLL, name="halves"))
    file = calibrated(tmp_path, 600, 3)
    (record,) = score(
        read_methods([str(file)], Asked(label="label", probs="p_*")), tmp_path / "run", Wanted()
    )
    found = record["metrics"].pop("halves")
    assert found["value"] is None
    assert found["reason"].endswith("is given copies, and these probabilities are too many")
    assert all(one["value"] is not None for one in record["metrics"].values())


@pytest.mark.usefixtures("small_memory")
def test_what_needs_all_of_a_large_file_in_memory_is_refused(tmp_path: Path) -> None:
    """Before anything is scored, with the option that asked for it."""
    file = calibrated(tmp_path, 600, 3)
    asked = Asked(label="label", probs="p_*")
    for wanted in (Wanted(posthoc=("temperature",)), Wanted(recipes=recipes(["lac"], level=0.9))):
        with pytest.raises(
            UsageError, match=r"in memory, up to 33 rows of 3 classes, and 'many.parquet' has 600"
        ):
            score(read_methods([str(file)], asked), tmp_path / "run", wanted)
    assert not (tmp_path / "run").exists()
