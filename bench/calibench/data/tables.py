"""A local file -> a table as it was written: every value as it stands, and nothing that a cache remembers.

Comma- and tab-separated files hold words: "None", "null", "NA" and "nan" are read as what they are, and only
an empty cell is missing. A tab-separated file has no quoting, as GLUE ships it; in a comma-separated one a
quoted cell may run over several lines (RFC 4180), unless these lines look like rows.
"""

from __future__ import annotations

import codecs
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibench.data.hub import DATA_SUFFIXES, one_line
from calibench.errors import CalibenchError, UsageError

Quoting = Literal["double", "none"]
QUOTING: tuple[Quoting, ...] = ("double", "none")
_SEPARATED = {".csv": ",", ".tsv": "\t"}
_DELIMITERS = ";\t,|"


@dataclass(frozen=True)
class Reading:
    """How to read a file of text; None for what its suffix says.

    Attributes:
        delimiter: one character between cells.
        encoding: as Python names it; None for UTF-8, with or without a byte order mark.
        quoting: "double" where cells may stand in double quotes, "none" where a quote is a character.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quoting: Quoting | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise UsageError(
                f"The delimiter is {self.delimiter!r}; expected one character, such as ';', and no quote or "
                "line end."
            )
        if self.quoting is not None and self.quoting not in QUOTING:
            raise UsageError(f"The quoting is {self.quoting!r}; choose from {', '.join(QUOTING)}.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UsageError(
                    f"{self.encoding!r} is no encoding; expected one such as utf-8, latin-1 or cp1252."
                ) from None


def read_table(path: Path, reading: Reading | None = None) -> Any:
    """The `datasets.Dataset` of one file.

    Raises:
        UsageError: a kind of file that is not read, a setting that this kind does not have, or one that it
            needs.
        CalibenchError: the content cannot be read, naming the line.
    """
    import datasets
    import pyarrow as pa

    reading = reading or Reading()
    suffix = path.suffix.lower()
    if suffix not in DATA_SUFFIXES:
        packed = "unpack it, and " if path.with_suffix("").suffix.lower() in DATA_SUFFIXES else ""
        raise UsageError(
            f"{path.name!r} is not a data file: {packed}pass a folder or one of {', '.join(DATA_SUFFIXES)}."
        )
    if suffix not in _SEPARATED and (reading.delimiter, reading.quoting) != (None, None):
        raise UsageError(f"{path.name!r} has no delimiter and no quoting: leave these options out.")
    try:
        if suffix in _SEPARATED:
            table = pa.table(_separated(path, reading))
        elif suffix in {".json", ".jsonl"}:
            table = _objects(path, _text(path, reading))
        elif suffix == ".parquet":
            table = _parquet(path)
        else:
            table = _arrow(path)
        return datasets.Dataset(table)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = one_line(error).replace(str(path), path.name)
        raise CalibenchError(f"The dataset {path.name!r} cannot be read: {reason}.") from error


def _text(path: Path, reading: Reading) -> str:
    try:
        return path.read_bytes().decode(reading.encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        wide = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise CalibenchError(
            f"Line {line} of {path.name!r} is not {error.encoding} text; name another with --encoding, such "
            f"as {'utf-16' if wide else 'latin-1'}."
        ) from error


def _separated(path: Path, reading: Reading) -> dict[str, Any]:
    """The columns of a file of rows, each a list of strings, None for an empty cell."""
    import pyarrow as pa

    suffix = path.suffix.lower()
    delimiter = reading.delimiter or _SEPARATED[suffix]
    quoted = (reading.quoting or ("none" if suffix == ".tsv" else "double")) == "double"
    text = _text(path, reading)
    if "\r" in text and "\n" not in text:
        raise CalibenchError(
            f"The lines of {path.name!r} end in carriage returns alone; save it with newlines at their ends."
        )
    rows = _rows(path, text, delimiter, quoted=quoted)
    _, header = next(rows, (0, []))
    if not header:
        raise CalibenchError(f"{path.name!r} is empty; expected a line of column names, and rows below it.")
    _refuse_header(path, header, quoted=quoted)
    doubled = {name for name in header if header.count(name) > 1}
    if doubled:
        raise CalibenchError(f"{path.name!r} has two columns called {min(doubled)!r}; rename one.")
    body = list(rows)
    for line, row in body:
        if len(row) != len(header):
            raise CalibenchError(
                f"Line {line} of {path.name!r} has {len(row)} cells and the first line {len(header)}: "
                f"{_advice(delimiter, quoted=quoted)}."
            )
    _refuse_swallowed(path, header, body, delimiter)
    cells = zip(*(row for _, row in body), strict=True) if body else ([] for _ in header)
    return {
        name: pa.array([cell or None for cell in column], pa.string())
        for name, column in zip(header, cells, strict=True)
    }


def _rows(path: Path, text: str, delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of the line on which it begins, from 1."""
    if not quoted:
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
            if line:
                yield number, line.split(delimiter)
        return
    before = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise CalibenchError(
            f"The row that begins on line {start} of {path.name!r} is not quoted as it should be ({error}): "
            "close the quote, double those inside a cell, or pass --quoting none."
        ) from error
    finally:
        csv.field_size_limit(before)


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends; only a newline ends one, whatever else Unicode takes for a line's end."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _advice(delimiter: str, *, quoted: bool) -> str:
    if quoted:
        return f"quote cells that hold {delimiter!r}, or name another --delimiter"
    return f"a cell may not hold {delimiter!r}; where cells are quoted, pass --quoting double"


