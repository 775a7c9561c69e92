"""The page of our numbers beside those of other packages is made from its record, and the record is true."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "results" / "conventions.json").read_text("utf-8"))
#: What is imported of packages whose distribution has another name.
MODULES = {
    "puncc": "deel",
    "scikit-learn": "sklearn",
    "torch-uncertainty": "torch_uncertainty",
    "uncertainty-calibration": "calibration",
}

# baal imports structlog.threadlocal, which announces its own removal.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`structlog.threadlocal` is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def conventions() -> Iterator[Any]:
    """The script, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        patch.delitem(sys.modules, "conventions", raising=False)
        import conventions

        yield conventions


def test_the_page_is_what_the_script_makes_of_the_record(conventions: Any) -> None:
    """No number of the page was typed by hand, and every row of the script is in the record."""
    assert conventions.page(RECORD) == (ROOT / "docs" / "conventions.md").read_text("utf-8")
    assert list(RECORD) == [row.key for row in conventions.ROWS]


def row_of(conventions: Any, key: str) -> Any:
    return next(row for row in conventions.ROWS if row.key == key)


def agree(found: Any, recorded: Any) -> bool:
    """Equal up to float32, and refusals word for word."""
    return bool(
        found == recorded if isinstance(recorded, str) else found == pytest.approx(recorded, rel=1e-5)
    )


@pytest.mark.parametrize("key", RECORD)
def test_our_number_is_the_recorded_one(conventions: Any, key: str) -> None:
    """On the input of the page, today."""
    assert agree(row_of(conventions, key).ours(), RECORD[key]["ours"])


@pytest.mark.parametrize("key", RECORD)
def test_the_reason_given_is_the_reason(conventions: Any, key: str) -> None:
    """Their convention, written out without the package, gives their recorded number."""
    again = row_of(conventions, key).again
    if again is None:
        pytest.skip("this row's convention is not written out: it is a refusal, or a kernel of its own")
    assert agree(again(), RECORD[key]["theirs"])


@pytest.mark.parametrize("key", RECORD)
def test_their_number_is_the_recorded_one(conventions: Any, key: str) -> None:
    """Of every package that is installed; the others are skipped."""
    row = row_of(conventions, key)
    if util.find_spec(MODULES.get(row.package, row.package)) is None:
        pytest.skip(f"{row.package} is not installed: the row stands as it was measured")
    found = row.theirs()
    here = metadata.version(row.package)
    assert agree(found, RECORD[key]["theirs"]), (
        f"{row.package} {here} reads {found}, and {RECORD[key]['version']} read {RECORD[key]['theirs']}: "
        "run scripts/conventions.py --measure, and write the row anew if its reason no longer holds."
    )
