"""A leaderboard on a terminal: the ranking, what it shows in words, and what is left out."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from calibench.compare.leaderboard import Board
from calibench.report.parts.leaderboard import ranking, verdicts
from calibench.report.writing import leaderboard_words as words
from calibench.report.writing.sheets import Sheet
from calibench.report.writing.tables import note_letter

_STYLES = {"right": "green", "wrong": "bold red"}


def board_table(board: Board) -> RenderableType:
    """The ranking, wins and losses, the summary, and what is left out."""
    parts: list[RenderableType] = [_table(ranking(board))]
    won = verdicts(board)
    if won is not None:
        head = f"Wins - ties - losses against {board.labels[0]}, by task"
        parts += [Text(""), Text(head, style="bold"), _table(won)]
    parts += [Text(""), Text(words.summary(board).replace("`", ""))]
    parts += [Text(text, style="dim") for text in board.left_out]
    return Group(*parts)


def _kept(column: int, text: str) -> str:
    """The interval of the foremost metric on one line with its number; for others there is no room."""
    head, bracket, ends = text.partition(" [")
    if column != 1 or not bracket:
        return head
    return f"{head}\u00a0[{ends}".replace(", ", ",\u00a0")


def _table(sheet: Sheet) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in sheet.headings:
        table.add_column(heading.title, justify="left" if heading.text else "right", overflow="fold")
    for row in sheet.rows:
        table.add_row(
            *(
                Text(_kept(at, cell.text), style=_STYLES.get(cell.tone or "", ""))
                for at, cell in enumerate(row)
            )
        )
    notes = [Text(f"({note_letter(at)}) {note}", style="dim") for at, note in enumerate(sheet.notes)]
    return Group(table, *notes)
