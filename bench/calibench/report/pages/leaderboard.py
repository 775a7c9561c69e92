"""A leaderboard -> leaderboard.md, .html and .csv with the figures, and one JSON object."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from calibench.compare.leaderboard import Board, Standing
from calibench.compare.ranks import Apart
from calibench.compare.verdicts import UNDECIDED
from calibench.report.drawing import style
from calibench.report.pages import html, markdown
from calibench.report.pages.exports import as_text
from calibench.report.pages.grid import Grid, of_sheet
from calibench.report.pages.rendering import rendered
from calibench.report.parts.leaderboard import Chapter, chapters, pairs
from calibench.report.writing import leaderboard_words as words
from calibench.report.writing.sheets import Sheet
from calibench.report.writing.tables import note_letter
from calibench.store.files import write_whole

NAME = "leaderboard"
TITLE = "calibench: leaderboard"
_LEFT_OUT = "Left out"
_NUMBERS = ("value", "rank", "rank_low", "rank_high", "reason")
_COUNTS = ("wins", "ties", "losses", "p_reference")
_COSTS = ("cost", "cost_low", "cost_high", "cost_reason")
_COLUMNS = (
    "method",
    "name",
    "params",
    "posthoc",
    "reference",
    "metric",
    "task",
    *_NUMBERS,
    "verdict",
    *_COUNTS,
    *_COSTS,
)


def write_markdown(board: Board, folder: Path) -> Path:
    """Write `leaderboard.md` and `figures/`; the same board gives the same bytes."""
    lines = [f"# {TITLE}", words.summary(board)]
    with style.styled():
        for chapter in chapters(board):
            lines += [f"## {chapter.title}", *_chapter_lines(chapter, folder)]
    if board.left_out:
        lines += [f"## {_LEFT_OUT}", "\n".join(f"- {markdown.escape(text)}" for text in board.left_out)]
    return _write(folder, "md", "\n\n".join(lines) + "\n")


def _chapter_lines(chapter: Chapter, folder: Path) -> Iterator[str]:
    if chapter.text:
        yield chapter.text
    for sheet in chapter.sheets:
        yield render(sheet)
    for drawing in chapter.drawings:
        yield markdown.image(drawing, folder)
        yield f"*{drawing.caption}*"


def render(sheet: Sheet) -> str:
    """The table in GitHub's form, and below it what its notes say."""
    text = tabulate(
        [[markdown.cell_text(cell) for cell in row] for row in sheet.rows],
        headers=[markdown.escape(heading.title) for heading in sheet.headings],
        tablefmt="pipe",
        colalign=["left" if heading.text else "right" for heading in sheet.headings],
        disable_numparse=True,
    )
    notes = [f"({note_letter(at)}) {markdown.escape(note)}" for at, note in enumerate(sheet.notes)]
    return "\n\n".join([text, *notes])


@dataclass(frozen=True)
class PageChapter:
    """A chapter as the template takes it."""

    name: str
    title: str
    text: str
    tables: Sequence[Grid]
    figures: Sequence[html.Figure]


def write_html(board: Board, folder: Path) -> Path:
    """Write `leaderboard.html`, one page that needs nothing else; the same board gives the same bytes."""
    with style.styled():
        found = [
            PageChapter(
                html.anchor(one.title),
                one.title,
                one.text,
                [of_sheet(sheet) for sheet in one.sheets],
                [html.figure(drawing) for drawing in one.drawings],
            )
            for one in chapters(board)
        ]
    text = rendered(
        "leaderboard.html",
        title=TITLE,
        linked=[*found, *([PageChapter("left-out", _LEFT_OUT, "", (), ())] if board.left_out else [])],
        summary=words.summary(board),
        chapters=found,
        left_out=board.left_out,
    )
    return _write(folder, "html", text)


