"""Reports say what the records say, all of it, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

import report_example as example
from calibench import cli
from calibench.errors import UsageError
from calibench.report import sections, write_report
from calibench.report.pages import markdown
from calibench.report.terminal import records
from calibench.report.writing import numbers, reproduce, tables
from calibench.store.records import Record, load_records, write_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    example.build(path, with_curve=True, truth=True)
    write_report(path)
    return path


@pytest.fixture(scope="module")
def report(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


def only_section(records: list[Record]) -> sections.Section:
    (section,) = sections.sections(records)
    return section


def one(**changes: Any) -> Record:
    """A record that went well, of a method without passes, with `changes`."""
    spec = example.METHODS[0]
    made = example.record(spec, "0" * 12, suite="sst2", seed=0, model="m", n=872)
    made["metrics"] = {"accuracy": example.estimate(0.91, 0.019), "ece": example.estimate(0.077, 0.02)}
    return made | changes


def printed(renderable: Any, width: int = 100) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


# --- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.fraction(0.077), ".0770"),
        (numbers.fraction(1.0), "1.0000"),
        (numbers.fraction(-0.00119), "-.0012"),
        (numbers.fraction(-0.00001), ".0000"),
        (numbers.significant(19.84), "19.8"),
        (numbers.significant(9.996), "10.0"),
        (numbers.significant(1432.7), "1,433"),
        (numbers.significant(0.00417), "0.00417"),
        (numbers.significant(0), "0"),
        (numbers.seconds(0.0178), "0.018"),
        (numbers.seconds(9.05e-6), "<0.001"),
        (numbers.seconds(11.142), "11.1"),
        (numbers.seconds(0), "0.000"),
        (numbers.memory(327155712), "312 MiB"),
        (numbers.memory(900), "900 B"),
        (numbers.interval({"value": 0.077, "low": 0.058, "high": 0.0969}), ".0770 [.058, .097]"),
        (numbers.interval({"value": 0.077, "low": None, "high": None}), ".0770"),
    ],
)
def test_numbers_known_answers(written: str, expected: str) -> None:
    """Each style of number is written as documented."""
    assert written == expected


@given(st.floats(1e-6, 1e9), st.sampled_from([2, 3, 4]))
def test_significant_digits(value: float, digits: int) -> None:
    """What is written differs from the value by at most half a unit of its last digit, and
    digits before the point are never dropped."""
    read = float(numbers.significant(value, digits).replace(",", ""))
    unit = 10.0 ** min(0, np.floor(np.log10(value)) + 1 - digits)
    assert abs(read - value) <= 0.5 * unit * (1 + 1e-6)


# --- tables ------------------------------------------------------------------------------------------------


def test_quality_table_golden() -> None:
    """The quality table of two records is this text."""
    failed = example.record(example.FAILED, "1" * 12, suite="sst2", seed=0, model="m", n=872)
    table = tables.quality(only_section([one(), failed]))
    small = tables.Table(
        table.title,
        table.columns[:2],
        tuple(tables.Row(r.entry, r.cells[:2], r.failure) for r in table.rows),
        table.notes,
    )
    message = r"**failed**: dropout p is 0 everywhere \| nothing to draw"
    assert markdown.render(small).replace("\u00a0", " ").splitlines() == [
        f"| Method      |   T | {'Accuracy ↑':>56} |              ECE ↓ |",
        f"|:------------|----:|{'-' * 57}:|-------------------:|",
        f"| frequentist |   1 | {'.9100 [.891, .929]':>56} | .0770 [.057, .097] |",
        f"| no-dropout  |  20 | {message} |                    |",
    ]


def test_failed_cells_are_in_every_table(report: str) -> None:
    """A cell that failed has a row with its message in every table of methods, and no number but its T."""
    found = [line for line in report.splitlines() if line.startswith("| no-dropout")]
    assert len(found) == report.count("| Method")
    for line in found:
        assert r"failed**: dropout p is 0 everywhere \| nothing to draw" in line
        assert re.findall(r"\d+", line.replace("p is 0", "")) == ["20"]


def test_missing_values_show_their_reason() -> None:
    """A short reason stands in the cell; a long one is cut there and stands in full below the table."""
    short, long = "n too small", "the reference was not timed beside this method, which is why"
    record = one(
        timing={
            "latency_ms": {"p50": example.missing(short), "p95": example.missing(f"{short}: 5 requests")}
        },
        cost_ratio=example.missing(long),
        memory={"peak_bytes": None, "kind": "rss", "reason": "not measured"},
    )
    table = tables.cost(only_section([record]))
    text = {column.title: cell.text for column, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    assert text["p50 (ms) ↓"] == short
    assert text["p95 (ms) ↓"] == "n too small: 5 requests"
    assert text["Cost ratio ↓"] == "n/a (a)"
    assert text["Peak memory ↓"] == "not measured"
    assert text["Sentences/s ↑"] == tables.ABSENT
    assert table.notes == (long,)
    assert f"(a) {long}" in markdown.render(table)


@pytest.mark.parametrize(("index", "letters"), [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz")])
def test_note_letters(index: int, letters: str) -> None:
    """Notes are counted a to z, aa, ab and so on."""
    assert tables.note_letter(index) == letters


def test_coverage_table_names_what_is_dead(folder: Path) -> None:
    """BaaL's patch shows 8 of 14 sites and the kind of those it leaves dead."""
    table = tables.coverage(only_section(load_records(folder)))
    assert table is not None
    cells = {row.entry.label: [cell.text for cell in row.cells] for row in table.rows}
    assert cells["mc-dropout-baal"] == ["8/14", "8 hidden", "6 attention"]
    assert cells["mc-dropout"] == ["14/14", "8 hidden, 6 attention", "none"]
    assert "frequentist" not in cells


