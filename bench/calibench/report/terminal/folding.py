"""Tables that are wider than the terminal: columns that do not fit follow in a table of their own below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

#: Columns between two numbers.
_GAP = 2
#: Columns below which no name is broken further to save a part.
_NARROWEST = 11


@dataclass(frozen=True)
class Heading:
    """A column of a table.

    Attributes:
        title: its head.
        left: whether it is words, which begin at the left.
    """

    title: str
    left: bool = False


class Folded:
    """A table whose numbers are never cut: what would be, stands below, beside the same names.

    Args:
        title: head of the names.
        names: one per row; a long one takes several lines.
        widest: columns of a name's line, at most.
        headings: of the other columns.
        rows: the other cells of each row; one that ends early has no more.
    """

    def __init__(
        self,
        title: str,
        names: Sequence[str],
        widest: int,
        headings: Sequence[Heading],
        rows: Sequence[Sequence[Text]],
    ) -> None:
        self._title, self._names, self._widest = title, names, widest
        self._headings, self._rows = headings, rows

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        widths = range(self._widest, min(self._widest, _NARROWEST) - 1, -1)
        # As few parts as there can be, and names as wide as that leaves them.
        width = min(widths, key=lambda width: len(self._parts(options.max_width, width)))
        names = [_broken(name, width) for name in self._names]
        for number, part in enumerate(self._parts(options.max_width, width)):
            if number:
                yield Text("")
            yield self._table(names, part)

    def _parts(self, room: int, width: int) -> list[list[int]]:
        """Which columns stand together beside names of so many columns."""
        lines = [line for name in self._names for line in _broken(name, width).splitlines()]
        beside = room - _GAP - max([len(self._title), *map(len, lines)])
        parts: list[list[int]] = [[]]
        left = beside
        for at, heading in enumerate(self._headings):
            taken = _GAP + self._width(at, heading)
            if taken > left and parts[-1]:
                parts.append([])
                left = beside
            parts[-1].append(at)
            left -= taken
        return parts

    def _width(self, at: int, heading: Heading) -> int:
        lines = [line for row in self._rows if at < len(row) for line in row[at].split("\n")]
        return max([len(heading.title), *(line.cell_len for line in lines)])

    def _table(self, names: Sequence[str], columns: Sequence[int]) -> Table:
        table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold")
        table.add_column(self._title, overflow="fold")
        for at in columns:
            heading = self._headings[at]
            table.add_column(heading.title, justify="left" if heading.left else "right", no_wrap=True)
        for name, row in zip(names, self._rows, strict=True):
            table.add_row(Text(name), *(row[at] for at in columns if at < len(row)))
        return table


def _broken(name: str, width: int) -> str:
    """The name over several lines, broken after a hyphen or a space where there is one."""
    return textwrap.fill(name, width, break_on_hyphens=True)
