"""The per-example predictions of a cell, `predictions/CELL.parquet`, and how they are read back.

A record names its file and the file's hash. A file that is there is not replaced by another, which goes to
`predictions/CELL-HASH.parquet`: until the new record is written, the old one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError, UsageError
from calibench.stats.columns import array_of, column_of, nothing_in
from calibench.stats.mapped import let_go, parts_of, room_for
from calibench.store.files import file_sha256, pour
from calibench.types import Dataset, FloatArray, IntArray, Predictive

#: Bytes of a column that are read together.
_BUFFER = 2**20
#: Columns of probabilities, also after so many passes, and of the true ones.
_PROBABILITY = re.compile(r"(p\d*|posterior)_\d+")


@dataclass(frozen=True, eq=False)
class Predictions:
    """One cell's stored predictions.

    Attributes:
        index: int64 [N], row of each example in its split.
        text_sha256: N hashes of the texts; the empty word for each where there are none.
        label: int64 [N].
        probs: float64 [N, C].
        passes: int64 [N].
        standard_error: float64 [N], or None.
        scores: named scores, each float64 [N].
        posterior: float64 [N, C], or None.
        at_passes: {k: float64 [N, C]}, the running mean of the first k passes, for suites with a curve.
        sets: bool [N, C] by column: "set" for prediction sets of the method, "set_KIND" for those of the run.
    """

    index: IntArray
    text_sha256: Sequence[str]
    label: IntArray
    probs: FloatArray
    passes: IntArray
    standard_error: FloatArray | None
    scores: Mapping[str, FloatArray]
    posterior: FloatArray | None
    at_passes: Mapping[int, FloatArray]
    sets: Mapping[str, NDArray[np.bool_]]

    def own_score(self, record: Mapping[str, Any]) -> FloatArray | None:
        """The score by which the record's method ranks texts; None for the largest probability.

        Raises:
            CalibenchError: the method has a score, which is not among those stored.
        """
        name = record["method"].get("score")
        if name is None:
            return None
        if name not in self.scores:
            raise CalibenchError(
                f"{record['method']['name']} ranks by {name!r}, which is not in its stored predictions; "
                "run it again with --overwrite-strategy always."
            )
        return self.scores[name]


@dataclass(frozen=True, eq=False)
class Examples:
    """What predictions are about.

    Attributes:
        index: int64 [N], row of each example in its split or file.
        text_sha256: N hashes of the texts, or of what stands for them; None where nothing does.
        label: int64 [N].
        posterior: float64 [N, C], or None.
    """

    index: IntArray
    text_sha256: Sequence[str] | None
    label: IntArray
    posterior: FloatArray | None = None


@dataclass(frozen=True)
class Nothing(Sequence[str]):
    """So many empty words."""

    words: int

    def __len__(self) -> int:
        return self.words

    def __getitem__(self, index: Any) -> Any:
        return Nothing(len(range(*index.indices(self.words)))) if isinstance(index, slice) else ""


def write_predictions(
    folder: Path,
    cell: str,
    dataset: Dataset,
    predictive: Predictive,
    at_passes: Mapping[int, FloatArray] | None = None,
    sets: Mapping[str, NDArray[np.bool_]] | None = None,
) -> dict[str, str]:
    """Store per-example predictions for texts; returns the fields by which a record names them.

    Raises:
        WriteError: there is no room; what was there is there still.
    """
    from calibench.hashing import text_sha256

    hashes = [text_sha256(text) for text in dataset.texts]
    examples = Examples(dataset.rows, hashes, dataset.labels, dataset.posterior)
    return write_examples(folder, cell, examples, predictive, at_passes, sets)


def write_examples(
    folder: Path,
    cell: str,
    examples: Examples,
    predictive: Predictive,
    at_passes: Mapping[int, FloatArray] | None = None,
    sets: Mapping[str, NDArray[np.bool_]] | None = None,
) -> dict[str, str]:
    """`write_predictions` where there need be no texts."""
    import pyarrow.parquet as pq

    def columns(rows: slice) -> Any:
        return _columns(examples, predictive, at_passes or {}, sets or {}, rows)

    def fill(file: BinaryIO) -> None:
        parts = parts_of(predictive.probs)
        table = columns(next(parts))
        # Probabilities hardly repeat: looking for repeats takes longer than to write them.
        repeated = [name for name in table.column_names if not _PROBABILITY.fullmatch(name)]
        with pq.ParquetWriter(file, table.schema, compression="zstd", use_dictionary=repeated) as writer:
            writer.write_table(table)
            for rows in parts:
                writer.write_table(columns(rows))

    return _stored(folder, cell, fill)


def copy_predictions(folder: Path, cell: str, data: bytes) -> dict[str, str]:
    """Store what `write_predictions` wrote in another folder; returns the same fields for this one.

    Raises:
        WriteError: there is no room; what was there is there still.
    """
    return _stored(folder, cell, lambda file: file.write(data))


def _stored(folder: Path, cell: str, fill: Callable[[BinaryIO], Any]) -> dict[str, str]:
    """The fields of what `fill` writes, under the cell's name unless other predictions bear it."""

    def named(digest: str) -> Path:
        usual = folder / f"predictions/{cell}.parquet"
        if usual.exists() and file_sha256(usual) != digest:
            return folder / f"predictions/{cell}-{digest[:12]}.parquet"
        return usual

    found, digest = pour(folder / f"predictions/{cell}.parquet", fill, named)
    return {"predictions": f"predictions/{found.name}", "predictions_sha256": digest}


