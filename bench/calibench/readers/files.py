"""A file -> its columns in record batches: csv, tsv, jsonl, parquet, arrow or npz.

Only the columns that are asked for are read. Numbers, words and lists are what pyarrow makes of them; in
files of text an empty cell is missing, and nothing else is.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from calibench.data.hub import one_line
from calibench.errors import UsageError
from calibench.stats.mapped import PART

#: By suffix, how a file is read.
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npz": "npz",
}
STDIN = "-"
#: Bytes of a line of JSON, at most.
_LONGEST_LINE = 64 * 2**20
#: Bytes of a column of a parquet file that are read together.
_BUFFER = 2**20
#: Rows of such a file that are read together at the most.
_ROWS = 2**16


@dataclass(frozen=True, eq=False)
class Source:
    """A file, or what came by standard input.

    Attributes:
        name: how messages and records call it, free of machine paths.
        format: one of `FORMATS`, or "" where a reader knows its own.
        path: None where `content` holds it.
    """

    name: str
    format: str
    path: Path | None = None
    content: bytes = b""

    def opened(self) -> Any:
        """A pyarrow file to read from."""
        return pa.BufferReader(self.content) if self.path is None else pa.memory_map(str(self.path))


@dataclass(frozen=True, eq=False)
class Opened:
    """A file whose columns can be read.

    Attributes:
        name: of the file.
        columns: their names, in the file's order.
        rows: how many; None where only reading tells.
        batches: of the columns named first; of those named second, which hold words, numbers are words too.
    """

    name: str
    columns: tuple[str, ...]
    rows: int | None
    batches: Callable[[Sequence[str], Collection[str]], Iterator[pa.RecordBatch]]

    def read(self, columns: Sequence[str], words: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
        """The columns, in this order.

        Raises:
            UsageError: the content cannot be read.
        """
        try:
            for batch in self.batches(columns, words):
                yield batch.select(list(columns))
        except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
            raise _unreadable(self.name, error) from error


def source_of(text: str, format: str | None = None) -> Source:
    """What a word of the command line stands for: a file, or `-` for standard input.

    Args:
        format: one of the values of `FORMATS`; None for what the suffix says.

    Raises:
        UsageError: there is no such file, or nothing says what kind it is.
    """
    kinds = ", ".join(dict.fromkeys(FORMATS.values()))
    if format is not None and format not in FORMATS.values():
        raise UsageError(f"The format is {format!r}; choose from {kinds}.")
    if text == STDIN:
        if format is None:
            raise UsageError(f"Standard input has no suffix; say what it is with --format, one of {kinds}.")
        return Source("stdin", format, content=sys.stdin.buffer.read())
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {text!r}; pass a file of predictions, or - for standard input.")
    return Source(path.name, format or FORMATS.get(path.suffix.lower(), ""), path)


def open_file(source: Source, delimiter: str | None = None, quoting: str | None = None) -> Opened:
    """The file, with the names of its columns read.

    Args:
        delimiter, quoting: of a csv or tsv file; see `calibench.readers.asked.Asked`.

    Raises:
        UsageError: it is not what its suffix or `--format` says, or no kind that is read.
    """
    if source.format not in FORMATS.values():
        raise UsageError(
            f"{source.name!r} has no suffix that says what it is; name it .csv, .tsv, .jsonl, .parquet, "
            f".arrow or .npz, or pass --format."
        )
    for option, value in (("delimiter", delimiter), ("quoting", quoting)):
        if value is not None and source.format not in ("csv", "tsv"):
            raise UsageError(f"{source.name!r} has no {option}: leave --{option} out.")
    try:
        if source.format in ("csv", "tsv"):
            return _separated(source, delimiter, quoting)
        openers = {"jsonl": _json_lines, "parquet": _parquet, "arrow": _arrow, "npz": _npz}
        return openers[source.format](source)
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise _unreadable(source.name, error) from error


def _unreadable(name: str, error: Exception) -> UsageError:
    return UsageError(f"{name!r} cannot be read: {one_line(error)}; check that it is what its suffix says.")


def _separated(source: Source, delimiter: str | None, quoting: str | None) -> Opened:
    from pyarrow import csv as separated

    tabs = source.format == "tsv"
    # A tab-separated file has no quoting, as in `calibench.data.tables`, unless told.
    quoted = (quoting or ("none" if tabs else "double")) == "double"
    parsing = separated.ParseOptions(
        delimiter=delimiter or ("\t" if tabs else ","),
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
    )
    header = _header(source, parsing.delimiter, quoted=quoted)
    other = next((mark for mark in ";\t,|" if mark in header[0]), None)
    if len(header) == 1 and other is not None and delimiter is None:
        shown = r"$'\t'" if other == "\t" else repr(other)
        raise UsageError(
            f"{source.name!r} has one column, {header[0]!r}; pass --delimiter {shown} if it stands between "
            "cells."
        )
    if not quoted and all(len(name) > 1 and name[0] == name[-1] == '"' for name in header):
        raise UsageError(
            f"The column names of {source.name!r} stand in quotes ({header[0]}); pass --quoting double."
        )
    _refuse_twins(source.name, header)

    def batches(columns: Sequence[str], words: Collection[str]) -> Iterator[pa.RecordBatch]:
        types = {name: pa.string() if name in words else pa.float64() for name in columns}
        converting = separated.ConvertOptions(
            column_types=types,
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        with source.opened() as file:
            yield from separated.open_csv(file, parse_options=parsing, convert_options=converting)

    return Opened(source.name, tuple(header), None, batches)


def _header(source: Source, delimiter: str, *, quoted: bool) -> list[str]:
    """The names on the first line."""
    with _bytes_of(source) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        if quoted:
            header = next(csv.reader(text, delimiter=delimiter, strict=True), [])
        else:
            header = text.readline().rstrip("\r\n").split(delimiter)
    if not any(header):
        raise UsageError(f"{source.name!r} is empty; expected a line of column names, and rows below it.")
    return header


def _bytes_of(source: Source) -> BinaryIO:
    return io.BytesIO(source.content) if source.path is None else source.path.open("rb")


def _refuse_twins(name: str, columns: Sequence[str]) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UsageError(f"{name!r} has two columns called {twice[0]!r}; rename one.")


def _json_lines(source: Source) -> Opened:
    """Types come from the first value of a column: pyarrow reads those alone, and skips other fields."""
    first = next(_objects(source), None)
    if first is None:
        raise UsageError(f"{source.name!r} holds no rows; expected a JSON object per line.")

    def batches(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        from pyarrow import json as lines

        schema = pa.schema([(name, _json_type(source, name)) for name in columns])
        parsing = lines.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        reading = lines.ReadOptions(block_size=_LONGEST_LINE)
        with source.opened() as file:
            yield from lines.read_json(file, reading, parsing).to_batches()

    return Opened(source.name, tuple(first), None, batches)


def _objects(source: Source) -> Iterator[dict[str, Any]]:
    """The objects of a file, one per line that is not blank."""
    with _bytes_of(source) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield object_in(source.name, number, line)


def object_in(file: str, number: int, line: bytes) -> dict[str, Any]:
    """The JSON object on a line of a file.

    Raises:
        UsageError: it is none, naming the line.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"Line {number} of {file!r} is no JSON object; expected one per line.")
    return found


