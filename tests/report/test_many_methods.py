"""Reports of many methods, some of which add a score alone: each stands where it has something to say."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score, roc_curve

import many_methods as example
from calibench.compare.detectors import Choice
from calibench.compare.recommendation import Decision
from calibench.report import content, sections, write_csv, write_model_card
from calibench.report.drawing import style
from calibench.report.pages.markdown import render
from calibench.report.parts.detectors import detector_choice, detector_words
from calibench.report.parts.headline import judge
from calibench.report.parts.recommendation import decision_of, lost
from calibench.report.parts.scope import detection_drawing, detection_table, joint_table
from calibench.report.parts.selective import selective_table
from calibench.report.points import points
from calibench.report.sections import Entry, Section
from calibench.report.terminal.records import terminal_table
from calibench.report.writing import tables
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records, write_records

CHOSEN = {
    "frequentist",
    "mc-dropout",
    "last-layer-laplace-kronecker",
    "spectral-normalised-gaussian-process",
    "energy",
    "mahalanobis",
    "no-dropout",
}
FEW = (
    *(spec for spec in example.MANY if spec.name in CHOSEN),
    example.Spec("overconfident", sharpness=8.0),
)
ALONE = ("energy", "mahalanobis")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    example.build(path, FEW, inside=240, beyond=80)
    return path


@pytest.fixture(scope="module")
def section(folder: Path) -> Section:
    (found,) = sections.sections(load_records(folder))
    return found


@pytest.fixture(scope="module")
def parts(section: Section, folder: Path) -> dict[str, content.Part]:
    with style.styled():
        return {part.title: part for part in content.parts(section, judge(section, folder), folder)}


@pytest.fixture(scope="module")
def choice(section: Section, folder: Path) -> Choice:
    found = detector_choice(points(section, folder))
    assert found is not None
    return found


def labels(part: content.Part) -> list[str]:
    assert part.table is not None
    return [row.entry.label for row in part.table.rows]


def record_of(section: Section, label: str) -> Record:
    return next(entry.record for entry in section.entries if entry.label == label)


# --- where a method stands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["Selective prediction", "Out of scope", "Cost", "Where the time goes"])
def test_scores_are_shown_where_texts_are_ranked(parts: dict[str, content.Part], title: str) -> None:
    """And where time is; every other method is there too."""
    assert set(ALONE) < set(labels(parts[title]))


def test_scores_are_left_out_where_probabilities_are_compared(parts: dict[str, content.Part]) -> None:
    """Of tables, figures and the recommendation alike; one sentence names them."""
    for title in ("Quality", "Against the reference", "Under shift", "Probability of being on the front"):
        assert set(ALONE).isdisjoint(labels(parts[title]))
        assert "mc-dropout" in labels(parts[title])
    for title in ("Reliability diagrams", "Under shift", "Cost against quality"):
        for drawing in parts[title].drawings:
            assert "mc-dropout:" in drawing.alt
            assert not any(f"{name}:" in drawing.alt for name in ALONE)
    assert (
        "Not here are `energy` and `mahalanobis`: their probabilities are those of" in parts["Quality"].text
    )
    first, second = parts["Recommendation"].text.split("\n\n")
    assert not any(name in first for name in ALONE)
    assert "mahalanobis" in second


def test_failed_methods_stay_in_every_table(parts: dict[str, content.Part]) -> None:
    """Matrix and details included."""
    for part in parts.values():
        for table in (part.table, part.details):
            if table is not None and part.title != "Out of scope":
                assert "no-dropout" in [row.entry.label for row in table.rows]


def test_records_without_the_fields_are_as_before(tmp_path: Path) -> None:
    """Older ones have neither `score` nor `score_only`: the largest probability ranks, and all is shown."""
    example.build(tmp_path, FEW[:3], inside=60, beyond=40)
    records = load_records(tmp_path)
    for record in records:
        del record["method"]["score"], record["method"]["score_only"]
    write_records(tmp_path, records)
    (section,) = sections.sections(load_records(tmp_path))
    assert section.by_score_alone == ()
    assert section.distinct() == section
    table = selective_table(section)
    assert table is not None
    assert [row.cells[0].text for row in table.rows] == ["max probability"] * 3


# --- scores ------------------------------------------------------------------------------------------------


def test_every_row_says_its_score(section: Section, choice: Choice) -> None:
    """Each method's own; a method with probabilities of its own has a second row by the largest of them."""
    by = {row.entry.label: row.cells[0].text for row in detection_table(section, choice).rows if row.cells}
    assert by["mahalanobis"] == "mahalanobis distance"
    assert by["spectral-normalised-gaussian-process"] == "variance"
    assert by["mc-dropout"] == "max probability"
    table = selective_table(section)
    assert table is not None
    rows = [(row.entry.label, row.cells[0].text) for row in table.rows if row.cells]
    assert [text for label, text in rows if label.startswith("spectral")] == ["variance", "max probability"]
    assert [text for label, text in rows if label == "energy"] == ["energy"]


