"""The table of differences from the reference says what the comparison says, and so do the lines below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import report_example as example
from calibench.compare.verdicts import FAMILY, compare
from calibench.metrics.calibration import ECE
from calibench.metrics.scoring import NLL
from calibench.report import write_html, write_report
from calibench.report.parts.against import against, against_words, closing, details_table, footer
from calibench.report.sections import Section, sections
from calibench.stats.montecarlo import sd_over_seeds, sds_over_passes
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records, write_records
from calibench.types import Evaluation, FloatArray
from run_pairs import METHOD, REFERENCE, run
from simulated import simulated

BLUNT = replace(METHOD, name="blunt", sharpness=0.2)


def first_section(folder: Path) -> Section:
    return sections(load_records(folder))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("against"), REFERENCE, METHOD, BLUNT, example.FAILED)


def test_each_method_has_a_row_per_metric(folder: Path) -> None:
    """The numbers are those of the comparison, and failures stay in the table."""
    section = first_section(folder)
    found = against(section, folder)
    assert found is not None
    table = details_table(section, found, folder)
    assert [(row.entry.label, row.cells[0].text) for row in table.rows[:-1]] == [
        (name, metric.title) for name in ("mc-dropout", "blunt") for metric in (*FAMILY, ECE)
    ]
    assert table.rows[-1].failure == example.FAILED.error
    stored = [load_predictions(folder, entry.record) for entry in section.measured]
    expected = compare(
        stored[0].probs, {"mc-dropout": stored[1].probs, "blunt": stored[2].probs}, stored[0].label, seed=0
    )
    tested = [row for row in table.rows[:-1] if row.cells[0].text != ECE.title]
    assert [row.cells[4].text for row in tested] == [difference.verdict for difference in expected]
    assert [row.cells[1].sort for row in tested] == [difference.difference.value for difference in expected]
    assert {"better", "worse"} & {row.cells[4].text for row in tested}


def test_ece_is_described_and_gets_no_verdict(folder: Path) -> None:
    """A dash where there is nothing to say."""
    section = first_section(folder)
    found = against(section, folder)
    assert found is not None
    (row,) = [row for row in details_table(section, found, folder).rows[:5] if row.cells[0].text == ECE.title]
    assert [cell.text for cell in row.cells[2:5]] == ["-", "-", "-"]
    assert row.cells[1].span is not None


def test_words_say_what_could_have_been_shown(folder: Path) -> None:
    """One size per metric with a verdict, and the number of verdicts."""
    found = against(first_section(folder), folder)
    assert found is not None
    text = against_words(found)
    assert "Differences from `frequentist` on the same 872 examples. The 8 verdicts (2 methods in 4" in text
    for metric in FAMILY:
        assert metric.title in footer(found)[0]
    assert "itself" not in footer(found)[-1]


def test_the_race_against_itself_is_told_below_the_tables(tmp_path: Path) -> None:
    """In the report, on the page and on the terminal, and only where there was one."""

    def raced(record: Record) -> None:
        if record["reference"]:
            ratio = example.estimate(1.003, 0.021)
            record["self_check"] = {"cost_ratio": ratio, "latency_ratio": example.missing("n too small")}

    folder = run(tmp_path / "a", change=raced)
    line = "took 1.00 [0.982, 1.02] times its own time (latency unknown: n too small)"
    assert line in write_report(folder).read_text("utf-8")
    assert line in write_html(folder).read_text("utf-8")
    console = Console(width=1000)
    with console.capture() as capture:
        console.print(closing(load_records(folder), folder))
    assert line in capture.get()
    plain = run(tmp_path / "b")
    assert closing(load_records(plain), plain).plain == ""


def test_there_is_no_table_without_something_to_compare(tmp_path: Path) -> None:
    """One method, or a reference that failed."""
    alone = run(tmp_path / "a", REFERENCE)
    failed = run(tmp_path / "b", replace(REFERENCE, error="out of memory"), METHOD, BLUNT)
    for folder in (alone, failed):
        assert against(first_section(folder), folder) is None
        assert "Against the reference" not in write_report(folder).read_text("utf-8")


def test_the_spread_over_seeds_is_that_of_the_records(tmp_path: Path) -> None:
    """Three seeds give a standard deviation of the method's own number; one does not."""
    folder = run(tmp_path, seeds=(0, 1, 2))
    section = first_section(folder)
    found = against(section, folder)
    assert found is not None
    values = [r["metrics"]["nll"]["value"] for r in load_records(folder) if not r["reference"]]
    rows = details_table(section, found, folder).rows
    cell = next(row.cells[5] for row in rows if row.cells[0].text == NLL.title)
    assert cell.sort == pytest.approx(np.std(values, ddof=1))
    write_records(folder, load_records(folder)[:4])
    cells = [row.cells[5] for row in details_table(section, found, folder).rows]
    assert {cell.reason for cell in cells} == {"needs 3 seeds: no standard error over passes"}


def test_one_seed_goes_by_the_standard_errors_over_passes(tmp_path: Path) -> None:
    """Where the predictions hold them."""
    folder = run(tmp_path)
    section = first_section(folder)
    file = folder / section.entries[1].record["predictions"]
    table = pq.read_table(file)
    pq.write_table(table.append_column("standard_error", pa.array(np.full(872, 0.02))), file)
    found = against(section, folder)
    assert found is not None
    assert all((row.cells[5].sort or 0.0) > 0.0 for row in details_table(section, found, folder).rows)


def passes(posterior: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Mean of 20 noisy passes around `posterior`, float64 [N, 2], and its standard errors, float64 [N]."""
    drawn = rng.beta(20 * posterior[:, 0] + 0.5, 20 * posterior[:, 1] + 0.5, size=(20, len(posterior)))
    mean = drawn.mean(axis=0)
    return np.stack([mean, 1.0 - mean], axis=1), drawn.std(axis=0, ddof=1) / np.sqrt(20)


def test_the_spread_over_passes_is_that_of_fresh_runs() -> None:
    """Simulated: within 25% of the standard deviation over 200 runs, each known to 5%."""
    evaluation = simulated(1, 500)
    assert evaluation.posterior is not None
    rng = np.random.default_rng(2)
    for metric in (NLL, FAMILY[2]):
        runs = [passes(evaluation.posterior, rng)[0] for _ in range(200)]
        actual = np.std([metric.evaluate(Evaluation(run, evaluation.labels)) for run in runs], ddof=1)
        probs, error = passes(evaluation.posterior, rng)
        (told,) = sds_over_passes([metric], Evaluation(probs, evaluation.labels), error)
        assert told == pytest.approx(actual, rel=0.25)


def test_spreads_that_cannot_be_had_are_none() -> None:
    """Two seeds, or three classes of which one standard error is stored."""
    assert sd_over_seeds([0.1, 0.2]) is None
    assert sd_over_seeds([0.1, 0.2, 0.3]) == pytest.approx(0.1)
    evaluation = simulated(3, 50, classes=3)
    assert sds_over_passes([NLL], evaluation, np.full(50, 0.01)) == [None]
