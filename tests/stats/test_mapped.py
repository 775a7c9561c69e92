"""Arrays in files say what arrays in memory do."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.stats import mapped


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a few numbers is held in memory or looked at together."""
    monkeypatch.setattr(mapped, "IN_MEMORY", 50)
    monkeypatch.setattr(mapped, "PART", 70)
    monkeypatch.setattr(mapped, "COLUMNS", 90)


@pytest.mark.usefixtures("small_memory")
def test_a_mapped_array_keeps_what_it_was_given() -> None:
    """Also after it was let go of, by rows, by columns and at an index."""
    values = np.random.default_rng(0).random((40, 7))
    room = mapped.room_for(*values.shape)
    assert mapped.is_mapped(room)
    for rows in mapped.parts_of(room):
        assert rows.stop - rows.start <= 10
        room[rows] = values[rows]
    mapped.let_go(room)
    np.testing.assert_array_equal(room, values)
    np.testing.assert_array_equal(np.stack(list(mapped.columns_of(room)), axis=1), values)
    order = np.random.default_rng(1).permutation(40)
    chosen = mapped.rows_at(room, order)
    assert mapped.is_mapped(chosen)
    np.testing.assert_array_equal(chosen, values[order])


def test_a_small_array_is_in_memory() -> None:
    """And its columns and rows are read from there."""
    room = mapped.room_for(3, 2)
    assert not mapped.is_mapped(room)
    room[:] = np.arange(6.0).reshape(3, 2)
    assert [rows.stop for rows in mapped.parts_of(room)] == [3]
    assert [column.tolist() for column in mapped.columns_of(room)] == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    mapped.let_go(room)
    assert mapped.rows_at(room, np.array([2])).tolist() == [[4.0, 5.0]]
