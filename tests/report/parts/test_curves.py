"""Figures draw what the records and predictions hold, the same byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

import report_example as example
from calibench.report import sections, write_report
from calibench.report.drawing import style
from calibench.report.parts import published, reliability
from calibench.report.parts.curves import curve_drawings
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    example.build(path, with_curve=True, truth=True)
    write_report(path)
    return path


def only_section(records: list[Record]) -> sections.Section:
    (section,) = sections.sections(records)
    return section


def test_figures_are_the_same_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    """A second report of the same records has the same bytes: text, SVG and PNG."""
    example.build(tmp_path, with_curve=True, truth=True)
    write_report(tmp_path)
    made = sorted(path.relative_to(folder) for path in [*folder.glob("figures/*"), folder / "report.md"])
    assert len(made) == 13
    for path in made:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes(), path
    assert b"<dc:date>" not in (folder / "figures/sst2-front.svg").read_bytes()


def test_reliability_bars_are_the_stored_predictions(folder: Path) -> None:
    """Bar heights are the accuracy of the examples in each bin, computed here from the stored predictions."""
    records = load_records(folder)
    section = only_section(records)
    with style.styled():
        drawing = reliability.reliability_diagrams(section, folder)
    assert drawing is not None
    stored = load_predictions(folder, records[0])
    confidence, right = stored.probs.max(1), stored.probs.argmax(1) == stored.label
    bucket = np.minimum((confidence * 10).astype(int), 9)
    accuracy = np.array([np.mean(right[bucket == b]) for b in range(5, 10)])
    counts = np.array([np.sum(bucket == b) for b in range(5, 10)])
    bars, gaps = (found for found in drawing.figure.axes[0].collections if isinstance(found, PolyCollection))
    heights = [np.ptp(path.vertices[:, 1]) for path in bars.get_paths()]
    upper, lower = np.array(heights[:5]), np.array(heights[5:10])
    np.testing.assert_allclose(upper / upper[0], accuracy / accuracy[0], atol=1e-12)
    # Counts are on a log scale from one half.
    np.testing.assert_allclose(lower / lower[0], np.log(2 * counts) / np.log(2 * counts[0]), atol=1e-12)
    assert len(bars.get_paths()) == 2 * len(gaps.get_paths())
    assert to_hex(bars.get_facecolors()[0]) == style.colour(0)


def test_reliability_leaves_out_unscored_labels(tmp_path: Path) -> None:
    """Examples whose label the model cannot output are in no bin."""
    import pyarrow.parquet as pq

    records = example.build(tmp_path, example.METHODS[:1], n=50)
    file = tmp_path / records[0]["predictions"]
    frame = pq.read_table(file).to_pydict()
    frame["label"][:10] = [-1] * 10
    pq.write_table(example.pa.table(frame), file)
    (entry,) = only_section(records).entries
    assert reliability.curve_of(entry, tmp_path).count.sum() == 40


@pytest.mark.parametrize(
    ("model", "n", "shown"),
    [(example.STUDY_MODEL, 872, True), (example.STUDY_MODEL, 100, False), ("sst2-minilm", 872, False)],
)
def test_published_points_only_beside_the_published_model(
    tmp_path: Path, model: str, n: int, shown: bool
) -> None:
    """The study's values are drawn where model and examples are the study's, and nowhere else."""
    records = example.build(tmp_path, example.METHODS[:2], model=model, n=n, with_curve=True)
    section = only_section(records)
    assert (published.published(section, "ece") is not None) is shown
    assert published.published(section, "nll") is None
    with style.styled():
        drawing = next(d for d in curve_drawings(section) if d.name.endswith("-ece"))
    legend = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert ("published, MC-Dropout" in legend) is shown


def test_curve_bands_are_the_records(folder: Path) -> None:
    """The two bands of a curve are the interval over examples and the one over the order of passes."""
    section = only_section(load_records(folder))
    with style.styled():
        drawing = next(d for d in curve_drawings(section) if d.name.endswith("-ece"))
    wide, narrow = drawing.figure.axes[0].collections[:2]
    points = section.entries[1].record["curve"]["metrics"]["ece"]
    for band, low, high in ((wide, "low", "high"), (narrow, "order_low", "order_high")):
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].min() == pytest.approx(min(point[low] for point in points))
        assert corners[:, 1].max() == pytest.approx(max(point[high] for point in points))


def test_more_methods_than_colours() -> None:
    """Beyond ten methods colours repeat, but never together with the marker."""
    looks = {(style.colour(order), style.marker(order)) for order in range(40)}
    assert len(looks) == 40


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (9, (3, 3)), (10, (3, 4))]
)
def test_panels_fill_rows_evenly(count: int, expected: tuple[int, int]) -> None:
    """Panels are at most four beside each other, in rows as equal as can be."""
    assert style.shape(count, 4) == expected
