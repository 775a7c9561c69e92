"""Arrow columns and numpy arrays hold the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from calibench.stats.columns import array_of, column_of, filled, nothing_in


@pytest.mark.parametrize("values", [[1.5, -2.0], [3, 4], [True, False, True], []])
def test_there_and_back(values: list[float]) -> None:
    """Of whole columns, of pieces of them, and of what is put together from several."""
    column = pa.array(values, pa.float64() if not values else None)
    assert array_of(column).tolist() == values
    assert array_of(pa.chunked_array([column, column.slice(1)])).tolist() == values + values[1:]
    if column.type != pa.bool_():
        assert column_of(array_of(column)).equals(column)


def test_what_is_missing_gets_a_number() -> None:
    """And what is there keeps its own."""
    assert filled(pa.array([1, None, 3], pa.int32()), -1).tolist() == [1, -1, 3]
    assert filled(pa.array([None, None], pa.int32()), 7).tolist() == [7, 7]
    assert np.isnan(filled(pa.array([1.0, None]), np.nan)).tolist() == [False, True]


def test_empty_words() -> None:
    """As many as were asked for."""
    assert nothing_in(3).to_pylist() == ["", "", ""]


def test_pandas_is_not_imported() -> None:
    """Which is what these are for: it takes longer to import than a small file to score."""
    code = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from calibench.stats.columns import *\n"
        "array_of(pa.Array.from_buffers(pa.float64(), 2, [None, pa.py_buffer(np.ones(2))]))\n"
        "column_of(np.ones(3)); nothing_in(2)\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
