"""The table of a record's fields in docs/record.md against the records in results/."""

from __future__ import annotations

import re
from pathlib import Path

from calibench.store.records import load_records

ROOT = Path(__file__).resolve().parents[2]


def documented() -> list[str]:
    """Every name in the table's first column, in order; one that starts with a dot goes on from the last."""
    _, _, table = (ROOT / "docs" / "record.md").read_text(encoding="utf-8").partition("| field | content |")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names: list[str] = []
    for name in (name for row in rows for name in re.findall(r"`([^`]+)`", row)):
        names.append(names[-1].partition(".")[0] + name if name.startswith(".") else name)
    return names


def test_the_table_has_the_fields_of_a_record() -> None:
    """All that are in the records shown, and no other."""
    folders = [path.parent for path in (ROOT / "results").glob("*/records.jsonl")]
    found = {key for folder in folders for record in load_records(folder) for key in record}
    assert {name.partition(".")[0] for name in documented()} == found


def test_no_field_is_described_twice() -> None:
    """Parts of one may have rows of their own."""
    names = documented()
    assert sorted(names) == sorted(set(names))
