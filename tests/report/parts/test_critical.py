"""The critical-difference diagram: its words, and names that do not overlap."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import boards
from calibench.compare.leaderboard import leaderboard
from calibench.report.drawing import style
from calibench.report.parts.critical import critical_drawing, front_drawing


@pytest.mark.parametrize("count", [2, 5, 14])
def test_names_do_not_overlap(tmp_path: Path, count: int) -> None:
    """However long and many they are, each stands apart and within the figure."""
    methods = {"frequentist": 2.5} | {
        f"a method with a name that is rather long, number {at}": 1.0 + 0.1 * at for at in range(count - 1)
    }
    board = leaderboard([boards.write_tasks(tmp_path, 3, methods, n=60)], ["nll"])
    with style.styled():
        found = critical_drawing(board, board.standings[0])
        assert found is not None
        FigureCanvasAgg(found.figure).draw()
        (axes,) = found.figure.axes
        names = [text for text in axes.texts if "  " in text.get_text() or "\n" in text.get_text()]
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        frame = found.figure.bbox
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 for box in boxes)
    assert len(names) >= count - 1
    assert "3 tasks" in found.alt


def test_nothing_is_drawn_of_two_tasks(tmp_path: Path) -> None:
    """Neither a diagram nor a front without a test or an interval."""
    board = leaderboard([boards.write_tasks(tmp_path, 2, {"frequentist": 2.0, "temperature": 1.0})], ["nll"])
    with style.styled():
        assert critical_drawing(board, board.standings[0]) is None
        assert front_drawing(board) is None
