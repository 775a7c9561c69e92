"""What a leaderboard consists of, in order; the same for markdown and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from calibench.compare.leaderboard import Board, Standing, Winner
from calibench.compare.ranks import Apart
from calibench.compare.verdicts import UNDECIDED
from calibench.report.drawing.drawing import Drawing
from calibench.report.parts.critical import critical_drawing, front_drawing
from calibench.report.writing import leaderboard_words as words
from calibench.report.writing.numbers import fraction, significant
from calibench.report.writing.sheets import Heading, Sheet, sheet
from calibench.report.writing.tables import ABSENT, Cell
from calibench.report.writing.words import code
from calibench.types import Interval, Metric

Shown = TypeVar("Shown", Sheet, Drawing)

_ARROWS = {"lower": "↓", "higher": "↑", "zero": "→ 0"}
_TONES = {"better": "right", "worse": "wrong"}
_METHOD = Heading("Method", "A method with its parameters and post-hoc step.", text=True)
_TASK = Heading("Task", "A data set, by the hash of its content, and its classes.", text=True)


@dataclass(frozen=True, eq=False)
class Chapter:
    """A heading with what stands under it."""

    title: str
    text: str = ""
    sheets: tuple[Sheet, ...] = ()
    drawings: tuple[Drawing, ...] = ()


def chapters(board: Board) -> list[Chapter]:
    """The parts of a leaderboard; call and draw inside `style.styled()`."""
    first = board.standings[0]
    diagram = critical_drawing(board, first)
    front = front_drawing(board)
    found = [
        Chapter("Ranking", words.ranks_words(board), (ranking(board),)),
        Chapter("Against the reference", words.verdicts_words(board), _some(verdicts(board))),
        Chapter("Which methods differ", words.apart_words(first), (), _some(diagram)),
        Chapter("Quality against cost", "", (), _some(front)),
        Chapter("Cost at matched quality", words.matched_words(board), _some(matched(board))),
        Chapter("Where the winner changes", words.winners_words(board), _winner_sheets(board)),
        Chapter("By task", _by_task_words(board), tuple(by_task(board, one) for one in board.standings)),
        Chapter("Tasks", "", (tasks(board),)),
    ]
    return [one for one in found if one.sheets or one.drawings or one.text]


def _some(item: Shown | None) -> tuple[Shown, ...]:
    return () if item is None else (item,)


def title_of(metric: Metric) -> str:
    """The metric with the direction in which it is better."""
    return f"{metric.title} {_ARROWS[metric.better]}"


def _method(board: Board, at: int) -> Cell:
    return Cell(board.labels[at])


def _rank(interval: Interval) -> Cell:
    assert interval.value is not None
    ends = None if interval.low is None or interval.high is None else (interval.low, interval.high)
    return Cell(words.rank_with_ends(interval), interval.value, span=ends)


def _cost(interval: Interval) -> Cell:
    if interval.value is None:
        return Cell(ABSENT, reason=None)
    text = f"{significant(interval.value)}x"
    if interval.low is None or interval.high is None:
        return Cell(text, interval.value)
    return Cell(f"{text} [{significant(interval.low)}, {significant(interval.high)}]", interval.value)


def ranking(board: Board) -> Sheet:
    """Mean ranks in every metric, best first in the foremost, with the cost over tasks."""
    headings = [_METHOD]
    headings += [
        Heading(f"rank, {one.metric.title}", "Mean rank over tasks with its 95% interval; 1 is best.")
        for one in board.standings
    ]
    if board.costed:
        headings.append(Heading("cost ↓", "Time over the reference's, the geometric mean over tasks."))
    if board.front is not None:
        headings.append(
            Heading(
                "on the front",
                "P(no other method ranks as well and costs as little), over tasks and examples.",
            )
        )
    order = board.standings[0].order
    rows = []
    for at in order:
        cells = [_method(board, at), *(_rank(one.mean_ranks[at]) for one in board.standings)]
        cells += [_cost(board.costs[at])] if board.costed else []
        cells += [] if board.front is None else [_share(float(board.front[at]))]
        rows.append(cells)
    return sheet("Ranking", headings, rows, order.index(0))


def _share(share: float) -> Cell:
    if not np.isfinite(share):
        return Cell(ABSENT)
    text = "<1%" if share < 0.01 else ">99%" if share > 0.99 else f"{100 * share:.0f}%"
    return Cell(text, share)


def verdicts(board: Board) -> Sheet | None:
    """Wins, ties and losses against the reference; None where no metric has verdicts."""
    tested = [one for one in board.standings if one.verdicts is not None]
    if not tested:
        return None
    headings = [_METHOD]
    headings += [
        Heading(
            f"{one.metric.title}", "Tasks in which it is shown better - not shown to differ - shown worse."
        )
        for one in tested
    ]
    rows = [
        [_method(board, at), *(_record(one, at, len(board.field.tasks)) for one in tested)]
        for at in board.standings[0].order
        if at != 0
    ]
    return sheet("Wins - ties - losses", headings, rows)


def _record(standing: Standing, at: int, tasks: int) -> Cell:
    won, lost = (standing.count(at, word) or 0 for word in ("better", "worse"))
    tone = "right" if won > lost else "wrong" if lost > won else None
    return Cell(f"{won} - {tasks - won - lost} - {lost}", won - lost, tone=tone)


def matched(board: Board) -> Sheet | None:
    """What each method takes where it is as good as the best in NLL."""
    if board.target is None or not board.costed:
        return None
    headings = (
        _METHOD,
        Heading("as good in", "Tasks in which it is shown no worse than the best in NLL."),
        Heading(
            "cost over the best ↓", "Geometric mean over those tasks, with its 95% interval from three on."
        ),
    )
    rows = [
        [
            _method(board, at),
            Cell(f"{one.tasks} of {len(board.field.tasks)}", one.tasks),
            Cell(one.cost.reason or ABSENT, reason=one.cost.reason)
            if one.cost.value is None
            else _cost(one.cost),
        ]
        for at, one in enumerate(board.matched)
    ]
    return sheet("Cost at matched quality", headings, rows, 0)


_ORDERS: tuple[tuple[str, Callable[[Winner], float]], ...] = (
    ("size, rising", lambda winner: winner.n),
    ("accuracy, rising", lambda winner: winner.accuracy),
    ("classes, rising", lambda winner: winner.task.classes),
)


def _winner_sheets(board: Board) -> tuple[Sheet, ...]:
    ways = [[Cell(name), Cell(words.runs(board, sorted(board.winners, key=key)))] for name, key in _ORDERS]
    along = sheet(
        "Along an order",
        (Heading("tasks by", text=True), Heading("best, with how many tasks in a row", text=True)),
        ways,
    )
    found = (winners(board), along) if len(board.winners) > 1 else (winners(board),)
    return (*found, shifted(board)) if board.shifts else found


def winners(board: Board) -> Sheet:
    """The best method of each task, and what it is not shown better than."""
    title = board.standings[0].metric.title
    headings = (
        _TASK,
        Heading("examples", "In scope."),
        Heading("classes"),
        Heading("accuracy", "Of the reference."),
        Heading(f"best in {title}", "By its estimate.", text=True),
        Heading(
            "shown?",
            "Whether it is shown better than all others, or which it is not told apart from.",
            text=True,
        ),
    )
    rows = [
        [
            Cell(one.task.name),
            Cell(f"{one.n:,}", one.n),
            Cell(str(one.task.classes), one.task.classes),
            Cell(fraction(one.accuracy, 3), one.accuracy),
            Cell(", ".join(board.labels[at] for at in one.best)),
            _told(board, one),
        ]
        for one in sorted(board.winners, key=lambda one: one.n)
    ]
    return sheet("Winners", headings, rows)


def _told(board: Board, winner: Winner) -> Cell:
    if winner.alike is None:
        return Cell("not tested")
    if len(winner.best) > 1:
        return Cell("a tie")
    if not winner.alike:
        return Cell("yes", tone="right")
    return Cell(f"not from {', '.join(board.labels[at] for at in winner.alike)}")


def shifted(board: Board) -> Sheet:
    """The best method on shifted data."""
    headings = (
        _TASK,
        Heading("shift", text=True),
        Heading("strength"),
        Heading(
            f"best in {board.shift_metric}",
            "By its estimate; of shifts no predictions are stored.",
            text=True,
        ),
        Heading("another than without?", text=True),
    )
    rows = [
        [
            Cell(one.task),
            Cell(one.kind),
            Cell(ABSENT) if one.strength is None else Cell(f"{one.strength:g}", one.strength),
            Cell(", ".join(board.labels[at] for at in one.best)),
            Cell("yes, not tested" if one.changed else "no"),
        ]
        for one in board.shifts
    ]
    return sheet("Under shift", headings, rows)


def by_task(board: Board, standing: Standing) -> Sheet:
    """The metric of every method on every task, with the verdict against the reference."""
    headings = [
        Heading(title_of(standing.metric), "A method.", text=True),
        *(
            Heading(task.name, "The metric, and the verdict against the reference.")
            for task in board.field.tasks
        ),
    ]
    rows = []
    for at in standing.order:
        cells = [_method(board, at)]
        for task in range(len(board.field.tasks)):
            verdict = None if standing.verdicts is None else standing.verdicts[task].get(at)
            word = "" if verdict in (None, UNDECIDED) else f" {verdict}"
            value = float(standing.values[task, at])
            cells.append(Cell(fraction(value) + word, value, tone=_TONES.get(verdict or "")))
        rows.append(cells)
    return sheet(standing.metric.title, headings, rows, standing.order.index(0))


def _by_task_words(board: Board) -> str:
    return (
        f"Where no word stands beside a number, no difference from {code(board.labels[0])} is shown "
        f"there. Numbers "
        "are means over the checkpoints and seeds of a task."
    )


def tasks(board: Board) -> Sheet:
    """What the tasks are."""
    headings = (
        _TASK,
        Heading("split", text=True),
        Heading("examples"),
        Heading("classes"),
        Heading("checkpoints and seeds", text=True),
        Heading("data", "Start of the hash of texts, labels and split.", text=True),
    )
    rows = [
        [
            Cell(task.name),
            Cell(str(task.data.get("split") or ABSENT)),
            Cell(f"{task.examples:,}", task.examples),
            Cell(str(task.classes), task.classes),
            Cell("; ".join(one.name for one in task.replicates)),
            Cell(str(task.data["sha256"])[:12]),
        ]
        for task in board.field.tasks
    ]
    return sheet("Tasks", headings, rows)


def pairs(standing: Standing, labels: Sequence[str]) -> list[tuple[str, str, float]]:
    """Every pair of methods with its adjusted p-value; none where nothing is tested."""
    found = standing.apart
    if not isinstance(found, Apart):
        return []
    return [
        (labels[a], labels[b], float(found.adjusted[a, b]))
        for a in range(len(labels))
        for b in range(a + 1, len(labels))
    ]
