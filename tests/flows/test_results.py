"""What a call gives back: the numbers of the records, the words of the report, and its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import calibench as cb
import scored_files
from calibench.report import write_csv, write_report

PROBS, LABELS = scored_files.predictions(600)
SURE, _ = scored_files.predictions(600, scale=2.0)


@pytest.fixture(scope="module")
def found() -> cb.Results:
    """Two methods with prices and sets."""
    return cb.compare(
        {"plain": PROBS, "sure": SURE}, LABELS, prices={"plain": 1.0, "sure": 2.0}, conformal="lac"
    )


def test_the_table_has_every_estimate_of_the_records(found: cb.Results) -> None:
    """A row per cell, a value that could not be had is NaN."""
    table = found.table().set_index("label")
    for record in found.records:
        row = table.loc[record["method"]["name"]]
        for name, estimate in record["metrics"].items():
            for column, key in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
                expected = np.nan if estimate[key] is None else estimate[key]
                assert np.array_equal(row[column], expected, equal_nan=True)
        assert row["cost_ratio"] == record["cost_ratio"]["value"]
        assert row["set_lac_coverage"] == record["conformal"][0]["coverage"]["value"]
        assert row["cell"] == record["cell"]
    assert table["reference"].tolist() == [True, False]


def test_the_verdicts_are_those_of_the_report(found: cb.Results) -> None:
    """The differences of report.csv, and a known answer: logits twice as large are worse."""
    import csv

    with write_csv(found.folder).open() as file:
        rows = {(r["label"], r["metric"]): r for r in csv.DictReader(file) if r["difference"]}
    verdicts = found.verdicts()
    assert len(verdicts) == len(rows)
    for row in verdicts.to_dict("records"):
        other = rows[row["label"], row["metric"]]
        assert row["difference"] == float(other["difference"])
        assert (row["low"], row["high"]) == (float(other["difference_low"]), float(other["difference_high"]))
        assert row["difference"] == pytest.approx(row["value"] - row["base"])
        assert (row["verdict"] if isinstance(row["verdict"], str) else "") == other["verdict"]
    assert verdicts.set_index("metric").loc["nll", "verdict"] == "worse"


def test_the_recommendation_is_that_of_the_report(found: cb.Results) -> None:
    """Word for word."""
    assert found.recommendation in write_report(found.folder).read_text()
    assert "`plain`" in found.recommendation


def test_figures_are_those_of_the_report(found: cb.Results) -> None:
    """Each kind that is named can be drawn, shows itself in a notebook, and others are refused by name."""
    with pytest.raises(
        cb.UsageError, match=r"^There is no figure 'risk' of these records; there is (.*)\.$"
    ) as raised:
        found.figure("risk")
    kinds = str(raised.value).removesuffix(".").rpartition("there is ")[2].split(", ")
    assert kinds == ["reliability", "risk-coverage", "front", "sets"]
    for kind in kinds:
        figure = found.figure(kind)
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_several_tables_are_told_apart(tmp_path: Path) -> None:
    """A figure says of which it is; words and rows are of all."""
    for seed in (0, 1):
        found = cb.compare({"plain": PROBS, "sure": SURE}, LABELS, seed=seed, output=tmp_path)
    assert len(found.table()) == 4
    assert sorted(found.verdicts()["seed"].unique().tolist()) == [0, 1]
    assert found.recommendation.count("**Stay with `plain`**") == 2
    assert found._repr_html_().count("<table>") == 2
    with pytest.raises(cb.UsageError, match=r"These records make 2 tables; .* one of scored, scored-2\."):
        found.figure()
    assert isinstance(found.figure(table="scored-2"), Figure)


def test_a_notebook_shows_it_without_a_network_and_without_markup_of_others() -> None:
    """Names are words, whatever is in them, and nothing is loaded from elsewhere."""
    name = "<script>alert(1)</script>"
    found = cb.compare({name: PROBS, "b": SURE}, LABELS)
    html = found._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not any(word in html for word in ("http", "src=", "href=", "url("))
    assert repr(found) == f"<Results of {name}, b>"