def test_truth_columns_only_where_truth_is_known() -> None:
    """Posterior error and true ECE have columns where a record holds them, and nowhere else."""
    without = tables.quality(only_section([one()]))
    known = one()
    known["metrics"] |= {"posterior_error": example.estimate(0.03, 0.01)}
    assert "True ECE ↓" not in [column.title for column in without.columns]
    assert "True ECE ↓" in [column.title for column in tables.quality(only_section([known])).columns]


def test_unknown_metrics_are_shown_by_name() -> None:
    """A metric that a plugin added to the records appears under its own name."""
    record = one()
    record["metrics"]["sharpness"] = example.estimate(0.25, 0.01)
    table = tables.further(only_section([record]))
    assert table is not None
    assert [column.title for column in table.columns] == ["sharpness"]
    assert table.rows[0].cells[0].text == ".2500 [.240, .260]"


def test_adaptive_passes_show_the_mean() -> None:
    """Where a method spent fewer passes than asked for, T says how many on average."""
    assert (
        tables.passes(one(passes=20, passes_used={"mean": 7.42, "min": 2, "max": 20})).text
        == "20 (mean 7.42)"
    )
    assert tables.passes(one(passes=20, passes_used={"mean": 20.0, "min": 20, "max": 20})).text == "20"


# --- sections ----------------------------------------------------------------------------------------------


def test_one_section_per_suite_data_model_and_seed(tmp_path: Path) -> None:
    """Two seeds of one suite and another suite make three sections, each with its own figures."""
    records = example.build(tmp_path, example.METHODS[:2], seeds=(0, 1))
    records += example.build(tmp_path, example.METHODS[:2], suite="other", n=60)
    write_records(tmp_path, records)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## `")]
    assert headings == [
        "## `sst2`: `sst2` with `sst2-minilm`, seed 0",
        "## `sst2`: `sst2` with `sst2-minilm`, seed 1",
        "## `other`: `sst2` with `sst2-minilm`, seed 0",
    ]
    assert text.count("### Quality") == 3
    drawn = {path.name for path in (tmp_path / "figures").glob("*reliability.svg")}
    assert drawn == {"sst2-reliability.svg", "sst2-2-reliability.svg", "other-reliability.svg"}


def test_namesakes_are_told_apart_by_their_parameters() -> None:
    """Two cells of one method carry the parameters in which they differ."""
    methods = [
        {"name": "mc-dropout", "params": {"passes": passes, "p": 0.1}, "distribution": "calibench 0.1.0"}
        for passes in (5, 20)
    ]
    records = [one(cell=str(i), method=method, reference=False) for i, method in enumerate(methods)]
    labels = [entry.label for entry in only_section([*records, one()]).entries]
    assert labels == ["frequentist", "mc-dropout (passes=5)", "mc-dropout (passes=20)"]


def test_a_resumed_cell_supersedes_itself() -> None:
    """Of two records of one cell the later stands."""
    section = only_section([one(status="error", error={"type": "E", "message": "no"}), one()])
    assert [entry.failure for entry in section.entries] == [None]


# --- markdown ----------------------------------------------------------------------------------------------


def test_heading_says_what_ran(report: str) -> None:
    """The first sentence names data, n, model, device, T, seed and failures."""
    sentence = report.split("\n\n")[2]
    for part in ("6 methods on `sst2`", "872 examples", "`sst2-minilm`", "`cpu`", "T = 20", "seed 0"):
        assert part in sentence
    assert "1 of them failed" in sentence


