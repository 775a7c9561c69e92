"""The figure of the front shows what was measured, and its names never cover each other."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection

import report_example as example
from calibench.report import sections
from calibench.report.drawing import labels, style
from calibench.report.parts.front import front_drawing, front_table, squashed
from calibench.report.points import Tradeoff, points, tradeoff
from calibench.stats.ratios import trimmed_mean
from calibench.store.records import load_records, write_records

FIFTEEN = (
    *example.METHODS,
    *(example.Spec(f"rescaled-{i}", 1.0 + 0.02 * i, 1.0 + 0.001 * i, passes=1) for i in range(6)),
    *(example.Spec(f"a-name-of-some-length-{i} (rate=0.1, groups=4)", 1.2, 5.0 + i) for i in range(4)),
    example.FAILED,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    example.build(path, FIFTEEN, with_curve=True)
    return path


@pytest.fixture(scope="module")
def section(folder: Path) -> sections.Section:
    (found,) = sections.sections(load_records(folder))
    return found


@pytest.fixture(scope="module")
def found(section: sections.Section, folder: Path) -> Tradeoff:
    return tradeoff(points(section, folder))


def test_one_point_per_method_and_number_of_passes(found: Tradeoff) -> None:
    """Methods without passes have one point, others one for each number below their own and one for all."""
    counts = {point.entry.label: 0 for point in found.points}
    for point in found.points:
        counts[point.entry.label] += 1
    assert counts["frequentist"] == 1
    assert counts["mc-dropout"] == 1 + sum(k < 20 for k in example.CURVE)
    assert "no-dropout" not in counts
    curve = next(p for p in found.points if p.entry.label == "mc-dropout" and p.passes == 5)
    record = curve.entry.record["curve"]
    at = record["passes"].index(5)
    assert curve.ratio == record["cost_ratio"][at]
    assert curve.seconds["value"] == record["seconds"][at]
    assert curve.metrics["nll"] == record["metrics"]["nll"][at]


def test_costs_are_drawn_from_the_blocks_they_share(found: Tradeoff) -> None:
    """The region of a method is as wide as its blocks say, not as its recorded interval does."""
    at = next(i for i, p in enumerate(found.points) if p.entry.label == "mc-dropout" and p.whole)
    blocks = found.points[at].entry.record["timing"]["blocks"]
    reference = np.array(
        [b["end_to_end_s"] for b in found.points[0].entry.record["timing"]["blocks"]], dtype=float
    )
    own = np.array([block["end_to_end_s"] for block in blocks])
    error = np.sqrt((trimmed_mean(np.log(own / reference)).parts ** 2).sum())
    low, high = found.boxes["nll"][at].cost
    # Student's quantile that leaves half of 1 - sqrt(.95) on either side, 7 degrees of freedom.
    assert np.log(high / low) / 2 == pytest.approx(2.832 * error, rel=0.12)
    assert found.boxes["nll"][0].cost == (1.0, 1.0)


def test_blocks_that_are_not_the_records_are_not_used(tmp_path: Path) -> None:
    """Where the reference was timed anew the blocks no longer pair up, and the recorded interval stands."""
    records = example.build(tmp_path, example.METHODS[:2])
    for block in records[0]["timing"]["blocks"]:
        block["end_to_end_s"] *= 1.3
    write_records(tmp_path, records)
    (section,) = sections.sections(records)
    box = tradeoff(points(section, tmp_path)).boxes["nll"][1]
    ratio = records[1]["cost_ratio"]
    # The side of a region holds sqrt(.95), the interval .95.
    wide = np.log(box.cost[1] / box.cost[0]) / np.log(ratio["high"] / ratio["low"])
    assert wide == pytest.approx(2.236 / 1.96, rel=0.1)


def test_regions_are_seen_from_the_reference(found: Tradeoff) -> None:
    """The reference stands still, and a copy of it has no region either, as both saw the same examples."""
    reference = found.boxes["nll"][0].quality
    assert reference[1] - reference[0] < 1e-12
    assert all(box.quality[1] > box.quality[0] for i, box in found.boxes["nll"].items() if i)


def test_fifteen_methods_are_named_without_overlap(section: sections.Section, found: Tradeoff) -> None:
    """Every method is named once in each panel, inside the figure, and no two names overlap."""
    with style.styled():
        drawing = front_drawing(section, found)
        assert drawing is not None
        canvas = FigureCanvasAgg(drawing.figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        for axes in drawing.figure.axes:
            named = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}
            assert sorted(name.replace("\n", " ") for name in named) == sorted(
                entry.label for entry in section.measured
            )
            for one, other in combinations(named.values(), 2):
                # Half a pixel of rounding.
                apart = one.padded(-0.5)
                assert not apart.overlaps(other.padded(-0.5))
            inside = drawing.figure.bbox
            assert all(box.x0 >= inside.x0 and box.x1 <= inside.x1 for box in named.values())


def test_figure_shows_the_points(section: sections.Section, found: Tradeoff) -> None:
    """Markers stand at cost and metric of the records, and regions around the methods."""
    with style.styled():
        drawing = front_drawing(section, found)
    assert drawing is not None
    for axes, metric in zip(drawing.figure.axes, ("nll", "ece"), strict=True):
        drawn = {
            (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
            for line in axes.lines
            if len(line.get_xdata()) == 1
        }
        assert drawn == {(p.ratio["value"], p.metrics[metric]["value"]) for p in found.points}
        filled, edged = (boxes for boxes in axes.collections if isinstance(boxes, PolyCollection))
        assert len(filled.get_paths()) == len(edged.get_paths()) == len(section.measured)
    for entry in section.measured:
        assert f"{entry.label}: " in drawing.alt


def test_one_method_has_no_front(tmp_path: Path) -> None:
    """A single method is compared with nothing: no figure and no table."""
    records = example.build(tmp_path, example.METHODS[:1])
    (section,) = sections.sections(records)
    found = tradeoff(points(section, tmp_path))
    assert front_drawing(section, found) is None
    assert front_table(section, found) is None


def test_table_has_every_quality_and_cost(section: sections.Section, found: Tradeoff) -> None:
    """Each of three qualities against time and against passes; a failed method has a row without numbers."""
    table = front_table(section, found)
    assert table is not None
    assert [column.title for column in table.columns] == [
        f"{quality}, {cost}" for cost in ("time", "passes") for quality in ("NLL", "ECE", "AURC")
    ]
    assert [row.failure is None for row in table.rows] == [True] * 15 + [False]


# --- names beside points -----------------------------------------------------------------------------------

lists = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.1)), min_size=1, max_size=25)


@given(lists)
def test_spread_never_overlaps(items: list[tuple[float, float]]) -> None:
    """Names keep their order, their distance and the column, squeezed only where there is no other way."""
    wanted = np.array(sorted(place for place, _ in items))
    heights = np.array([height for _, height in items])
    placed = labels.spread(wanted, heights, 0.0, 1.0)
    room = heights * min(1.0, 1.0 / heights.sum())
    gaps = np.diff(placed) - (room[1:] + room[:-1]) / 2
    assert (gaps > -1e-9).all()
    assert placed[0] - room[0] / 2 > -1e-9
    assert placed[-1] + room[-1] / 2 < 1 + 1e-9


@given(st.lists(st.integers(1, 18), min_size=1, max_size=8, unique=True))
def test_spread_leaves_names_where_there_is_room(places: list[int]) -> None:
    """Names that do not touch stay where they are wanted."""
    wanted = np.array(sorted(places)) / 20
    placed = labels.spread(wanted, np.full(len(places), 0.05), 0.0, 1.0)
    np.testing.assert_allclose(placed, wanted, atol=1e-12)


def test_spread_known_answer() -> None:
    """Two names wanted at one place are moved apart by the same distance."""
    np.testing.assert_allclose(labels.spread(np.array([0.5, 0.5]), np.full(2, 0.2), 0.0, 1.0), [0.4, 0.6])


placed = st.lists(
    st.tuples(st.floats(0.5, 4.0), st.floats(0.0, 5.0), st.sampled_from([0.14, 0.29])),
    min_size=1,
    max_size=35,
)


@given(placed, st.sampled_from([0.0, 5.0]))
@settings(deadline=None)
def test_no_two_lines_to_names_cross(items: list[tuple[float, float, float]], x: float) -> None:
    """In a column on either side, however the points lie; looked at here pair by pair."""
    points = np.array([(across, up) for across, up, _ in items])
    ends = labels.column(points, np.array([height for *_, height in items]), x, 0.0, 5.4)
    lines = [(tuple(point), (x, float(end))) for point, end in zip(points, ends, strict=True)]
    assert not [pair for pair in combinations(lines, 2) if crossed(*pair)]


Segment = tuple[tuple[float, float], tuple[float, float]]


def crossed(one: Segment, other: Segment) -> bool:
    """Whether two segments have a point in common that is inside of both."""

    def side(line: Segment, point: tuple[float, float]) -> float:
        (ax, ay), (bx, by) = line
        return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)

    ends = [side(one, other[0]) * side(one, other[1]), side(other, one[0]) * side(other, one[1])]
    return max(ends) < -1e-6


def test_the_lines_would_cross_by_the_order_of_points_alone() -> None:
    """The one that is lower is farther away: names in the order of their points would make a cross."""
    points = np.array([[4.0, 1.0], [1.0, 1.02]])
    assert labels.crossing(points, np.array([2.0, 2.2]), 0.0) is not None
    ends = labels.column(points, np.full(2, 0.2), 0.0, 0.0, 5.0)
    assert labels.crossing(points, ends, 0.0) is None
    assert crossed(((4.0, 1.0), (0.0, 3.0)), ((4.0, 3.0), (0.0, 1.0)))


@pytest.mark.parametrize(("values", "log"), [([0.2, 0.3, 0.4, 0.5], False), ([*[0.2] * 8, 9.0], True)])
def test_an_outlier_does_not_squash_the_front(values: list[float], log: bool) -> None:
    """A scale on which most would lie in the lowest tenth is logarithmic instead."""
    assert squashed(values) is log
