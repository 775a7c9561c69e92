"""The page needs nothing but itself, says what the records say, and works in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import report_example as example
from calibench.errors import CalibenchError, UsageError
from calibench.hashing import text_sha256
from calibench.report import sections, stored, write_html
from calibench.report.pages.texts import texts_of
from calibench.report.parts.front import front_table
from calibench.report.points import points, tradeoff
from calibench.report.writing import tables
from calibench.store.records import load_records, write_records

TEN = (
    *example.METHODS,
    *(example.Spec(f"method-{i}", 1.2 + 0.1 * i, 2.0 + i, sites=(8, 6)) for i in range(5)),
    example.FAILED,
)
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    example.build(path, TEN, with_curve=True, truth=True)
    write_html(path)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def test_page_is_one_small_file(folder: Path) -> None:
    """Ten methods, with curves and figures, make one file below 2 MB."""
    assert (folder / "report.html").stat().st_size < 2_000_000
    assert [path.name for path in folder.iterdir() if path.suffix in (".html", ".svg", ".png")] == [
        "report.html"
    ]


def test_page_loads_nothing(folder: Path, page: Page) -> None:
    """No attribute or style of the page points outside it."""
    assert page.all("src") == []
    assert {href[:1] for href in page.all("href") + page.all("xlink:href")} == {"#"}
    assert not any(tag in ("link", "img", "iframe", "object") for tag, _ in page.tags)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_references_within_the_page_resolve(folder: Path, page: Page) -> None:
    """No id is there twice, and all that links, clips and patterns refer to is there."""
    count = Counter(page.all("id"))
    assert [name for name, times in count.items() if times > 1] == []
    wanted = {href[1:] for href in page.all("href") + page.all("xlink:href")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", (folder / "report.html").read_text(encoding="utf-8")))
    assert wanted - set(count) == set()


def test_page_is_the_same_byte_for_byte(folder: Path) -> None:
    """Writing the page again gives the same bytes."""
    before = (folder / "report.html").read_bytes()
    assert write_html(folder).read_bytes() == before


def test_figures_have_alt_texts_and_page_colours(page: Page) -> None:
    """Every figure is named for those who do not see it, and takes its colours from the page's theme."""
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) == 6
    for attributes in figures:
        assert attributes["role"] == "img"
        assert "frequentist" in attributes["aria-label"] or "mc-dropout" in attributes["aria-label"]
    within = [style for tag, a in page.tags if tag in ("path", "text", "use") and (style := a.get("style"))]
    assert any("var(--series-1)" in style for style in within)
    assert [style for style in within if re.search(r"#[0-9a-f]{6}", style)] == []


def test_page_shows_every_number_of_the_tables(folder: Path, page: Page) -> None:
    """Every cell of the tables that markdown has is in the page's text."""
    (section,) = sections.sections(load_records(folder))
    text = " ".join(page.text.split())
    for table in (
        tables.quality(section),
        tables.cost(section),
        tables.stages(section),
        tables.coverage(section),
        front_table(section, tradeoff(points(section, folder))),
    ):
        assert table is not None
        for row in table.rows:
            assert row.entry.label in text
            assert [cell.text for cell in row.cells if cell.text not in text] == []
    assert text.count("failed dropout p is 0 everywhere | nothing to draw") == 9


def test_page_escapes_what_is_not_ours(tmp_path: Path) -> None:
    """Markup in names, messages, notes and labels is shown, not run."""
    evil = "<script>alert(1)</script>"
    records = example.build(tmp_path, (example.METHODS[0], example.FAILED))
    records[0]["method"]["name"] = records[0]["notes"] = evil
    records[0]["notes"] = [evil]
    records[0]["suite"] = records[1]["suite"] = evil
    records[0]["data"]["labels"] = [evil, '"']
    records[1]["error"]["message"] = records[1]["environment"]["cpu"] = evil
    write_records(tmp_path, records)
    page = Page(write_html(tmp_path))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(evil) >= 8


def test_several_sections_have_headings_of_their_own(tmp_path: Path) -> None:
    """Two seeds make two sections, each linked from the top."""
    example.build(tmp_path, example.METHODS[:2], seeds=(0, 1))
    page = Page(write_html(tmp_path))
    assert {"#sst2", "#sst2-2"} <= set(page.all("href"))
    assert Counter(page.all("id")).most_common(1)[0][1] == 1


# --- examples ----------------------------------------------------------------------------------------------


def opinions(probs: list[list[float]], label: list[int]) -> stored.Opinions:
    """Methods' P(class 1) for each example."""
    positive = np.array(probs)
    entries = tuple(sections.Entry({}, f"m{i}", i) for i in range(len(probs)))
    hashes = tuple(str(i) for i in range(len(label)))
    rows = np.arange(len(label)) + 100
    return stored.Opinions(entries, rows, hashes, np.array(label), np.stack([1 - positive, positive], axis=2))


