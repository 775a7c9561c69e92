"""The paragraph of a leaderboard says what is shown and what is not, on boards whose truth is known."""

from __future__ import annotations

from pathlib import Path

import boards
from calibench.compare.leaderboard import leaderboard
from calibench.report.writing.leaderboard_words import runs, summary, winners_words

METHODS = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.5}


def test_a_method_that_is_better_everywhere(tmp_path: Path) -> None:
    """It is named, with what it is shown better than, and few tasks are called few."""
    text = summary(leaderboard([boards.write_tasks(tmp_path, 8, METHODS, n=400)], ["nll"]))
    assert text.startswith("3 methods on 8 tasks, 3,200 examples in all; the reference is `frequentist`.")
    assert "In NLL `temperature` has the best mean rank, 1.0 [1.0, " in text
    assert "`temperature` is shown better than `frequentist`" in text
    assert "Shown better than the reference: " in text
    assert "8 tasks are few" in text


def test_equal_methods_are_not_told_apart(tmp_path: Path) -> None:
    """Nothing is shown, and the words say so instead of naming a winner."""
    equal = dict.fromkeys(("frequentist", "a", "b"), 1.3)
    text = summary(leaderboard([boards.write_tasks(tmp_path, 5, equal, n=60)], ["nll"]))
    assert "No two methods are told apart across tasks" in text
    assert "is shown better than" not in text
    assert "Within tasks no method is shown better or worse than the reference." in text


def test_two_tasks_show_nothing_across_them(tmp_path: Path) -> None:
    """How few there are, and that the tables within tasks stand."""
    text = summary(leaderboard([boards.write_tasks(tmp_path, 2, METHODS)], ["nll"]))
    assert "Nothing across tasks is tested or bounded (n too small: 2 tasks" in text
    assert "the verdicts within each task stand by themselves" in text
    assert "shown better than the reference most often" in text
    assert "Friedman" not in text


def test_so_few_tasks_that_nothing_could_be_shown(tmp_path: Path) -> None:
    """With two methods on three tasks no distance is large enough, and that is said."""
    two = {"frequentist": 2.2, "temperature": 1.0}
    text = summary(leaderboard([boards.write_tasks(tmp_path, 3, two)], ["nll"]))
    assert "more tasks are needed to show anything" in text


def test_checkpoints_are_counted(tmp_path: Path) -> None:
    """Replicates are named as such and add no task."""
    for model in "ab":
        boards.write(tmp_path / model, "data", METHODS, model=model)
    assert "3 methods on 1 task, 200 examples in all, with 2 checkpoints or seeds on each" in summary(
        leaderboard([tmp_path], ["nll"])
    )


def test_a_change_of_winner_is_shown_or_not(tmp_path: Path) -> None:
    """Another method far better on one task is shown there; the runs follow the order that is given."""
    for task in range(3):
        boards.write(tmp_path / f"{task}", f"data-{task}", METHODS, noise=0.1, n=600)
    swapped = {"frequentist": 2.2, "temperature": 2.6, "mc-dropout": 1.0}
    boards.write(tmp_path / "last", "other", swapped, noise=0.1, n=1500)
    found = leaderboard([tmp_path], ["nll"])
    assert "`temperature` comes out best in NLL in 3 of 4 tasks." in winners_words(found)
    assert "Another is shown better than it on `other`." in winners_words(found)
    ordered = sorted(found.winners, key=lambda one: one.n)
    assert runs(found, ordered) == "temperature (3), then mc-dropout"
