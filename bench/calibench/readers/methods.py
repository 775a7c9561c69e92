"""Words of a command -> the files of methods, read and put side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.files import STDIN, source_of
from calibench.readers.joining import joined
from calibench.readers.scored import Scored
from calibench.registry import READERS
from calibench.types import Told, nobody

#: The reader of tables, whose columns somebody names.
TABLE = "file"


def read_methods(
    words: Sequence[str],
    asked: Asked,
    *,
    reader: str = TABLE,
    format: str | None = None,
    told: Told = nobody,
) -> list[Scored]:
    """The tables of `FILE` or `NAME=FILE`, about the same rows in one order.

    Args:
        reader: a registered reader.
        format: of every file; None for what its suffix says.
        told: is called with the name of a method when its file was read.

    Raises:
        UsageError: a file is not what was said of it, or two do not fit; names the one option that helps.
    """
    named = [name_and_file(word) for word in words]
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two files are called {twice!r}; name the methods, as in A=a.parquet B=b.parquet.")
    read = READERS.load(reader)
    tables = []
    for name, file in named:
        tables.append(read(source_of(file, format), asked, name))
        told(name)
    said = {} if reader == TABLE else {"from": reader}
    return joined(
        [replace(table, said={**said, **table.said}) for table in tables], skip_nulls=asked.skip_nulls
    )


def name_and_file(word: str) -> tuple[str, str]:
    """What a method is called and its file: the file's own name without its suffix, unless told."""
    name, sign, file = word.partition("=")
    if sign and name and not Path(word).exists():
        return name, file
    return ("stdin" if word == STDIN else Path(word).stem), word


def parse_prices(text: str | None, methods: Sequence[str]) -> tuple[str | None, dict[str, float]]:
    """A column of prices, or a price by method.

    Args:
        text: `COLUMN`, or `A=0.002,B=0.03`.

    Raises:
        UsageError: a method that there is not, or none of its own, or what is no price.
    """
    if text is None or "=" not in text:
        return text, {}
    prices = {}
    for item in text.split(","):
        name, _, amount = item.rpartition("=")
        try:
            prices[name] = float(amount)
        except ValueError:
            prices[name] = math.nan
        if not (math.isfinite(prices[name]) and prices[name] >= 0.0):
            raise UsageError(f"--prices says {item!r}; expected METHOD=PRICE with a price of 0 or more.")
    unlike = sorted(set(methods) ^ prices.keys())
    if unlike:
        raise UsageError(
            f"--prices names {', '.join(prices)} and the methods are {', '.join(methods)}; give each a "
            "price, as in A=0.002,B=0.03."
        )
    return None, prices