def test_the_curve_is_by_the_method_s_own_score(section: Section, folder: Path) -> None:
    """As scikit-learn has it."""
    with style.styled():
        drawing = detection_drawing(section, folder)
    assert drawing is not None
    stored = load_predictions(folder, record_of(section, "energy"))
    alarms, found, _ = roc_curve(stored.label < 0, stored.scores["energy"], drop_intermediate=False)
    drawn = [line for line in drawing.figure.axes[0].lines if len(line.get_xdata()) == len(alarms)]
    assert any(
        np.allclose(line.get_ydata(), found) and np.allclose(line.get_xdata(), alarms) for line in drawn
    )


def test_the_verdicts_are_those_of_the_choice(section: Section, folder: Path, choice: Choice) -> None:
    """The table, the paragraph and the AUROCs of the stored scores agree."""
    rows = {row.entry.label: row.cells[-1] for row in detection_table(section, choice).rows if row.cells}
    assert rows["mahalanobis"].text == "best"
    assert rows["frequentist"].text.endswith(" worse")
    stored = {name: load_predictions(folder, record_of(section, name)) for name in ("energy", "mahalanobis")}
    aurocs = [
        roc_auc_score(found.label < 0, found.scores[name])
        for name, found in zip(("energy", "mahalanobis_distance"), stored.values(), strict=True)
    ]
    assert rows["energy"].sort == pytest.approx(aurocs[0] - aurocs[1])
    words = detector_words(section, choice)
    assert words.startswith("**For texts out of scope, use `energy`.** Of 9 methods, each by its own score,")
    assert "`mahalanobis` has the highest AUROC" in words
    assert "is not told apart from it; it is the cheapest of these. Over `frequentist` it gains ." in words
    assert words.endswith("It takes 1.01 [0.990, 1.03] times the reference's time.")
    dearer = detector_choice([p for p in points(section, folder) if p.entry.label != "energy"])
    assert dearer is not None
    words = detector_words(section, dearer)
    assert words.startswith(
        "**For texts out of scope, use `mahalanobis`, by the score `mahalanobis_distance`.**"
    )
    assert "It takes 1.12 [1.10, 1.14] times the reference's time, and 6.00 s to be fitted on 2,000" in words


def test_without_texts_out_of_scope_there_is_one_paragraph(tmp_path: Path) -> None:
    """And nothing to choose a detector for."""
    example.build(tmp_path, FEW[:2], inside=60, beyond=0)
    (section,) = sections.sections(load_records(tmp_path))
    assert detector_choice(points(section, tmp_path)) is None


# --- many rows ---------------------------------------------------------------------------------------------


def test_the_matrix_has_a_row_per_method(parts: dict[str, content.Part]) -> None:
    """Differences and verdicts are those of the details, which hold a row per method and metric."""
    part = parts["Against the reference"]
    assert part.table is not None
    assert part.details is not None
    columns = [column.title.rpartition(" ")[0].removesuffix(" →") for column in part.table.columns]
    details = {(row.entry.label, row.cells[0].text): row.cells for row in part.details.rows if row.cells}
    matrix = [row for row in part.table.rows if row.cells]
    assert len(matrix) * len(columns) == len(details)
    words = set()
    for row in matrix:
        for title, cell in zip(columns, row.cells, strict=True):
            detail = details[row.entry.label, title]
            assert (cell.sort, cell.span) == (detail[1].sort, detail[1].span)
            word = cell.text.partition(" ")[2]
            assert word == (detail[4].text if detail[4].text in ("better", "worse") else "")
            assert cell.tone == {"better": "right", "worse": "wrong", "": None}[word]
            words.add(word)
    assert words == {"better", "worse", ""}
    assert "(6 methods in 5 metrics) hold together" in part.text


def test_fitting_has_columns_among_the_costs(section: Section) -> None:
    """Of methods and of post-hoc steps; of both where a step comes after a method that is fitted itself."""
    record = record_of(section, "mc-dropout + temperature")
    own = {"seconds": 1.0, "examples": 2000, "split": "train"}
    both = record | {"fit": record["fit"] | {"method": own}}
    shown = Section("s", (*section.entries, Entry(both, "both", 99)))
    table = tables.cost(shown)
    assert [column.title for column in table.columns[-3:]] == ["Fit (s)", "Fitted on", "Fit memory"]
    cells = {row.entry.label: [cell.text for cell in row.cells[-3:]] for row in table.rows if row.cells}
    assert cells["mahalanobis"] == ["6.00", "2,000 (train)", "143 MiB"]
    assert cells["mc-dropout + temperature"] == ["2.40", "800 (validation)", "-"]
    assert cells["both"][1] == "2,000 (train) + 800 (validation)"
    assert cells["frequentist"] == ["-"] * 3
    bare = Section("s", section.entries[:1])
    assert "Fit (s)" not in [column.title for column in tables.cost(bare).columns]


