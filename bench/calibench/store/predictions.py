"""The per-example predictions of a cell, `predictions/CELL.parquet`, and how they are read back.

A record names its file and the file's hash. A file that is there is not replaced by another, which goes to
`predictions/CELL-HASH.parquet`: until the new record is written, the old one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError, UsageError
from calibench.store.files import sha256, write_whole
from calibench.types import Dataset, FloatArray, IntArray, Predictive


@dataclass(frozen=True, eq=False)
class Predictions:
    """One cell's stored predictions.

    Attributes:
        index: int64 [N], row of each example in its split.
        text_sha256: N hashes of the texts.
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
    text_sha256: tuple[str, ...]
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
        text_sha256: N hashes of the texts, or of what stands for them; empty words where nothing does.
        label: int64 [N].
        posterior: float64 [N, C], or None.
    """

    index: IntArray
    text_sha256: Sequence[str]
    label: IntArray
    posterior: FloatArray | None = None


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "index": examples.index,
        "text_sha256": examples.text_sha256,
        "label": examples.label,
    }
    columns |= {f"p_{c}": predictive.probs[:, c] for c in range(predictive.probs.shape[1])}
    columns["passes"] = predictive.passes
    if predictive.standard_error is not None:
        columns["standard_error"] = predictive.standard_error
    columns |= {f"score_{name}": score for name, score in predictive.scores.items()}
    posterior = examples.posterior
    if posterior is not None:
        columns |= {f"posterior_{c}": posterior[:, c] for c in range(posterior.shape[1])}
    for k, probs in (at_passes or {}).items():
        columns |= {f"p{k}_{c}": probs[:, c] for c in range(probs.shape[1])}
    own = {} if predictive.sets is None else {"set": predictive.sets}
    for name, included in (own | dict(sets or {})).items():
        columns[name] = [np.flatnonzero(row) for row in included]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    digest = sha256(content)
    relative = f"predictions/{cell}.parquet"
    file = folder / relative
    if file.exists() and sha256(file.read_bytes()) != digest:
        relative = f"predictions/{cell}-{digest[:12]}.parquet"
    write_whole(folder / relative, content)
    return {"predictions": relative, "predictions_sha256": digest}


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


def checked_content(folder: Path, record: Mapping[str, Any]) -> bytes:
    """The file of a record's predictions, which is the one that the record was made from.

    Raises:
        UsageError: it is missing, or another; records older than these hashes name none, and nothing is told.
    """
    file = predictions_file(folder, record)
    name = record["method"]["name"]
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{file} is missing; the record of {name} names it; copy the whole folder."
        ) from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); copy the whole folder again.") from error
    expected = record.get("predictions_sha256")
    if expected is not None and sha256(content) != expected:
        raise UsageError(
            f"{file} is not the file that the record of {name} was made from; run the suite again with the "
            "same -o to measure that row anew, or copy the whole folder again."
        )
    return content


def has_its_predictions(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the file that a record names is there and its own."""
    try:
        checked_content(folder, record)
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
    content = checked_content(folder, record)
    file = predictions_file(folder, record)
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a readable parquet file: {error}.") from error
    names = table.column_names

    def column(name: str) -> Any:
        return table.column(name).to_numpy()

    def matrix(prefix: str) -> FloatArray:
        width = len(record["data"]["labels"])
        return np.stack([column(f"{prefix}_{c}") for c in range(width)], axis=1)

    def included(name: str) -> NDArray[np.bool_]:
        found = np.zeros((len(table), len(record["data"]["labels"])), dtype=np.bool_)
        for row, chosen in zip(found, table.column(name).to_pylist(), strict=True):
            row[chosen] = True
        return found

    counts = sorted({int(name[1:].split("_")[0]) for name in names if name[0] == "p" and name[1:2].isdigit()})
    return Predictions(
        index=column("index"),
        text_sha256=tuple(table.column("text_sha256").to_pylist()),
        label=column("label"),
        probs=matrix("p"),
        passes=column("passes"),
        standard_error=column("standard_error") if "standard_error" in names else None,
        scores={name.removeprefix("score_"): column(name) for name in names if name.startswith("score_")},
        posterior=matrix("posterior") if "posterior_0" in names else None,
        at_passes={k: matrix(f"p{k}") for k in counts},
        sets={name: included(name) for name in names if name == "set" or name.startswith("set_")},
    )
