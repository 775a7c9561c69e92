"""A model card is short, its numbers are the records', and the hub's own code reads its metadata."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

import report_example as example
from calibench.errors import UsageError
from calibench.report import write_eval_results, write_model_card
from calibench.report.writing.numbers import interval
from calibench.store.records import Record, write_records

TWO = (example.METHODS[0], example.METHODS[2])
REVISION = "a" * 40


def from_hub(record: Record) -> None:
    record["data"] |= {"name": "nyu-mll/glue", "config": "sst2", "revision": REVISION, "source": "hub"}


def build(folder: Path, change: Callable[[Record], Any] = from_hub, **about: Any) -> list[Record]:
    """The records of two methods on data of the hub."""
    records = example.build(folder, TWO, **about)
    for record in records:
        change(record)
    write_records(folder, records)
    return records


# --- the card ----------------------------------------------------------------------------------------------


def test_a_card_says_what_was_measured_and_what_to_use(tmp_path: Path) -> None:
    """In some forty lines: data and model, each row's main numbers, three lines of advice, a command."""
    records = build(tmp_path)
    text = write_model_card(tmp_path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 42
    assert "on `nyu-mll/glue` `sst2` (872 examples of the split `validation`" in text
    for record in records:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {record['method']['name']} ")]
        for name in ("accuracy", "ece", "nll", "brier"):
            assert interval(record["metrics"][name]) in line.replace("\u00a0", " ")
    assert [line[:9] for line in text.splitlines() if line.startswith("- **")] == [
        "- **Use:*",
        "- **It bu",
        "- **Undec",
    ]
    assert re.search(r"^calibench run sst2 .*-m frequentist -m mc-dropout ", text, re.MULTILINE)


def test_its_metadata_are_the_model_as_it_is(tmp_path: Path) -> None:
    """The hub's parser finds the reference's numbers to the last bit, on the data of that revision."""
    records = build(tmp_path)
    card = ModelCard.load(write_model_card(tmp_path))
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "sst2-minilm"
    reference = records[0]["metrics"]
    assert {result.metric_type: result.metric_value for result in results} == {
        "accuracy": reference["accuracy"]["value"],
        "ece": reference["ece"]["value"],
        "nll": reference["nll"]["value"],
        "brier_score": reference["brier"]["value"],
    }
    assert {
        (one.task_type, one.dataset_type, one.dataset_config, one.dataset_split, one.dataset_revision)
        for one in results
    } == {("text-classification", "nyu-mll/glue", "sst2", "validation", REVISION)}


def test_of_many_rows_those_that_decide_are_shown(tmp_path: Path) -> None:
    """The reference, and what is recommended though it comes last; the card says how many are left out."""
    others = tuple(example.Spec(f"other-{number}", 1.9, 30.0) for number in range(9))
    last = example.Spec("last", 1.0, 1.0, passes=1, noise=0.1)
    example.build(tmp_path, (example.METHODS[0], *others, last))
    text = write_model_card(tmp_path).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) ", text, re.MULTILINE)[1:]
    assert rows == ["frequentist", *(spec.name for spec in others[:6]), "last"]
    assert "- **Use:** `last`." in text
    assert " 3 more rows are in the report." in text
    assert len(text.splitlines()) < 50


def test_a_card_of_several_suites_has_a_part_for_each(tmp_path: Path) -> None:
    """Under a title that tells them apart."""
    write_records(tmp_path, [*build(tmp_path, suite="one", n=60), *build(tmp_path, suite="two", n=60)])
    text = write_model_card(tmp_path).read_text(encoding="utf-8")
    assert "\n## Calibration: `one`: " in text
    assert "\n## Calibration: `two`: " in text
    assert text.count("## How to reproduce") == 1


@pytest.mark.parametrize("write", [write_model_card, write_eval_results])
@pytest.mark.parametrize("models", [("a", "b"), ()])
def test_a_card_is_about_one_model(
    tmp_path: Path, models: tuple[str, ...], write: Callable[[Path], Path]
) -> None:
    """Results of two models, or of none, are refused."""
    made = [record for model in models for record in build(tmp_path, model=model, n=40)]
    write_records(tmp_path, made or example.build(tmp_path, (example.FAILED,)))
    with pytest.raises(UsageError, match=f"hold results of {len(models)}"):
        write(tmp_path)


# --- results for a benchmark -------------------------------------------------------------------------------


def test_results_are_read_back_by_the_hub_s_library(tmp_path: Path) -> None:
    """The accuracy of the reference, for the task that the configuration is."""
    reference, _ = build(tmp_path)
    path = write_eval_results(tmp_path)
    assert path == tmp_path / "eval-results.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("nyu-mll/glue", "sst2", REVISION)
    assert entry.value == reference["metrics"]["accuracy"]["value"]
    assert entry.date == reference["created"]
    accuracy, ece = (interval(reference["metrics"][name]) for name in ("accuracy", "ece"))
    assert entry.notes == f"split validation: accuracy {accuracy}, ECE {ece}"


def test_data_without_a_configuration_are_the_default_task(tmp_path: Path) -> None:
    """As the hub calls it."""
    build(tmp_path, lambda record: record["data"].update(name="me/mine", source="hub"))
    (entry,) = yaml.safe_load(write_eval_results(tmp_path).read_text(encoding="utf-8"))
    assert entry["dataset"] == {"id": "me/mine", "task_id": "default"}


def of_a_subset(record: Record) -> None:
    from_hub(record)
    record["data"]["limit"] = 872


def without_accuracy(record: Record) -> None:
    from_hub(record)
    del record["metrics"]["accuracy"]


@pytest.mark.parametrize(
    ("change", "about", "said"),
    [
        (lambda _: None, {}, "'sst2' did not come from there"),
        (of_a_subset, {}, "run without --limit"),
        (without_accuracy, {}, "the reference has none"),
        (from_hub, {"seeds": (0, 1)}, "several of one"),
    ],
    ids=["a folder", "a subset", "no accuracy", "two seeds"],
)
def test_what_is_no_result_of_a_benchmark_is_refused(
    tmp_path: Path, change: Callable[[Record], Any], about: dict[str, Any], said: str
) -> None:
    """A number on a leaderboard is of the whole split, and one for each task."""
    build(tmp_path, change, **about)
    with pytest.raises(UsageError, match=said):
        write_eval_results(tmp_path)
    assert not (tmp_path / "eval-results.yaml").exists()
