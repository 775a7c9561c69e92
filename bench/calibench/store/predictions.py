"""The per-example predictions of a cell, `predictions/CELL.parquet`, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError, UsageError
from calibench.store.files import write_whole
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


def write_predictions(
    folder: Path,
    cell: str,
    dataset: Dataset,
    predictive: Predictive,
    at_passes: Mapping[int, FloatArray] | None = None,
    sets: Mapping[str, NDArray[np.bool_]] | None = None,
) -> str:
    """Store per-example predictions; returns the file's path relative to `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from calibench.hashing import text_sha256

    columns: dict[str, Any] = {
        "index": dataset.rows,
        "text_sha256": [text_sha256(text) for text in dataset.texts],
        "label": dataset.labels,
    }
    columns |= {f"p_{c}": predictive.probs[:, c] for c in range(predictive.probs.shape[1])}
    columns["passes"] = predictive.passes
    if predictive.standard_error is not None:
        columns["standard_error"] = predictive.standard_error
    columns |= {f"score_{name}": score for name, score in predictive.scores.items()}
    if dataset.posterior is not None:
        columns |= {f"posterior_{c}": dataset.posterior[:, c] for c in range(dataset.posterior.shape[1])}
    for k, probs in (at_passes or {}).items():
        columns |= {f"p{k}_{c}": probs[:, c] for c in range(probs.shape[1])}
    own = {} if predictive.sets is None else {"set": predictive.sets}
    for name, included in (own | dict(sets or {})).items():
        columns[name] = [np.flatnonzero(row) for row in included]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    relative = f"predictions/{cell}.parquet"
    write_whole(folder / relative, sink.getvalue().to_pybytes())
    return relative


def load_predictions(folder: Path, record: Mapping[str, Any]) -> Predictions:
    """Read the predictions that a record names.

    Raises:
        UsageError: the file is missing or not what a run writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = folder if folder.is_dir() else folder.parent
    file = folder / str(record["predictions"])
    try:
        table = pq.read_table(file)
    except FileNotFoundError:
        raise UsageError(
            f"{file} is missing; the record of {record['method']['name']} names it; copy the whole folder."
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
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
