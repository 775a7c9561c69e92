"""The report in markdown: names stay names, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import report_example as example
from calibench.report import write_report
from calibench.store.records import write_records


def test_no_name_ends_a_block_of_code(tmp_path: Path) -> None:
    """A split called like the end of a fence stays inside the commands that name it."""
    made = example.build(tmp_path, example.METHODS[:1])
    made[0]["data"]["split"] = "a\n```\n# not a heading\n````"
    write_records(tmp_path, made)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    before, fence, rest = text.partition("`````sh\n")
    assert fence
    assert "\n# not a heading" not in before
    inside, _, after = rest.partition("\n`````")
    assert "# not a heading" in inside
    assert "\n# not a heading" not in after
