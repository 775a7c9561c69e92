"""A whole board from folders whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boards
from calibench.compare.leaderboard import Board, leaderboard
from calibench.compare.ranks import Apart
from calibench.errors import UsageError
from calibench.store.records import Record

METHODS = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.5}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Eight tasks on which temperature is best throughout, and the reference worst."""
    folder = tmp_path_factory.mktemp("board")
    return leaderboard([boards.write_tasks(folder, 8, METHODS, n=400)], ["nll", "accuracy"])


def test_a_method_better_everywhere_is_called_better(board: Board) -> None:
    """First on every task, told apart across them, and better within most."""
    standing = board.standings[0]
    best = board.labels.index("temperature")
    assert standing.order[0] == best
    assert standing.mean_ranks[best].value == 1.0
    assert isinstance(standing.apart, Apart)
    assert standing.apart.shown()[0, best]
    assert (standing.count(best, "better") or 0) >= 6
    assert standing.count(best, "worse") == 0


def test_costs_are_geometric_means_of_ratios(board: Board) -> None:
    """The ratios of the records, which are alike in all tasks."""
    for label, cost in zip(board.labels, board.costs, strict=True):
        assert cost.value == pytest.approx(boards.COSTS[label])


def test_cost_at_matched_quality_is_over_the_best(board: Board) -> None:
    """The best is as good as itself everywhere, at its own cost; the reference nowhere."""
    assert board.target == board.labels.index("temperature")
    assert board.matched[board.target].tasks == 8
    assert board.matched[board.target].cost.value == pytest.approx(1.0)
    assert board.matched[0].tasks == 0
    assert board.matched[0].cost.reason == "shown no worse in no task"


def test_the_front_holds_the_cheapest_and_the_best(board: Board) -> None:
    """A method that is dearer and worse is not on it."""
    assert board.front is not None
    share = dict(zip(board.labels, board.front, strict=True))
    assert share["temperature"] > 0.9
    assert share["mc-dropout"] < 0.1


def equal_boards(folder: Path, count: int) -> list[Board]:
    """Boards of eight tasks on which all methods are equally good."""
    made = []
    for number in range(count):
        methods = dict.fromkeys(("frequentist", "a", "b"), 1.3)
        for task in range(8):
            boards.write(folder / f"{number}" / f"{task}", f"{number}-{task}", methods, n=60, classes=2)
        made.append(leaderboard([folder / f"{number}"], ["nll"]))
    return made


def test_equal_methods_are_hardly_ever_told_apart(tmp_path: Path) -> None:
    """Of 20 whole boards of equal methods two are allowed to call a difference: 5% would have that in 92%."""
    found = equal_boards(tmp_path, 20)
    called = [one.standings[0].apart for one in found]
    assert sum(bool(item.shown().any()) for item in called if isinstance(item, Apart)) <= 2


def test_the_same_predictions_tie(tmp_path: Path) -> None:
    """Rounding of float32 does not rank a method before another that says the same."""
    methods = {"frequentist": 2.0, "temperature": 1.0}
    boards.write_tasks(tmp_path, 3, methods)
    for folder in sorted(tmp_path.iterdir()):
        copy_predictions(folder)
    standing = leaderboard([tmp_path], ["nll"]).standings[0]
    assert np.array_equal(standing.ranks, np.full((3, 2), 1.5))


def copy_predictions(folder: Path) -> None:
    """Let the second row of a folder say what the first one says, but for the seventh digit."""
    import pyarrow.parquet as pq

    first, second = sorted((folder / "predictions").iterdir())
    table = pq.read_table(first)
    p = table.column("p_0").to_numpy() * (1 + 1e-7)
    pq.write_table(table.set_column(table.column_names.index("p_0"), "p_0", [p]), second)


def test_other_machines_have_no_cost(tmp_path: Path) -> None:
    """A row that was timed elsewhere than its reference is dearer or cheaper for that alone."""
    boards.write_tasks(tmp_path, 3, METHODS)

    def moved(record: Record) -> None:
        if record["method"]["name"] == "temperature":
            record["environment"]["fingerprint"] = "another"

    boards.change(tmp_path / "task-2", moved)
    found = leaderboard([tmp_path], ["nll"])
    cost = dict(zip(found.labels, found.costs, strict=True))
    assert cost["temperature"].value is None
    assert cost["temperature"].reason == "not timed beside the reference in 1 of 3 tasks"
    assert cost["mc-dropout"].value == pytest.approx(20.0)


def test_untimed_has_no_cost_and_another_reference_its_own_ratios(tmp_path: Path) -> None:
    """Without times the reason stands there; with another reference ratios are divided."""
    boards.write_tasks(tmp_path / "timed", 3, METHODS)
    found = leaderboard([tmp_path / "timed"], ["nll"], reference="temperature")
    cost = dict(zip(found.labels, found.costs, strict=True))
    assert cost["mc-dropout"].value == pytest.approx(20.0 / 1.05)
    assert cost["temperature"].value == 1.0
    boards.write_tasks(tmp_path / "untimed", 3, METHODS, timed=False)
    untimed = leaderboard([tmp_path / "untimed"], ["nll"])
    assert {one.reason for one in untimed.costs} == {"nothing was timed"}
    assert untimed.front is None


def test_where_the_winner_changes(tmp_path: Path) -> None:
    """Another method wins on the larger tasks, and that is shown."""
    for task in range(4):
        swapped = {"frequentist": 2.2, "temperature": 2.6, "mc-dropout": 1.0} if task > 1 else METHODS
        n = 1500 if task > 1 else 300
        boards.write(tmp_path / f"{task}", f"data-{task}", swapped, n=n, noise=0.1)
    found = leaderboard([tmp_path], ["nll"])
    best = {one.task.name: [found.labels[at] for at in one.best] for one in found.winners}
    assert best["data-0"] == ["temperature"]
    assert best["data-3"] == ["mc-dropout"]
    assert found.winners[3].alike == ()


def test_the_winner_under_shift_is_read_from_records(tmp_path: Path) -> None:
    """Shifted data have values in the records: the best by them, and whether it is another."""
    boards.write_tasks(tmp_path, 1, METHODS)
    shifted = {"frequentist": 0.9, "temperature": 0.8, "mc-dropout": 0.7}

    def add(record: Record) -> None:
        name = record["method"]["name"]
        record["metrics"]["nll"] = {"value": METHODS[name]}
        values: dict[str, Any] = {"nll": {"value": shifted[name]}}
        record["shifts"] = [
            {"kind": "typos", "strength": 0.5, "name": "data", "sha256": "s", "metrics": values}
        ]

    boards.change(tmp_path / "task-0", add)
    found = leaderboard([tmp_path], ["nll"])
    (one,) = found.shifts
    assert [found.labels[at] for at in one.best] == ["mc-dropout"]
    assert one.changed


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("oos_auroc", "needs examples out of scope"),
        ("posterior_error", "needs the true probability"),
        ("nl", "did you mean"),
    ],
)
def test_a_metric_that_is_not_in_every_task_is_refused(tmp_path: Path, metric: str, message: str) -> None:
    """In one sentence, before anything is computed."""
    boards.write_tasks(tmp_path, 1, METHODS)
    with pytest.raises(UsageError, match=message):
        leaderboard([tmp_path], [metric])


def test_the_same_folders_give_the_same_board(tmp_path: Path) -> None:
    """Resampling has a fixed seed."""
    boards.write_tasks(tmp_path, 3, METHODS)
    first, second = (leaderboard([tmp_path]) for _ in range(2))
    assert first.standings[0].mean_ranks == second.standings[0].mean_ranks