def test_numbers_come_from_the_record(tmp_path: Path) -> None:
    """Changing a number in the records changes it in the report, whatever the stored predictions say."""
    records = example.build(tmp_path, example.METHODS[:1])
    for name, value in (("ece", 0.4321), ("accuracy", 0.1234), ("nll", 7.6543)):
        records[0]["metrics"][name] = example.estimate(value, 0.01)
    records[0]["cost_ratio"] = example.estimate(77.7, 1.0)
    write_records(tmp_path, records)
    row = {
        line.split("|")[3].strip()
        for line in write_report(tmp_path).read_text("utf-8").splitlines()
        if "| freq" in line
    }
    assert {".1234 [.113,\u00a0.133]", "77.7 [76.7,\u00a078.7]"} <= row
    assert ".4321 [.422,\u00a0.442]" in (tmp_path / "report.md").read_text("utf-8")


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_any_name_stays_in_its_cell(name: str, message: str) -> None:
    """Whatever characters are in a name or message, the table keeps its shape and shows them as they are."""
    first = one(method={"name": f"x{name}", "params": {}, "distribution": ""})
    second = one(cell="1", status="error", error={"type": "E", "message": message}, reference=False)
    table = markdown.render(tables.quality(only_section([first, second])))
    tokens = MarkdownIt().enable("table").parse(table)
    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type in ("td_open", "th_open")]
    shown = [
        "".join(child.content for child in cell.children or [] if child.type != "html_inline")
        for cell in cells
    ]
    assert len(shown) == 3 * 8
    assert shown[8] == " ".join(f"x{name}".split())
    assert shown[18] == f"failed: {' '.join(message.split()) or 'E'}"


def test_images_exist_and_have_alt_texts(folder: Path, report: str) -> None:
    """Every image of the report lies in the folder, in both formats, and says in words what it shows."""
    images = re.findall(r"!\[(.*?)\]\((.*?)\)", report)
    assert len(images) == 6
    for alt, path in images:
        assert (folder / path).stat().st_size > 1000
        assert (folder / path).with_suffix(".svg").stat().st_size > 1000
        assert "mc-dropout" in alt
        assert re.search(r"\d", alt)


def test_report_without_predictions_says_so(folder: Path, tmp_path: Path) -> None:
    """Records alone, as they are kept in version control, make a report that names the diagrams it lacks."""
    write_records(tmp_path, load_records(folder))
    text = write_report(tmp_path / "records.jsonl").read_text(encoding="utf-8")
    assert (
        "Not drawn, because no predictions lie beside the records: `frequentist`, `mc-dropout-baal`" in text
    )
    assert "-reliability.png" not in text
    assert (tmp_path / "report.md").is_file()


def test_report_of_failures_only(tmp_path: Path) -> None:
    """A run in which every cell failed still makes a report, with the message and without numbers."""
    example.build(tmp_path, (example.FAILED,))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No method finished" in text
    assert "dropout p is 0 everywhere" in text


def test_nothing_to_report_on(tmp_path: Path) -> None:
    """A folder without records is refused as a user's error."""
    with pytest.raises(UsageError, match="no records"):
        write_report(tmp_path)


def test_reports_load_no_model(folder: Path) -> None:
    """Making a report imports neither torch nor transformers."""
    code = (
        "import sys; from pathlib import Path; from calibench.report import write_report; "
        f"write_report(Path({str(folder)!r})); "
        "print(sorted({'torch', 'transformers', 'baal'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- how to reproduce --------------------------------------------------------------------------------------


def test_command_is_one_the_command_line_accepts(folder: Path) -> None:
    """The printed command parses, and asks for the methods, passes, seed and device of the records."""
    words = shlex.split(reproduce.command(only_section(load_records(folder))))
    assert words[:2] == ["calibench", "run"]
    params = cli.run.make_context("run", words[2:]).params
    assert params["suite"] == "sst2"
    assert params["methods"] == (*(spec.name for spec in example.METHODS), "no-dropout")
    assert (params["passes"], params["seed"], params["device"]) == (20, 0, "cpu")
    assert params["dataset"] == "PATH/TO/sst2"


def test_command_keeps_parameters() -> None:
    """Parameters other than shared passes are given per method."""
    record = one(method={"name": "m", "params": {"passes": 20, "p": 0.2, "on": True}, "distribution": ""})
    text = reproduce.command(only_section([record]))
    assert "-m m --passes 20 -a m.p=0.2 -a m.on=true" in text


def test_command_has_all_settings_of_a_method() -> None:
    """Where a suite has several of one, it says in what they differ, and the command all the rest."""
    members = ["a", "b", "c"]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("frequentist", {"dtype": "same"}),
        ("mc-dropout", {"passes": 20, "keep_samples": True}),
        ("mc-dropout", {"passes": 2, "keep_samples": True}),
        ("mc-dropout-baal", {"passes": 20}),
        ("deep-ensemble", {"members": members, "size": 2}),
        ("deep-ensemble", {"members": members, "size": 0}),
    ]
    made = [
        one(
            cell=f"{number}{step}",
            method={"name": name, "params": params, "folders": members, "distribution": "", "posthoc": step},
        )
        for number, (name, params) in enumerate(asked)
        for step in (None, "temperature")
    ]
    text = reproduce.command(only_section(made))
    assert " -m frequentist -m mc-dropout -m mc-dropout-baal -m deep-ensemble --posthoc" in text
    assert " --posthoc temperature -a frequentist.dtype=same -a mc-dropout.keep_samples=true" in text
    assert (
        " -a mc-dropout-baal.passes=20 -a deep-ensemble.members=PATH/TO/a,PATH/TO/b,PATH/TO/c " in f"{text} "
    )
    assert "mc-dropout.passes" not in text
    assert "--passes" not in text
    assert "size" not in text