def _refuse_header(path: Path, header: list[str], *, quoted: bool) -> None:
    """Refuse a line of names that another delimiter, or quoting, would cut into names."""
    other = next((mark for mark in _DELIMITERS if mark in header[0]), None)
    if len(header) == 1 and other is not None:
        shown = r"$'\t'" if other == "\t" else repr(other)
        raise UsageError(
            f"{path.name!r} has one column, {header[0]!r}; pass --delimiter {shown} if it stands "
            "between cells."
        )
    if not quoted and all(len(name) > 1 and name[0] == name[-1] == '"' for name in header):
        raise UsageError(
            f"The column names of {path.name!r} stand in quotes ({header[0]}); pass --quoting double if its "
            "cells do."
        )


def _refuse_swallowed(
    path: Path, header: list[str], body: list[tuple[int, list[str]]], delimiter: str
) -> None:
    """Refuse a quoted cell that runs over lines which look like rows: a quote was left open.

    A line looks like a row if it has as many cells, and one of them is among the few different ones that
    other rows have in the same column, as labels are.
    """
    if not any("\n" in cell for _, row in body for cell in row):
        return
    plain = [row for _, row in body if not any("\n" in cell for cell in row)]
    few = [_few(list(column)) for column in zip(*plain, strict=True)] or [set() for _ in header]
    for line, row in body:
        for place, cell in enumerate(row):
            first, *others = cell.split("\n")[:-1] or [""]
            for parts in (
                [*row[:place], *first.split(delimiter)],
                *(item.split(delimiter) for item in others),
            ):
                if len(parts) == len(header) and any(a in b for a, b in zip(parts, few, strict=True)):
                    raise CalibenchError(
                        f"The quote that opens on line {line} of {path.name!r} runs over lines that look "
                        "like rows: close it, or pass --quoting none where a quote is a character."
                    )


def _few(column: list[str]) -> set[str]:
    """The cells of a column that says few different things; none of any other."""
    kinds = set(column)
    return kinds if 2 * len(kinds) <= len(column) else set()


def _objects(path: Path, text: str) -> Any:
    """The table of a JSON file: a list of objects, an object of columns, or an object per line."""
    import pyarrow as pa

    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            if "\n" not in text.strip():
                raise CalibenchError(
                    f"Line {error.lineno} of {path.name!r} cannot be read: {error.msg}; expected JSON."
                ) from error
        else:
            if isinstance(content, dict):
                _refuse_nested(path, content)
                if all(isinstance(column, list) for column in content.values()):
                    return pa.table(content)
                content = [content]
            if not isinstance(content, list):
                raise CalibenchError(f"{path.name!r} holds {content!r}; expected a list of objects.")
            return _records(path, list(enumerate(content, start=1)), "Item")
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise CalibenchError(
                    f"Line {number} of {path.name!r} cannot be read: {error.msg}; expected one JSON object "
                    "per line."
                ) from error
    return _records(path, rows, "Line")


def _refuse_nested(path: Path, content: dict[str, Any]) -> None:
    """Refuse an object that holds tables and no columns, or columns that are objects."""
    lists = {name: value for name, value in content.items() if isinstance(value, list) and value}
    tables = [name for name, value in lists.items() if isinstance(value[0], dict | list)]
    if tables and len(tables) == len(lists):
        raise CalibenchError(
            f"{path.name!r} holds its rows under {' and '.join(map(repr, tables))}; expected a list of "
            "objects: write one such list into a file of its own."
        )
    if content and all(isinstance(value, dict) for value in content.values()):
        raise CalibenchError(
            f"{path.name!r} holds columns that are objects; expected a list of objects: pandas writes one "
            "with orient='records'."
        )


def _records(path: Path, rows: list[tuple[int, Any]], noun: str) -> Any:
    import pyarrow as pa

    for number, row in rows:
        if not isinstance(row, dict):
            raise CalibenchError(
                f"{noun} {number} of {path.name!r} is a {type(row).__name__}; expected an object with a text "
                "and a label."
            )
    names = dict.fromkeys(key for _, row in rows for key in row)
    columns = {}
    for name in names:
        values = [row.get(name) for _, row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            present = [(number, row[name]) for number, row in rows if row.get(name) is not None]
            usual = present[0][1]
            other = next((item for item in present if type(item[1]) is not type(usual)), None)
            if other is None or isinstance(usual, (list, dict)):
                continue  # a column of unlike structures, which holds neither texts nor labels
            raise CalibenchError(
                f"{noun} {other[0]} of {path.name!r} has {other[1]!r} as {name!r}, where others have "
                f"{usual!r}; expected values of one kind."
            ) from None
    return pa.table(columns)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    return _plain(pq.read_table(path))


def _arrow(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            return _plain(pa.ipc.open_stream(source).read_all())
        except pa.ArrowInvalid:
            source.seek(0)
            return _plain(pa.ipc.open_file(source).read_all())


def _plain(table: Any) -> Any:
    """The table with categories as the words they stand for: their order is nobody's declaration."""
    import pyarrow as pa

    for number, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            plain = table.column(number).cast(column.type.value_type)
            table = table.set_column(number, column.name, plain)
    return table