def test_no_two_rows_look_alike(tmp_path: Path) -> None:
    """A post-hoc step has its method's colour and marker, hollow; all else differs in one of the three."""
    (section,) = sections.sections(example.build(tmp_path, tuple(_bare(spec) for spec in example.MANY)))
    looks = {}
    for entry in section.entries:
        look = style.marked(entry, 6)
        looks[entry.label] = (look["color"], look["marker"], look["markerfacecolor"], look["fillstyle"])
    assert len(set(looks.values())) == len(example.MANY)
    assert looks["mc-dropout"][:2] == looks["mc-dropout + temperature"][:2]
    grey = [label for label, look in looks.items() if look[0] == style.COLOURS[0]]
    assert grey == ["frequentist", "frequentist + temperature"]


def _bare(spec: example.Spec) -> example.Spec:
    """The method as one that failed, which takes no time to make."""
    return replace(spec, error="out of luck")


def test_few_curves_are_named(tmp_path: Path) -> None:
    """The reference and those worth most; all, where they are few."""
    (section,) = sections.sections(example.build(tmp_path, tuple(_bare(spec) for spec in example.MANY)))
    picked = style.picked(section.entries, lambda entry: float(entry.order) or None)
    assert [entry.order for entry in picked] == [
        0,
        *range(len(example.MANY) - style.NAMED + 1, len(example.MANY)),
    ]
    few = section.entries[: style.NAMED]
    assert style.picked(few, lambda entry: float(entry.order)) == few


def test_the_terminal_keeps_to_its_width(section: Section, folder: Path) -> None:
    """Long names go on in the next line; scores have no quality of their own and are named below."""
    out = io.StringIO()
    Console(file=out, width=100).print(terminal_table([entry.record for entry in section.entries], folder))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    first = next(line for line in lines if line.startswith("energy"))
    assert first.split()[2:7] == ["-"] * 5
    assert "Probabilities of the plain softmax, with a score beside: energy, mahalanobis." in lines
    assert any(line.split()[:3] == ["energy", "1", "energy"] for line in lines)


def test_exports_hold_verdicts_and_no_copies(folder: Path, parts: dict[str, content.Part]) -> None:
    """The CSV has the details of the matrix; the model card only what a method adds."""
    with write_csv(folder).open(newline="", encoding="utf-8") as file:
        rows = {(row["label"], row["metric"]): row for row in csv.DictReader(file)}
    details = parts["Against the reference"].details
    assert details is not None
    for row in details.rows:
        if row.cells and row.cells[0].text == "NLL":
            written = rows[row.entry.label, "nll"]
            assert float(written["difference"]) == row.cells[1].sort
            assert written["verdict"] == row.cells[4].text
    assert rows["energy", "nll"]["verdict"] == ""
    assert (rows["energy", "nll"]["score"], rows["energy", "nll"]["score_only"]) == ("energy", "True")
    card = write_model_card(folder).read_text(encoding="utf-8")
    assert "\n| mc-dropout " in card
    assert "\n| energy " not in card


def test_markdown_escapes_the_side_of_a_threshold(section: Section) -> None:
    """Out of scope is below a probability and above a score."""
    block = {
        "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6},
        "oos_recall": None,
        "in_scope_accuracy": None,
    }
    entries = [
        Entry(entry.record | {"joint": block | {"score": score, "threshold": 0.25}}, entry.label, entry.order)
        for entry, score in zip(section.entries, ("max_probability", "energy"), strict=False)
    ]
    table = joint_table(Section("s", tuple(entries)))
    assert table is not None
    assert [row.cells[0].text for row in table.rows] == ["< .250", "> .250"]
    assert "&lt; .250" in render(table)


def test_what_a_detector_loses_is_said(section: Section, folder: Path, choice: Choice) -> None:
    """Of the method that is named, or of those that were passed over; a score alone loses nothing."""
    placed = [p for p in points(section, folder) if p.entry.label not in ALONE]
    decision = decision_of(section.distinct(), placed)
    assert isinstance(decision, Decision)
    losses = lost(decision)
    orders = {entry.label: entry.order for entry in section.measured}
    assert "nll" in losses[orders["overconfident"]]
    assert orders["energy"] not in losses
    found = detector_choice(points(section, folder), decision)
    assert found is not None
    assert {item.order for item in (found.best, *found.alike) if item.loses} == {
        order
        for order, names in losses.items()
        if names and order in {i.order for i in (found.best, *found.alike)}
    }
    guilty = replace(choice, pick=replace(choice.pick, loses=("nll", "ece_debiased")))
    words = detector_words(section, guilty)
    assert "Its probabilities are shown worse than the reference's in NLL and debiased ECE²." in words
    passed = replace(choice, passed_over=(replace(choice.best, loses=("brier",)),))
    words = detector_words(section, passed)
    assert "it is the cheapest of these that lose nothing else." in words
    assert (
        "Passed over, as shown worse than the reference in something else: `mahalanobis` (Brier score)."
        in words
    )
