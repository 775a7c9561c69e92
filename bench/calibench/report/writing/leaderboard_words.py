"""A leaderboard in words: what it shows, and what it does not with this few tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from calibench.compare.leaderboard import Board, Standing, Winner
from calibench.compare.noninferiority import MARGIN
from calibench.compare.ranks import Apart
from calibench.report.writing.numbers import fraction, significant
from calibench.report.writing.words import code, join
from calibench.types import Interval

#: Up to this p-value it is written out.
_SMALL = 0.001
#: Tasks below which the summary says that they are few.
_FEW = 10


def rank(value: float) -> str:
    """A mean rank, `1.4`."""
    return f"{value:.1f}"


def rank_with_ends(interval: Interval) -> str:
    """`1.4 [1.0, 2.1]`, or the value alone."""
    assert interval.value is not None
    if interval.low is None or interval.high is None:
        return rank(interval.value)
    return f"{rank(interval.value)} [{rank(interval.low)}, {rank(interval.high)}]"


def p_value(value: float) -> str:
    """`p = .012` or `p < .001`."""
    return "p < .001" if value < _SMALL else f"p = {fraction(value, 3)}"


def counted(count: int, what: str) -> str:
    """`1 task`, `8 tasks`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def listed(labels: Iterable[str]) -> str:
    """All of them as code."""
    return join([code(label) for label in labels])


def summary(board: Board) -> str:
    """What is and is not shown, in one paragraph."""
    first, *others = board.standings
    sentences = [_scope(board), *_foremost(board, first), *_within(board, first)]
    sentences += [text for standing in others for text in _further(standing)]
    tasks = len(board.field.tasks)
    if isinstance(first.apart, Apart) and tasks < _FEW:
        sentences.append(
            f"{counted(tasks, 'task').capitalize()} are few: what is not shown here may be there all the "
            f"same."
        )
    return " ".join(sentences)


def _scope(board: Board) -> str:
    field = board.field
    examples = sum(winner.n for winner in board.winners)
    replicates = [len(task.replicates) for task in field.tasks]
    text = (
        f"{counted(len(field.rows), 'method')} on {counted(len(field.tasks), 'task')}, "
        f"{counted(examples, 'example')} in all"
    )
    if max(replicates) > 1:
        least, most = min(replicates), max(replicates)
        text += f", with {least if least == most else f'{least} to {most}'} checkpoints or seeds on each"
    return f"{text}; the reference is {code(board.labels[0])}."


def _foremost(board: Board, standing: Standing) -> Iterator[str]:
    labels, title, found = board.labels, standing.metric.title, standing.apart
    best = standing.order[0]
    tied = [at for at in standing.order if standing.ranks[:, at].sum() == standing.ranks[:, best].sum()]
    have = "has" if len(tied) == 1 else "share"
    yield (
        f"In {title} {listed(labels[at] for at in tied)} {have} the best mean rank, "
        f"{rank_with_ends(standing.mean_ranks[best])} of {len(labels)}."
    )
    if isinstance(found, str):
        yield (
            f"Nothing across tasks is tested or bounded ({found}): mean ranks only describe these tasks, "
            f"and the "
            "verdicts within each task stand by themselves."
        )
        return
    yield from _tested(board, standing, found, best)


def _tested(board: Board, standing: Standing, found: Apart, best: int) -> Iterator[str]:
    labels, shown = board.labels, found.shown()
    methods, tasks = len(labels), len(board.field.tasks)
    if not shown.any():
        yield (
            f"No two methods are told apart across tasks (Friedman {p_value(found.p_value)}), the best "
            f"and the "
            "reference no more than others."
        )
    else:
        behind = [at for at in standing.order if shown[best, at]]
        level = [at for at in standing.order if at != best and not shown[best, at]]
        if behind:
            yield (
                f"Across tasks {code(labels[best])} is shown better than "
                f"{listed(labels[at] for at in behind)} "
                f"(Friedman {p_value(found.p_value)}, pairs by Holm)."
            )
        if level:
            yield f"It is not shown better than {listed(labels[at] for at in level)}."
        if best != 0:
            yield _against_reference(labels, standing, shown)
    if found.critical >= methods - 1:
        yield (
            f"With {methods} methods on {tasks} tasks two mean ranks would have to be {rank(found.critical)} "
            f"apart by Nemenyi's criterion, and cannot be more than {methods - 1} apart: more tasks are "
            f"needed "
            "to show anything."
        )
    else:
        yield (
            f"By Nemenyi's criterion two mean ranks must be {rank(found.critical)} apart to be told apart on "
            "this many tasks."
        )


def _against_reference(labels: Sequence[str], standing: Standing, shown: np.ndarray) -> str:
    means = standing.ranks.mean(axis=0)
    better = [at for at in standing.order if shown[0, at] and means[at] < means[0]]
    worse = [at for at in standing.order if shown[0, at] and means[at] > means[0]]
    said = [
        f"{verdict} than the reference: {listed(labels[at] for at in which)}"
        for verdict, which in (("better", better), ("worse", worse))
        if which
    ]
    if not said:
        return f"No method is shown to differ from the reference {code(labels[0])} across tasks."
    return f"Shown {'; '.join(said)}."


