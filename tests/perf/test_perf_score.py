"""How long all numbers of a row take, and a user waits for those of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibench.metrics.select import select_metrics
from calibench.score.quality import metric_values
from calibench.types import Evaluation


def predictions(rows: int, classes: int) -> Evaluation:
    """Calibrated predictions."""
    rng = np.random.default_rng(rows)
    probs = rng.dirichlet(np.full(classes, 0.2), rows)
    labels = (rng.random((rows, 1)) > np.cumsum(probs, axis=1)[:, :-1]).sum(axis=1)
    return Evaluation(probs, labels)


@pytest.mark.parametrize(("rows", "classes"), [(4_500, 150), (20_000, 2)])
def test_all_metrics_of_a_row(benchmark: Any, rows: int, classes: int) -> None:
    """With their intervals from 1,000 resamples, and the noise floor."""
    metrics = select_metrics((), posterior_known=False)

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        # What was computed of an evaluation is kept: each round gets one of its own.
        return (metrics, predictions(rows, classes), 0), {}

    found = benchmark.pedantic(metric_values, setup=fresh, rounds=3)
    assert found["ece"]["reason"] is None


def test_score_from_the_prompt(benchmark: Any, tmp_path: Path) -> None:
    """10,000 rows, the start of the interpreter and the report included."""
    given = predictions(10_000, 2)
    columns = {"label": given.labels, "p_0": given.probs[:, 0], "p_1": given.probs[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    command = [
        sys.executable,
        "-m",
        "calibench.cli",
        "score",
        str(tmp_path / "a.parquet"),
        "--label",
        "label",
    ]
    command += ["--probs", "p_*", "--overwrite-strategy", "always", "-o", str(tmp_path / "run")]
    result = benchmark.pedantic(
        lambda: subprocess.run(command, capture_output=True, check=True), rounds=3, warmup_rounds=1
    )
    assert result.stdout