@pytest.mark.parametrize(
    ("split", "unseen", "folds", "words"),
    [
        ("train", None, None, ""),
        ("half", None, None, "--train-split half"),
        ("held", False, None, "--calibration-split held"),
        ("held", True, None, "--calibration-split held --unseen"),
        ("validation", None, 5, ""),
    ],
)
def test_command_says_what_was_fitted_on_what(
    split: str, unseen: bool | None, folds: int | None, words: str
) -> None:
    """A method's own training texts are no calibration split, and cross-fitting names none."""
    fit = {"seconds": 1.0, "examples": 9, "folds": folds, "split": split, "unseen": unseen, "parameters": {}}
    text = reproduce.command(only_section([one(fit=fit)]))
    assert words in text
    assert len(re.findall("split|unseen", text)) == len(re.findall("split|unseen", words))


def test_install_pins_what_was_measured() -> None:
    """Third-party methods and library versions are pinned, build tags left out."""
    record = one(method={"name": "m", "params": {}, "distribution": "other 2.0"})
    record["environment"] |= {"torch": "2.13.0+cpu"}
    assert reproduce.install([record]) == "pip install other==2.0 torch==2.13.0 transformers==5.23.0"


# --- terminal ----------------------------------------------------------------------------------------------


def test_terminal_table_fits_and_shows_failures(folder: Path) -> None:
    """The summary keeps to 100 columns, shows sites and ECE whole, and every failure in full."""
    text = printed(records.terminal_table(load_records(folder), folder))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    (baal,) = [line for line in lines if line.startswith("mc-dropout-baal")]
    assert "8/14" in baal
    assert re.search(r"\.\d{4} \[\.\d{3}, \.\d{3}\]", baal)
    assert "no-dropout failed: dropout p is 0 everywhere | nothing to draw" in text


def test_terminal_table_takes_markup_literally() -> None:
    """Square brackets in a message are text, not styling."""
    record = one(status="error", error={"type": "E", "message": "expected [bold]x[/bold]"})
    assert "failed: expected [bold]x[/bold]" in printed(records.terminal_table([record], Path()))


def test_terminal_table_explains_what_is_missing() -> None:
    """A value that could not be had is marked in its cell, with the reason below the table."""
    reason = "n too small: 10 requests do not bound p50"
    text = printed(
        records.terminal_table([one(timing={"latency_ms": {"p50": example.missing(reason)}})], Path())
    )
    assert "n/a (a)" in text
    assert f"(a) {reason}" in text


def test_show_record_leaves_nothing_out(folder: Path) -> None:
    """Every key of a record is printed, and long lists of numbers by their ends."""
    record = load_records(folder)[1]
    record["timing"]["latency_ms"]["samples"] = [float(i) for i in range(100)]
    text = printed(records.show_record(record), width=200)

    def keys(block: Any) -> set[str]:
        if isinstance(block, dict):
            return set(block) | {key for value in block.values() for key in keys(value)}
        return {key for item in block for key in keys(item)} if isinstance(block, list) else set()

    implied = {"value", "low", "high", "reason"}
    assert [key for key in keys(record) - implied if key not in text] == []
    assert "100 numbers from 0 to 99" in text
    assert "none (n too small: p99 needs 473 requests or more)" in text


def test_records_of_the_example_are_json(folder: Path) -> None:
    """The example that these tests read is what a run folder holds: one JSON object a line."""
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == load_records(folder)
