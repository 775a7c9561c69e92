"""Prediction sets have their methods' colours, in the table and in the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex

import report_example as example
from calibench.report import sections
from calibench.report.drawing import style
from calibench.report.pages.grid import of_records
from calibench.report.parts.sets import sets_table
from calibench.report.parts.sets_drawing import sets_drawing


def made(kind: str) -> dict[str, Any]:
    """Sets of 90% of one kind, cross-fitted."""
    return {
        "kind": kind,
        "column": f"set_{kind}",
        "class_conditional": False,
        "level": 0.9,
        "reason": None,
        "coverage": example.estimate(0.91, 0.02),
        "mean_size": example.estimate(1.1, 0.1),
        "chance": {"low": None, "high": None},
        "expected": 0.9,
    }


def test_swatches_and_dots_are_those_of_the_methods(tmp_path: Path) -> None:
    """A family has one colour everywhere, and a post-hoc step is hollow."""
    records = example.build(tmp_path, example.METHODS[:4])
    records[2]["method"] |= {"name": records[1]["method"]["name"], "posthoc": "temperature"}
    records[2]["method"]["params"] = records[1]["method"]["params"]
    for record in records:
        record["conformal"] = [made("lac"), made("aps")]
    (section,) = sections.sections(records)
    families = [0, 1, 1, 2]
    assert [entry.family for entry in section.entries] == families
    table = sets_table(section)
    assert table is not None
    names = [row.boxes[0] for row in of_records(table, "Prediction sets").rows]
    assert [box.series for box in names[::2]] == [style.series(family) for family in families]
    assert [box.hollow for box in names[::2]] == [False, False, True, False]
    with style.styled():
        drawing = sets_drawing(section)
    assert drawing is not None
    expected = [style.colour(family) for family in families]
    for axes in drawing.figure.axes:
        (bars,) = (found for found in axes.collections if isinstance(found, LineCollection))
        assert [to_hex(colour) for colour in bars.get_colors()[::2]] == expected
        for dots in (found for found in axes.collections if isinstance(found, PathCollection)):
            assert [to_hex(colour) for colour in dots.get_facecolors()] == expected
