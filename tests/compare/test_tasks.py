"""What is a task, what is a row, and what is not ranked, said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

import boards
from calibench.compare.tasks import find_runs, read_field
from calibench.errors import UsageError
from calibench.store.records import Record

METHODS = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.3}


def said(path: Path, part: str, **settings: int) -> str:
    """The sentence about what is left out that has this part."""
    (sentence,) = (text for text in read_field([path], **settings).left_out if part in text)
    return sentence


def test_run_folders_are_found_at_any_depth(tmp_path: Path) -> None:
    """Each once, whichever way it is named; nothing there is a usage error."""
    boards.write_tasks(tmp_path / "deep" / "down", 2, METHODS)
    found = find_runs([tmp_path, tmp_path / "deep" / "down" / "task-0"])
    assert [path.name for path in found] == ["task-0", "task-1"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run folder at or under"):
        find_runs([tmp_path, tmp_path / "empty"])


def test_checkpoints_and_seeds_are_replicates_of_one_task(tmp_path: Path) -> None:
    """Two checkpoints and two seeds on one data set are one task; other content or classes another."""
    for model, seed in (("a", 0), ("a", 1), ("b", 0)):
        boards.write(tmp_path / f"{model}{seed}", "data", METHODS, model=model, seed=seed)
    boards.write(tmp_path / "other", "other", METHODS)
    boards.write(tmp_path / "classes", "data", METHODS, classes=4, texts="others")
    field = read_field([tmp_path])
    assert sorted(len(task.replicates) for task in field.tasks) == [1, 1, 3]
    assert len({task.name for task in field.tasks}) == 3


def test_the_order_of_classes_makes_no_task(tmp_path: Path) -> None:
    """Two checkpoints that list the same classes otherwise are replicates."""
    boards.write(tmp_path / "a", "data", METHODS)
    boards.write(tmp_path / "b", "data", METHODS, model="b")
    boards.change(tmp_path / "b", lambda record: record["data"]["labels"].reverse())
    (task,) = read_field([tmp_path]).tasks
    assert len(task.replicates) == 2


def test_a_part_of_a_data_set_is_no_task(tmp_path: Path) -> None:
    """A limit of the same data set has another hash and the same texts."""
    boards.write(tmp_path / "whole", "data", METHODS, n=200)
    boards.write(tmp_path / "part", "data", METHODS, n=60)
    assert [task.examples for task in read_field([tmp_path]).tasks] == [200]
    assert "data, 60 is left out: most of its texts are in data, 200" in said(tmp_path, "most of its texts")


def test_a_row_that_is_not_in_every_task_is_left_out_and_named(tmp_path: Path) -> None:
    """With `min_tasks` it is the task that goes."""
    boards.write_tasks(tmp_path, 3, METHODS)
    boards.write(tmp_path / "few", "few", {"frequentist": 2.0, "temperature": 1.0})
    field = read_field([tmp_path])
    assert [field.labels[row] for row in field.rows] == ["frequentist", "temperature"]
    assert "lack few (not there): mc-dropout" in said(tmp_path, "not in every task")
    shared = read_field([tmp_path], min_tasks=3)
    assert len(shared.tasks) == 3
    assert len(shared.rows) == 3
    assert said(tmp_path, "few lacks some", min_tasks=3)


def test_failed_cells_are_counted_and_named(tmp_path: Path) -> None:
    """A method that failed on a task is not ranked, with the reason."""
    boards.write_tasks(tmp_path, 2, METHODS)
    boards.write(tmp_path / "bad", "bad", METHODS, failed=("mc-dropout",))
    field = read_field([tmp_path])
    assert field.failed == 1
    assert field.cells == 9
    assert said(tmp_path, "1 cell failed").endswith("mc-dropout on bad.")
    assert "bad (failed): mc-dropout" in said(tmp_path, "not in every task")


def test_a_task_without_predictions_is_left_out(tmp_path: Path) -> None:
    """Its records hold values, and no examples to pair."""
    boards.write_tasks(tmp_path, 2, METHODS)
    boards.write(tmp_path / "bare", "bare", METHODS, stored=False)
    assert len(read_field([tmp_path]).tasks) == 2
    assert "no predictions are stored" in said(tmp_path, "bare is left out")


def test_another_version_of_a_metric_is_left_out(tmp_path: Path) -> None:
    """A record that defines a metric otherwise is not ranked beside those of this version."""
    boards.write_tasks(tmp_path, 2, METHODS)

    def older(record: Record) -> None:
        record["metrics"]["accuracy"]["definition"] = {"ties": "all of equal classes"}

    boards.change(tmp_path / "task-1", older)
    assert "another version of the metric accuracy" in said(tmp_path, "data-1 is left out")


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """The later one, and it is said which."""
    boards.write(tmp_path / "first", "data", METHODS)
    boards.write(tmp_path / "second", "data", METHODS)
    boards.change(tmp_path / "second", lambda record: record.update(created="2027-01-01T00:00:00+00:00"))
    (task,) = read_field([tmp_path]).tasks
    assert {cell.folder.name for cell in task.replicates[0].cells.values()} == {"second"}
    assert "the later of" in said(tmp_path, "There twice on data")


def test_references_that_differ_are_refused(tmp_path: Path) -> None:
    """The user chooses, by the label or by the method's name."""
    boards.write_tasks(tmp_path, 2, METHODS)

    def moved(record: Record) -> None:
        record["reference"] = record["method"]["name"] == "temperature"

    boards.change(tmp_path / "task-1", moved)
    with pytest.raises(UsageError, match="frequentist in data-0; temperature in data-1"):
        read_field([tmp_path])
    field = read_field([tmp_path], reference="mc-dropout")
    assert field.labels[field.rows[0]] == "mc-dropout"
    with pytest.raises(UsageError, match="'knn' is none of the methods ranked"):
        read_field([tmp_path], reference="knn")


def test_scores_are_no_rows(tmp_path: Path) -> None:
    """A method whose probabilities are another's would only repeat it."""
    boards.write_tasks(tmp_path, 2, METHODS)

    def only_score(record: Record) -> None:
        record["method"]["score_only"] = record["method"]["name"] == "mc-dropout"

    for folder in tmp_path.iterdir():
        boards.change(folder, only_score)
    assert len(read_field([tmp_path]).rows) == 2
    assert said(tmp_path, "add a score").endswith("mc-dropout.")


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    """Two tasks that share one method cannot be ranked."""
    boards.write(tmp_path / "a", "a", {"frequentist": 1.0, "temperature": 1.0})
    boards.write(tmp_path / "b", "b", {"frequentist": 1.0, "mc-dropout": 1.0})
    with pytest.raises(UsageError, match="No two methods are in every task"):
        read_field([tmp_path])