def write_csv(board: Board, folder: Path) -> Path:
    """Write `leaderboard.csv`: a row per method and metric over tasks, and one for each task besides.

    Over tasks `task` is empty and `rank` the mean rank; what could not be had is empty, with a reason.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_text(row) for row in _rows(board))
    return _write(folder, "csv", buffer.getvalue())


def _rows(board: Board) -> Iterator[dict[str, Any]]:
    for standing in board.standings:
        for at, row in enumerate(board.field.rows):
            method = json.loads(row)["method"]
            own = {
                "method": board.labels[at],
                "name": method["name"],
                "params": json.dumps(method["params"], ensure_ascii=False),
                "posthoc": method["posthoc"],
                "reference": at == 0,
                "metric": standing.metric.name,
            }
            yield own | _over_tasks(board, standing, at)
            for number, task in enumerate(board.field.tasks):
                yield own | {
                    "task": task.name,
                    "value": float(standing.values[number, at]),
                    "rank": float(standing.ranks[number, at]),
                    "verdict": None if standing.verdicts is None else standing.verdicts[number].get(at),
                }


def _over_tasks(board: Board, standing: Standing, at: int) -> dict[str, Any]:
    mean, cost = standing.mean_ranks[at], board.costs[at]
    found = standing.apart
    counts: dict[str, Any] = {}
    if at != 0 and standing.verdicts is not None:
        words_of = {"wins": "better", "ties": UNDECIDED, "losses": "worse"}
        counts = {name: standing.count(at, word) for name, word in words_of.items()}
    return {
        "rank": mean.value,
        "rank_low": mean.low,
        "rank_high": mean.high,
        "reason": mean.reason,
        **counts,
        "p_reference": float(found.adjusted[0, at]) if isinstance(found, Apart) and at != 0 else None,
        "cost": cost.value,
        "cost_low": cost.low,
        "cost_high": cost.high,
        "cost_reason": cost.reason,
    }


def as_json(board: Board) -> str:
    """The board as one JSON object; what could not be had is null, with a reason."""
    found = {
        "summary": words.summary(board),
        "reference": board.labels[0],
        "tasks": [
            {
                "name": winner.task.name,
                "sha256": winner.task.data["sha256"],
                "examples": winner.n,
                "classes": winner.task.classes,
                "accuracy": winner.accuracy,
                "replicates": [one.name for one in winner.task.replicates],
                "best": [board.labels[at] for at in winner.best],
                "alike": None if winner.alike is None else [board.labels[at] for at in winner.alike],
            }
            for winner in board.winners
        ],
        "tests": [_test(board, standing) for standing in board.standings],
        "rows": list(_rows(board)),
        "front": _front(board),
        "matched": _matched(board),
        "cells": board.field.cells,
        "failed": board.field.failed,
        "left_out": list(board.left_out),
    }
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)


def _test(board: Board, standing: Standing) -> dict[str, Any]:
    own: dict[str, Any] = {"metric": standing.metric.name}
    found = standing.apart
    if isinstance(found, str):
        return own | {"friedman": None, "reason": found}
    return own | {
        "friedman": found.statistic,
        "p_value": found.p_value,
        "critical_difference": found.critical,
        "pairs": [{"methods": [a, b], "p_holm": p} for a, b, p in pairs(standing, board.labels)],
    }


def _front(board: Board) -> dict[str, float | None] | None:
    if board.front is None:
        return None
    shares = [None if share != share else float(share) for share in board.front.tolist()]
    return dict(zip(board.labels, shares, strict=True))


def _matched(board: Board) -> dict[str, Any] | None:
    if board.target is None:
        return None
    return {
        "target": board.labels[board.target],
        "methods": {
            label: {"tasks": one.tasks, "cost": one.cost.as_dict()}
            for label, one in zip(board.labels, board.matched, strict=True)
        },
    }


WRITERS: dict[str, Callable[[Board, Path], Path]] = {
    "markdown": write_markdown,
    "html": write_html,
    "csv": write_csv,
}


def _write(folder: Path, suffix: str, text: str) -> Path:
    path = folder / f"{NAME}.{suffix}"
    write_whole(path, text.encode())
    return path


def written(board: Board, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the board in these formats, or in all of them; returns the paths.

    Raises:
        WriteError: there is no room, or no right to write there.
    """
    return [WRITERS[name](board, folder) for name in formats or WRITERS]