def _columns(
    examples: Examples,
    predictive: Predictive,
    at_passes: Mapping[int, FloatArray],
    sets: Mapping[str, NDArray[np.bool_]],
    rows: slice,
) -> Any:
    """A pyarrow table of some rows."""
    import pyarrow as pa

    found: dict[str, Any] = {"index": column_of(examples.index[rows])}
    texts = examples.text_sha256
    nothing = nothing_in(rows.stop - rows.start)
    found["text_sha256"] = nothing if texts is None else pa.array(texts[rows], pa.string())
    found["label"] = column_of(examples.label[rows])

    def numbers(prefix: str, values: FloatArray) -> dict[str, Any]:
        some = values[rows]
        return {f"{prefix}_{c}": column_of(some[:, c]) for c in range(some.shape[1])}

    found |= numbers("p", predictive.probs)
    found["passes"] = column_of(predictive.passes[rows])
    if predictive.standard_error is not None:
        found["standard_error"] = column_of(predictive.standard_error[rows])
    found |= {f"score_{name}": column_of(score[rows]) for name, score in predictive.scores.items()}
    if examples.posterior is not None:
        found |= numbers("posterior", examples.posterior)
    for k, probs in at_passes.items():
        found |= numbers(f"p{k}", probs)
    own = {} if predictive.sets is None else {"set": predictive.sets}
    for name, included in (own | dict(sets)).items():
        some = included[rows]
        ends = np.concatenate([[0], np.cumsum(some.sum(axis=1))]).astype(np.int32)
        found[name] = pa.ListArray.from_arrays(column_of(ends), column_of(np.nonzero(some)[1]))
    return pa.Table.from_arrays(list(found.values()), list(found))


def predictions_file(folder: Path, record: Mapping[str, Any]) -> Path:
    """The file that a record names.

    Raises:
        UsageError: it would lie outside the folder.
    """
    named = PurePosixPath(str(record.get("predictions") or "").replace("\\", "/"))
    if named.is_absolute() or ".." in named.parts or ":" in str(named) or not named.name:
        raise UsageError(
            f"The record of {record['method']['name']} in {folder} names the predictions {str(named)!r}; "
            "expected a path inside the run folder."
        )
    return folder / named


def checked_file(folder: Path, record: Mapping[str, Any]) -> Path:
    """The file of a record's predictions, which is the one that the record was made from.

    Raises:
        UsageError: it is missing, or another; records older than these hashes name none, and nothing is told.
    """
    file = predictions_file(folder, record)
    name = record["method"]["name"]
    try:
        found = file_sha256(file)
    except FileNotFoundError:
        raise UsageError(
            f"{file} is missing; the record of {name} names it; copy the whole folder."
        ) from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); copy the whole folder again.") from error
    expected = record.get("predictions_sha256")
    if expected is not None and found != expected:
        raise UsageError(
            f"{file} is not the file that the record of {name} was made from; run the suite again with the "
            "same -o to measure that row anew, or copy the whole folder again."
        )
    return file


def has_its_predictions(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the file that a record names is there and its own."""
    try:
        checked_file(folder, record)
    except UsageError:
        return False
    return True


def load_predictions(folder: Path, record: Mapping[str, Any]) -> Predictions:
    """Read the predictions that a record names.

    Raises:
        UsageError: the file is missing, another than the record was made from, or not what a run writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = folder if folder.is_dir() else folder.parent
    file = checked_file(folder, record)
    try:
        stored = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
        names, n = stored.schema_arrow.names, stored.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a readable parquet file: {error}.") from error
    width = len(record["data"]["labels"])

    def column(name: str) -> Any:
        return array_of(stored.read([name]).column(0))

    def matrix(prefix: str) -> FloatArray:
        found, start = room_for(n, width), 0
        for batch in stored.iter_batches(columns=[f"{prefix}_{c}" for c in range(width)]):
            found[start : start + len(batch)] = np.stack([array_of(c) for c in batch.columns], axis=1)
            start += len(batch)
            let_go(found)
        return found

    def included(name: str) -> NDArray[np.bool_]:
        found = np.zeros((n, width), dtype=np.bool_)
        chosen = stored.read([name]).column(0).combine_chunks()
        found[np.repeat(np.arange(n), array_of(chosen.value_lengths())), array_of(chosen.flatten())] = True
        return found

    counts = sorted({int(name[1:].split("_")[0]) for name in names if name[0] == "p" and name[1:2].isdigit()})
    return Predictions(
        index=column("index"),
        text_sha256=_texts(stored.read(["text_sha256"]).column(0)),
        label=column("label"),
        probs=matrix("p"),
        passes=column("passes"),
        standard_error=column("standard_error") if "standard_error" in names else None,
        scores={name.removeprefix("score_"): column(name) for name in names if name.startswith("score_")},
        posterior=matrix("posterior") if "posterior_0" in names else None,
        at_passes={k: matrix(f"p{k}") for k in counts},
        sets={name: included(name) for name in names if name == "set" or name.startswith("set_")},
    )


def _texts(column: Any) -> Sequence[str]:
    """The words of a column, once where they are all empty."""
    import pyarrow.compute as pc

    if pc.max(pc.binary_length(column)).as_py() == 0:
        return Nothing(len(column))
    return tuple(column.to_pylist())
