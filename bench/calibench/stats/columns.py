"""Arrow columns as numpy arrays, shared and not copied where that can be.

pyarrow's own `to_numpy` imports pandas first, which takes longer than all else that is done to a small file.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def array_of(column: Any) -> np.ndarray:
    """Numbers [N], or truth, of a pyarrow array or chunked array without missing values; may be read-only."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        parts = [array_of(chunk) for chunk in column.chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    if pa.types.is_boolean(column.type):
        return array_of(column.cast(pa.uint8())).astype(np.bool_)
    return np.from_dlpack(column)


def filled(column: Any, missing: float) -> np.ndarray:
    """The same of a column that may lack values, with a number in their place."""
    if not column.null_count:
        return array_of(column)
    there = array_of(column.drop_null())
    values = np.full(len(column), missing, dtype=there.dtype)
    values[array_of(column.is_valid())] = there
    return values


def nothing_in(rows: int) -> Any:
    """A pyarrow array of so many empty words."""
    import pyarrow as pa

    ends = pa.py_buffer(np.zeros(rows + 1, dtype=np.int32))
    return pa.StringArray.from_buffers(rows, ends, pa.py_buffer(b""))


def column_of(values: np.ndarray) -> Any:
    """The pyarrow array of numbers [N], sharing their memory where they are contiguous."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
