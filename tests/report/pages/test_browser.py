"""Pages as a browser shows them: readable on a phone, usable by keyboard and ear, and in nobody's way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import boards
import many_methods
import report_example as example
from calibench.compare.leaderboard import leaderboard
from calibench.report import write_html
from calibench.report.pages.leaderboard import written

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
#: CSS pixels below which words in a figure are no longer read.
READABLE = 9.0


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with curves, one with scores and texts out of scope, one of several seeds, and a leaderboard."""
    folder = tmp_path_factory.mktemp("pages")
    example.build(folder / "curves", (*example.METHODS, example.FAILED), with_curve=True, truth=True)
    many_methods.build(folder / "scope", many_methods.MANY[:9], inside=120, beyond=40)
    example.build(folder / "seeds", example.METHODS[:3], seeds=(0, 1))
    methods = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.5, "laplace-last": 1.2}
    boards.write_tasks(folder / "board", 4, methods)
    written(leaderboard([folder / "board"], min_tasks=4), folder, ["html"])
    found = {name: write_html(folder / name) for name in ("curves", "scope", "seeds")}
    return found | {"leaderboard": folder / "leaderboard.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def opened(browser: Any, page: Path, width: int, scheme: str = "light") -> Any:
    """The page with all that folds unfolded."""
    shown = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    shown.goto(page.as_uri())
    shown.evaluate("for (const one of document.querySelectorAll('main > * details')) one.open = true")
    return shown


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["curves", "scope", "seeds", "leaderboard"])
def test_axe_finds_nothing(browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str) -> None:
    """No violation of any of axe-core's rules, with every list unfolded."""
    shown = opened(browser, pages[name], width, scheme)
    found = axe.Axe().run(shown)
    shown.close()
    assert found.response["violations"] == [], found.generate_report()
    assert len(found.response["passes"]) > 20


def test_axe_sees_what_is_wrong(browser: Any, pages: dict[str, Path]) -> None:
    """The rules are not vacuous: a figure without a name, a heading too deep and faint words are found."""
    shown = opened(browser, pages["seeds"], 1400)
    shown.evaluate("document.querySelector('svg').removeAttribute('aria-label')")
    shown.evaluate("document.querySelector('h3').outerHTML = '<h5>deep</h5>'")
    shown.evaluate("document.querySelector('.lead').style.color = '#ccc'")
    found = {item["id"] for item in axe.Axe().run(shown).response["violations"]}
    shown.close()
    assert {"svg-img-alt", "heading-order", "color-contrast"} <= found


@pytest.mark.parametrize("name", ["curves", "scope", "leaderboard"])
def test_figures_are_read_on_a_phone(browser: Any, pages: dict[str, Path], name: str) -> None:
    """The smallest words of every figure are large enough, and only figures and tables go on sideways."""
    shown = opened(browser, pages[name], 390)
    sizes = shown.evaluate(
        """[...document.querySelectorAll("figure svg text")].map((text) => {
             const drawn = text.ownerSVGElement, scale = drawn.clientWidth / drawn.viewBox.baseVal.width;
             return parseFloat(getComputedStyle(text).fontSize) * scale;
           })"""
    )
    wide = shown.evaluate("document.documentElement.scrollWidth")
    shown.close()
    assert len(sizes) > 10
    assert min(sizes) >= READABLE
    assert wide <= 390


def test_heads_and_names_stay_in_sight(browser: Any, pages: dict[str, Path]) -> None:
    """A table that is scrolled keeps its heads above and its names at the left, and says where it goes on."""
    shown = opened(browser, pages["scope"], 390)
    moved = shown.evaluate(
        """() => {
             const box = document.querySelector("#quality .table"), scroll = box.querySelector(".scroll");
             scroll.style.maxHeight = "200px";
             const places = () => ["thead th:nth-child(2)", "tbody th"].map((what) => {
               const at = box.querySelector(what).getBoundingClientRect();
               return [at.left, at.top].map(Math.round);
             });
             const before = places();
             scroll.scrollTo(120, 150);
             return new Promise((done) => setTimeout(() => done({
               before, after: places(),
               left: box.hasAttribute("data-left"), right: box.hasAttribute("data-right"),
             }), 100));
           }"""
    )
    shown.close()
    (head, name), (head_after, name_after) = moved["before"], moved["after"]
    assert head_after[1] == head[1]
    assert head_after[0] == head[0] - 120
    assert name_after[0] == name[0]
    assert name_after[1] == name[1] - 150
    assert moved["left"]
    assert moved["right"]


def test_rows_are_filtered_and_columns_chosen(browser: Any, pages: dict[str, Path]) -> None:
    """Rows without the words go, and a column that is not ticked; emptied and ticked again all is there."""
    shown = opened(browser, pages["scope"], 1400)
    table = shown.locator("#quality .table").first
    count = table.locator("tbody tr:visible").count
    every = count()
    search = table.locator("input[type=search]")
    search.fill("Mc-Dropout")
    assert 0 < count() < every
    assert table.locator("output").inner_text() == f"{count()} of {every} rows"
    search.fill("")
    assert count() == every
    tick = table.get_by_label("ECE ↓", exact=True)
    before = table.locator("thead th:visible").count()
    tick.uncheck()
    assert table.locator("thead th:visible").count() == before - 1
    tick.check()
    assert table.locator("thead th:visible").count() == before
    shown.close()