def test_confidently_wrong_known_answer() -> None:
    """Wrong examples come by the probability of their label, lowest first; right ones do not come."""
    found = opinions([[0.9, 0.2, 0.01, 0.6], [0.8, 0.1, 0.03, 0.9]], [1, 1, 1, 0])
    assert stored.confidently_wrong(found).tolist() == [2, 1, 3]


def test_disagreed_known_answer() -> None:
    """Only examples whose class changed come, the furthest first."""
    found = opinions([[0.9, 0.45, 0.6, 0.99], [0.1, 0.55, 0.3, 0.51]], [1, 1, 0, 1])
    assert stored.disagreed(found).tolist() == [0, 2, 1]


def test_changes_known_answer() -> None:
    """Changes are counted towards the label and away from it."""
    ((entry, right, lost, other),) = stored.changes(opinions([[0.9, 0.45, 0.6], [0.1, 0.55, 0.3]], [1, 1, 0]))
    assert (entry.label, right, lost, other) == ("m1", 2, 1, 0)


def test_predictions_about_other_examples_are_refused(tmp_path: Path) -> None:
    """Two cells that hold different examples are not set side by side."""
    records = example.build(tmp_path, example.METHODS[:2])
    example.build(tmp_path / "other", example.METHODS[:2], n=50)
    shutil.copy(tmp_path / "other" / records[1]["predictions"], tmp_path / records[1]["predictions"])
    with pytest.raises(CalibenchError, match="different examples"):
        write_html(tmp_path)


def test_examples_are_named_by_row_unless_text_is_asked_for(page: Page) -> None:
    """Without being asked the page holds no sentence of the data."""
    assert "Most wrong with confidence" in page.text
    assert "the film in row" not in page.text


def test_text_of_a_folder_needs_the_folder(folder: Path) -> None:
    """Records keep no path, so sentences from a folder are shown only when the folder is named."""
    with pytest.raises(UsageError, match="--dataset"):
        write_html(folder, include_text=True)


def test_text_is_shown_where_asked_for(tmp_path: Path) -> None:
    """With the data set at hand, the examples singled out show their sentences, escaped."""
    example.build(tmp_path, example.METHODS[:2], n=60)
    data = tmp_path / "data"
    data.mkdir()
    with (data / "validation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        writer.writerows([example.sentence(row), row % 2] for row in range(60))
    page = Page(write_html(tmp_path, include_text=True, dataset=str(data)))
    assert re.search(r"the film in row \d+ is <superb> & new", page.text)
    assert "not in the data" not in page.text


def test_text_of_the_embedded_corpus_needs_nothing() -> None:
    """The corpus that ships with the package is found without being named."""
    record = example.record(example.METHODS[0], "0", suite="embedded", seed=0, model="m", n=1)
    record["data"] |= {"name": "calibench-sentiment", "source": "embedded", "split": "test"}
    (section,) = sections.sections([record])
    found = texts_of(section, None)
    assert len(found) > 900
    assert all(text_sha256(text) == key for key, text in found.items())


# --- in a browser ------------------------------------------------------------------------------------------

PROBE = """
<script>
const table = document.querySelector("section#quality table");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const button = table.tHead.rows[0].cells[3].querySelector("button");
const said = {start: names()};
button.click(); said.up = names(); said.sorted = button.parentElement.ariaSort;
button.click(); said.down = names();
button.click(); said.back = names();
const paper = () => getComputedStyle(document.body).backgroundColor;
const before = paper();
document.getElementById("theme").click();
said.themed = before !== paper();
said.wide = document.documentElement.scrollWidth <= window.innerWidth;
document.title = JSON.stringify(said);
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 480])
def test_page_in_a_browser(folder: Path, tmp_path: Path, width: int) -> None:
    """Headings sort both ways with failures last, the theme changes, and only tables scroll sideways."""
    probed = tmp_path / "probed.html"
    probed.write_text((folder / "report.html").read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    )
    options += f" --disable-component-update --disable-sync --user-data-dir={tmp_path}/profile"
    command = [str(BROWSER), *options.split(), f"--window-size={width},900", "--dump-dom", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stderr
    said = json.loads(unescape(found[1]))
    values = {
        record["method"]["name"]: record["metrics"]["ece"]["value"]
        for record in load_records(folder)
        if record["status"] == "ok"
    }
    upwards = sorted(values, key=lambda name: values[name])
    assert said["up"] == [*upwards, "no-dropout"]
    assert said["sorted"] == "ascending"
    assert said["down"] == [*reversed(upwards), "no-dropout"]
    assert said["back"] == said["start"]
    assert said["themed"]
    assert said["wide"]