def _within(board: Board, standing: Standing) -> Iterator[str]:
    """Verdicts within tasks, of the methods that have some."""
    if standing.verdicts is None:
        yield f"{standing.metric.title} has no verdicts within tasks."
        return
    tasks = len(board.field.tasks)
    better = [(standing.count(at, "better") or 0, at) for at in range(1, len(board.labels))]
    worse = [(standing.count(at, "worse") or 0, at) for at in range(1, len(board.labels))]
    parts = []
    for word, counts in (("better", better), ("worse", worse)):
        most = max(count for count, _ in counts)
        if most:
            which = listed(board.labels[at] for count, at in counts if count == most)
            parts.append(f"{word} than the reference most often is {which}, in {most} of {tasks}")
    if parts:
        yield f"Within tasks, shown {'; '.join(parts)}."
    else:
        yield "Within tasks no method is shown better or worse than the reference."


def _further(standing: Standing) -> Iterator[str]:
    found = standing.apart
    if isinstance(found, str):
        return
    pairs = int(found.shown().sum()) // 2
    told = (
        f"{counted(pairs, 'pair')} of methods {'is' if pairs == 1 else 'are'} told apart"
        if pairs
        else ("no two methods are told apart")
    )
    yield f"In {standing.metric.title} {told} across tasks (Friedman {p_value(found.p_value)})."


def ranks_words(board: Board) -> str:
    """How the table of ranks is to be read."""
    text = (
        "Rank 1 is the best on a task, ties share their average, and a mean rank is over tasks. Its interval "
        "holds 95% of what other tasks like these, of the same sizes, would have given: tasks are drawn "
        "again, "
        "and within each the examples, the same ones for all methods. A rank depends on which methods "
        "are there."
    )
    return f"{text} {_costs(board)}"


def _costs(board: Board) -> str:
    if not board.costed:
        return f"There are no costs: {board.costs[0].reason}."
    return (
        "The cost is the geometric mean over tasks of the ratio to the reference's time, each timed side "
        "by side "
        "on one machine."
    )


def verdicts_words(board: Board) -> str:
    """How wins, ties and losses came about."""
    return (
        f"Wins - ties - losses against {code(board.labels[0])}: in how many tasks a method is shown better, "
        "not shown to differ, and shown worse, on the same examples. The verdicts of a task hold together: "
        "with 95% probability none of them is a false alarm (Holm), so that over all tasks about one task in "
        "twenty may hold one. A tie is no equality. Of several checkpoints or seeds more than half must show "
        "a difference, and none the contrary."
    )


def apart_words(standing: Standing) -> str:
    """The tests across tasks and their conventions."""
    found = standing.apart
    if isinstance(found, str):
        return f"Not tested: {found}."
    return (
        f"Friedman's test over {standing.ranks.shape[0]} tasks, corrected for ties: chi-square "
        f"{significant(found.statistic)}, {p_value(found.p_value)}. Pairs follow by the distance of their "
        f"mean "
        "ranks, all pairs adjusted by Holm and none with a smaller p-value than Friedman's own. The "
        "convention is "
        "that of Demšar (2006), with one caution: a pair's p-value is the larger of the normal one that "
        "supposes "
        "all methods equal and Student's with the pair's own spread over tasks."
    )


def matched_words(board: Board) -> str:
    """What costs are matched to."""
    if board.target is None or not board.costed:
        return ""
    return (
        f"The best mean rank in NLL is that of {code(board.labels[board.target])}. A method is as good on "
        f"a task "
        f"where it is shown no worse by {fraction(MARGIN, 2)} nats per example (one-sided, 95%). Its cost "
        f"is over "
        "that of the best, the geometric mean over those tasks; below 1 it is cheaper at matched quality."
    )


def winners_words(board: Board) -> str:
    """Whether the winner changes, and whether that is shown."""
    title = board.standings[0].metric.title
    counts = {at: sum(at in winner.best for winner in board.winners) for at in range(len(board.labels))}
    most = max(counts, key=lambda at: (counts[at], -at))
    elsewhere = [winner for winner in board.winners if most not in winner.best]
    text = (
        f"{code(board.labels[most])} comes out best in {title} in {counts[most]} of "
        f"{counted(len(board.winners), 'task')}."
    )
    if not elsewhere:
        return text
    shown = [winner for winner in elsewhere if winner.alike is not None and most not in winner.alike]
    untested = [winner for winner in elsewhere if winner.alike is None]
    if untested:
        return f"{text} Elsewhere another does, by its estimate: there is no test of {title}."
    if not shown:
        return f"{text} Elsewhere another does by its estimate, and is shown better than it nowhere."
    return f"{text} Another is shown better than it on {join([code(one.task.name) for one in shown])}."


def runs(board: Board, ordered: Sequence[Winner]) -> str:
    """The winners along tasks in an order, neighbours with one winner together."""
    said: list[tuple[str, int]] = []
    for winner in ordered:
        name = " = ".join(board.labels[at] for at in winner.best)
        if said and said[-1][0] == name:
            said[-1] = (name, said[-1][1] + 1)
        else:
            said.append((name, 1))
    return ", then ".join(f"{name} ({count})" if count > 1 else name for name, count in said)
