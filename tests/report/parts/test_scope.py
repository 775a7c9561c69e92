"""What a report says about texts out of scope, on a run of its own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_curve

import oos_data
import report_example as example
from calibench.report import content, sections, write_html, write_report
from calibench.report.drawing import style
from calibench.report.parts.headline import judge
from calibench.report.parts.scope import detection_drawing, detection_table, joint_table, other_scores_table
from calibench.report.terminal.records import terminal_table
from calibench.report.writing.numbers import interval
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records, write_records


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """Two methods on texts of which some are out of scope, and one that failed."""
    data = oos_data.write(tmp_path_factory.mktemp("data") / "beyond")
    folder = tmp_path_factory.mktemp("run")
    records = run(oos_data.suite(data, "frequentist", "mc-dropout"), folder)
    failed = {key: value for key, value in records[1].items() if key not in ("metrics", "joint")}
    failed |= {"status": "error", "error": {"type": "X", "message": "out of luck"}, "cell": "f" * 12}
    failed["method"] = failed["method"] | {"name": "failed"}
    write_records(folder, [*records, failed])
    return folder, load_records(folder)


def only_section(records: list[Record]) -> sections.Section:
    (section,) = sections.sections(records)
    return section


def printed(records: list[Record], folder: Path) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(terminal_table(records, folder))
    return out.getvalue()


def test_the_tables_are_the_records(finished: tuple[Path, list[Record]]) -> None:
    """A row for every method, with the record's numbers, and one for every further score; the joint view."""
    section = only_section(finished[1])
    table, others = detection_table(section, None), other_scores_table(section)
    assert others is not None
    metrics = finished[1][1]["metrics"]
    for shown, score, suffix in ((table, "max probability", ""), (others, "entropy", ".entropy")):
        assert [(row.entry.label, row.cells[0].text) for row in shown.rows if row.failure is None] == [
            ("frequentist", score),
            ("mc-dropout", score),
        ]
        assert [cell.text for cell in shown.rows[1].cells[1:]] == [
            interval(metrics[f"{kind}{suffix}"]) for kind in ("oos_auroc", "oos_aupr", "oos_fpr95")
        ]
    assert [row.failure for row in table.rows][2:] == ["out of luck"]
    joint = joint_table(section)
    assert joint is not None
    expected = finished[1][0]["joint"]
    assert [cell.text for cell in joint.rows[0].cells[1:]] == [
        interval(expected[name]) for name in ("accuracy", "oos_recall", "in_scope_accuracy")
    ]


def test_the_curve_is_that_of_scikit_learn(finished: tuple[Path, list[Record]]) -> None:
    """Every drawn point lies on the ROC curve; the marker is where 95% are found."""
    folder, records = finished
    with style.styled():
        drawing = detection_drawing(only_section(records), folder)
    assert drawing is not None
    stored = load_predictions(folder, records[0])
    alarms, found, _ = roc_curve(stored.label < 0, -stored.probs.max(axis=1), drop_intermediate=False)
    line, marker = drawing.figure.axes[0].lines[:2]
    np.testing.assert_allclose(np.asarray(line.get_xdata()), alarms)
    np.testing.assert_allclose(np.asarray(line.get_ydata()), found)
    assert np.asarray(marker.get_xdata()).item() == records[0]["metrics"]["oos_fpr95"]["value"]


def test_reports_have_the_section(finished: tuple[Path, list[Record]]) -> None:
    """Markdown, page and terminal; the metrics are not repeated under further metrics."""
    folder, records = finished
    text = write_report(folder).read_text()
    assert "## Out of scope\n" in text
    assert "40 of the 130 texts belong to no class that the model knows" in text
    assert "130 examples of the split `test`, 40 of them out of scope" in text
    assert (
        "Differences from `frequentist` on the same 90 examples, and 40 out of scope. The 5 verdicts" in text
    )
    assert "on these 90 examples would still read" in text
    assert "oos_auroc" not in text
    assert "figures/embedded-scope.png" in text
    page = write_html(folder).read_text()
    assert '<section id="out-of-scope">' in page
    lines = printed(records, folder).splitlines()
    head = next(i for i, line in enumerate(lines) if "AUROC" in line)
    assert lines[head].split()[-3:] == ["joint", "accuracy", "recall"]
    assert interval(records[0]["metrics"]["oos_auroc"]) in lines[head + 1]
    assert sum("out of luck" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100


def test_without_texts_out_of_scope_there_is_none(tmp_path: Path) -> None:
    """Neither section nor columns."""
    records = example.build(tmp_path)
    only = only_section(records)
    with style.styled():
        titles = [part.title for part in content.parts(only, judge(only, tmp_path), tmp_path)]
    assert not {"Out of scope", "In scope or not, and which class"} & set(titles)
    assert "scope" not in printed(records, tmp_path)


def test_without_a_threshold_there_is_no_joint_view(tmp_path: Path) -> None:
    """Detection stands alone, and the terminal leaves the columns out."""
    data = oos_data.write(tmp_path / "data")
    suite = oos_data.suite(data, "frequentist")
    records = run(replace(suite, data=replace(suite.data, threshold_split=None)), tmp_path / "run")
    assert joint_table(only_section(records)) is None
    assert "AUROC" in printed(records, tmp_path / "run")
    assert "joint" not in printed(records, tmp_path / "run")
