"""Tables at any width of the terminal: no number is cut, no line is longer, nothing is lost."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from calibench.report.terminal.folding import Folded, Heading
from calibench.report.terminal.records import terminal_table
from calibench.store.records import load_records

RESULTS = Path(__file__).resolve().parents[3] / "results"


def shown(renderable: object, width: int) -> list[str]:
    """The lines that a terminal of so many columns shows."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, color_system=None).print(renderable, markup=False)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def table() -> Folded:
    """Two rows of four columns, the second of which failed."""
    rows = [[Text("20"), Text(".8680"), Text(".0659 [.042, .085]"), Text("22.8 MiB")], [Text("failed")]]
    headings = [Heading("T"), Heading("accuracy"), Heading("ECE"), Heading("memory")]
    return Folded("method", ["mc-dropout-stratified", "knn"], 17, headings, rows)


def test_what_does_not_fit_follows_below_beside_the_same_names() -> None:
    """Each part begins with the names; the first is as full as it can be."""
    assert shown(table(), 100) == [
        "method            T  accuracy                 ECE    memory",
        "mc-dropout-      20     .8680  .0659 [.042, .085]  22.8 MiB",
        "stratified",
        "knn          failed",
    ]
    assert shown(table(), 45) == [
        "method            T  accuracy",
        "mc-dropout-      20     .8680",
        "stratified",
        "knn          failed",
        "",
        "method                      ECE    memory",
        "mc-dropout-  .0659 [.042, .085]  22.8 MiB",
        "stratified",
        "knn",
    ]


@pytest.mark.parametrize("name", ["embedded", "sst2", "clinc-oos"])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_number_of_a_run_is_cut_at_any_width(name: str, width: int) -> None:
    """The intervals and costs that a very wide terminal shows stand there whole, and no line is longer."""
    records = load_records(RESULTS / name)
    if not (RESULTS / name / "predictions").exists():  # too large to be committed
        records = [record | {"predictions": None} for record in records]
    rendered = terminal_table(records, RESULTS / name)
    lines = shown(rendered, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    numbers = re.compile(r"\.\d{4} \[\.\d{3}, \.\d{3}\](?!\))|[\d.]+x|[\d.]+ MiB")
    # Sentences break where they like; in tables every number is on one line.
    inside = [line for line in shown(rendered, 1000) if not line.startswith(("Use:", "It buys", "Undecided"))]
    wanted = sorted(found for line in inside for found in numbers.findall(line))
    assert wanted
    told = sorted(found for line in lines for found in numbers.findall(line))
    assert set(wanted) <= set(told)