def _json_type(source: Source, name: str) -> Any:
    """What the first value of a column is."""
    value = next((row[name] for row in _objects(source) if row.get(name) is not None), None)
    if value is None:
        return pa.null()
    found = pa.array([value]).type
    # The first number may be a whole one, and those after it not.
    if pa.types.is_list(found) and pa.types.is_integer(found.value_type):
        return pa.list_(pa.float64())
    return pa.float64() if pa.types.is_integer(found) else found


def _parquet(source: Source) -> Opened:
    import pyarrow.parquet as pq

    # Mapped files and columns that are read ahead would count as memory, whole.
    opened = source.opened() if source.path is None else pa.OSFile(str(source.path))
    file = pq.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER)
    columns = file.schema_arrow.names
    _refuse_twins(source.name, columns)
    return Opened(
        source.name,
        tuple(columns),
        file.metadata.num_rows,
        lambda names, _: file.iter_batches(_rows_of(len(names)), columns=list(names)),
    )


def _rows_of(columns: int) -> int:
    """So many rows of a parquet file that a batch of them is small."""
    return min(_ROWS, max(1, PART // columns))


def _arrow(source: Source) -> Opened:
    """The file format of Arrow, or its stream."""
    try:
        names = pa.ipc.open_file(source.opened()).schema.names
        batches = _file_batches
    except pa.ArrowInvalid:
        names = pa.ipc.open_stream(source.opened()).schema.names
        batches = _stream_batches
    _refuse_twins(source.name, names)
    return Opened(source.name, tuple(names), None, lambda *_: batches(source))


def _file_batches(source: Source) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(source.opened())
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _stream_batches(source: Source) -> Iterator[pa.RecordBatch]:
    return iter(pa.ipc.open_stream(source.opened()))


def _npz(source: Source) -> Opened:
    names = npz_names(source)

    def batches(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        arrays = npz_arrays(source, columns)
        found = [_column(source.name, name, arrays[name]) for name in columns]
        refuse_unlike(source.name, dict(zip(columns, found, strict=True)))
        yield pa.RecordBatch.from_arrays(found, list(columns))

    return Opened(source.name, names, None, batches)


def refuse_unlike(file: str, columns: Mapping[str, Any]) -> None:
    """Refuse arrays that are not of one length.

    Raises:
        UsageError: naming the lengths.
    """
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise UsageError(
            f"The arrays of {file!r} are not of one length ({lengths}); save one row of each per example."
        )


def npz_names(source: Source) -> tuple[str, ...]:
    """The names of the arrays in an npz file.

    Raises:
        UsageError: it is no such file.
    """
    return tuple(_loaded(source, lambda found: found.files))


def npz_arrays(source: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Some arrays of an npz file; what is pickled is refused, because loading it would run it.

    Raises:
        UsageError: it cannot be read, lacks one of them, or holds Python objects there.
    """
    there = npz_names(source)
    for name in names:
        if name not in there:
            raise UsageError(f"{source.name!r} has no array {name!r}; it has {', '.join(there) or 'none'}.")
    found: dict[str, np.ndarray] = _loaded(source, lambda loaded: {name: loaded[name] for name in names})
    return found


def _loaded(source: Source, read: Callable[[Any], Any]) -> Any:
    try:
        content = source.path if source.path is not None else io.BytesIO(source.content)
        loaded = np.load(content, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise UsageError(f"{source.name!r} holds one array and no names; save it with numpy.savez.")
        with loaded:
            return read(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error):
            raise UsageError(
                f"{source.name!r} holds Python objects, which are not loaded because that would run them; "
                "save arrays of numbers or of text (names.astype(str)) with numpy.savez."
            ) from error
        raise _unreadable(source.name, error) from error


def _column(file: str, name: str, array: np.ndarray) -> Any:
    if array.ndim == 1:
        return pa.array(array)
    if array.ndim == 2 and array.shape[1]:
        return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    raise UsageError(
        f"The array {name!r} of {file!r} has shape {list(array.shape)}; expected one number per row, or one "
        "row of numbers."
    )
