"""The files of a leaderboard: the same bytes again, one page without requests, numbers that read back."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import boards
from calibench.compare.leaderboard import Board, leaderboard
from calibench.report.pages.leaderboard import as_json, written

METHODS = {"frequentist": 2.2, "temperature": 1.0, "mc-dropout": 1.5, "laplace-last": 1.2}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("board")
    boards.write_tasks(folder, 4, METHODS)
    boards.write(folder / "bad", "<bad>", METHODS, failed=("laplace-last",))
    return leaderboard([folder], min_tasks=4)


@pytest.fixture(scope="module")
def folder(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pages")
    written(board, target, ())
    return target


def test_everything_is_written_and_the_same_again(board: Board, folder: Path, tmp_path: Path) -> None:
    """Markdown, page, table and both figures in both formats, byte for byte."""
    written(board, tmp_path, ())
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert names == [
        *(
            f"figures/{name}.{suffix}"
            for name in ("critical-difference-nll", "front-nll")
            for suffix in ("png", "svg")
        ),
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.md",
    ]
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


class Tags(HTMLParser):
    """What a page opens and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.sortable = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.fetched += [str(found[key]) for key in ("src", "srcset", "data") if found.get(key)]
        self.fetched += [str(found["href"]) for _ in (0,) if tag == "link"]
        self.sortable += tag == "table" and found.get("class") == "sortable"


def test_the_page_needs_nothing_else(folder: Path) -> None:
    """No script, style, font or picture from elsewhere; every table can be sorted; names are escaped."""
    page = (folder / "leaderboard.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.fetched == []
    assert not re.search(r"@import|url\((?!#)|fetch\(", page)
    assert tags.sortable == page.count("<table") > 5
    assert "<bad>" not in page
    assert "&lt;bad&gt;" in page


def test_the_table_reads_back(board: Board, folder: Path) -> None:
    """A row per method and metric over tasks and one for each task, with the numbers of the board."""
    rows = list(csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text())))
    assert len(rows) == len(board.standings) * len(board.labels) * (1 + len(board.field.tasks))
    nll = board.standings[0]
    for at, label in enumerate(board.labels):
        own = [row for row in rows if row["method"] == label and row["metric"] == "nll"]
        assert float(own[0]["rank"]) == nll.mean_ranks[at].value
        assert [float(row["value"]) for row in own[1:]] == nll.values[:, at].tolist()


def test_json_is_the_board(board: Board) -> None:
    """The summary, every pair, and what is left out."""
    found = json.loads(as_json(board))
    assert found["reference"] == "frequentist"
    assert len(found["tests"][0]["pairs"]) == 6
    assert found["failed"] == 1
    assert any("laplace-last on <bad>" in text for text in found["left_out"])


def test_few_tasks_have_pages_too(tmp_path: Path) -> None:
    """Without a test there is no diagram, and the reason stands in its place."""
    boards.write_tasks(tmp_path / "runs", 2, METHODS)
    written(leaderboard([tmp_path / "runs"]), tmp_path / "out", ())
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Not tested: n too small: 2 tasks" in text
    assert "![" not in text
