"""What a call gives back: the records of a run folder, as tables, words and figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibench.data.labels import shorten
from calibench.errors import UsageError
from calibench.report.sections import Entry, Section, sections
from calibench.store.records import Record, dig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

#: The columns of `Results.table` that say which cell it is, by where a record has them.
_NAMES: dict[str, tuple[str, ...]] = {
    "suite": ("suite",),
    "method": ("method", "name"),
    "posthoc": ("method", "posthoc"),
    "passes": ("passes",),
    "seed": ("seed",),
    "dataset": ("data", "name"),
    "examples": ("data", "n"),
    "model": ("model", "name"),
    "reference": ("reference",),
    "cell": ("cell",),
}
_VERDICTS = (
    "suite",
    "seed",
    "label",
    "reference",
    "metric",
    "base",
    "value",
    "difference",
    "low",
    "high",
    "adjusted_low",
    "adjusted_high",
    "p_holm",
    "verdict",
)


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """The records of a run folder, whose predictions lie in it.

    Attributes:
        records: the last of each cell, as docs/record.md describes them.
        folder: where they are. One that nobody named is temporary, and goes when this object does.
    """

    records: tuple[Record, ...]
    folder: Path

    def __repr__(self) -> str:
        labels = [entry.label for section in self._sections for entry in section.entries]
        return f"<Results of {shorten(labels)}>"

    @cached_property
    def _sections(self) -> list[Section]:
        return sections(self.records)

    def table(self) -> DataFrame:
        """A row per cell: its names, and NAME, NAME_low and NAME_high of every estimate; NaN without one.

        `error` says why a cell failed. Other columns than those of the names depend on what was measured.
        """
        from pandas import DataFrame

        rows = [dict(_row(entry)) for section in self._sections for entry in section.entries]
        columns = dict.fromkeys(name for row in rows for name in row)
        return DataFrame(rows, columns=list(columns))

    @cached_property
    def recommendation(self) -> str:
        """The words of the report, in markdown; one paragraph per table where the folder holds several."""
        from calibench.report.content import recommended
        from calibench.report.writing.words import title

        found = [(title(section), recommended(section, self.folder)) for section in self._sections]
        return found[0][1] if len(found) == 1 else "\n\n".join(f"{head}: {text}" for head, text in found)

    def verdicts(self) -> DataFrame:
        """A row per method and metric: its paired difference from the reference on the same examples.

        `low` and `high` are the ends of the 95% interval of this difference alone. The verdict, "better",
        "worse" or "no difference shown", allows for all verdicts of a table, as `adjusted_low`,
        `adjusted_high` and `p_holm` do; a metric that only describes has none.
        """
        from pandas import DataFrame

        return DataFrame(
            [row for section in self._sections for row in self._differences(section)], columns=list(_VERDICTS)
        )

    def _differences(self, section: Section) -> Iterator[dict[str, Any]]:
        from calibench.report.parts.against import against

        found = against(section.distinct(), self.folder)
        if found is None:
            return
        for entry, contrast in zip(found.entries, found.contrasts, strict=True):
            own, tested = contrast.difference, contrast.tested
            yield {
                "suite": entry.record["suite"],
                "seed": entry.record["seed"],
                "label": entry.label,
                "reference": found.reference.label,
                "metric": contrast.metric.name,
                "base": contrast.base,
                "value": contrast.value,
                "difference": own.value,
                "low": own.low,
                "high": own.high,
                "adjusted_low": tested and tested.adjusted.low,
                "adjusted_high": tested and tested.adjusted.high,
                "p_holm": tested and tested.adjusted_p,
                "verdict": tested and tested.verdict,
            }

    def figure(self, kind: str = "reliability", *, table: str | None = None) -> Figure:
        """A figure of the report, or the risk-coverage curves.

        Args:
            kind: "reliability", "risk-coverage", "front", "sets", "scope", "time-against-error",
                "shift-..." by corruption or "curve-..." by metric, where there is something to draw.
            table: which, where the folder holds several; a wrong one is answered with those there are.

        Raises:
            UsageError: there is no such figure; names those there are.
        """
        from calibench.report.drawing.style import styled
        from calibench.report.figures import drawing, kinds

        section = self._section(table)
        with styled():
            found = drawing(section, self.folder, kind)
            if found is None:
                there = ", ".join(kinds(section, self.folder)) or "none, for lack of predictions"
                raise UsageError(f"There is no figure {kind!r} of these records; there is {there}.")
        return found.figure

    def _section(self, name: str | None) -> Section:
        found = {section.slug: section for section in self._sections}
        if name is None and len(found) == 1:
            return self._sections[0]
        if name not in found:
            raise UsageError(
                f"These records make {len(found)} tables; say which with table=, one of {', '.join(found)}."
            )
        return found[name]

    def _repr_html_(self) -> str:
        """The tables of quality and the recommendation; needs no style sheet and no script."""
        from calibench.report.pages.rendering import inline
        from calibench.report.writing.tables import quality

        blocks = []
        for section in self._sections:
            own = quality(section.distinct())
            head = "".join(f"<th>{escape(column.title)}</th>" for column in own.columns)
            rows = "".join(
                f"<tr><th>{escape(row.entry.label)}</th>"
                + (
                    f'<td colspan="{len(own.columns)}">failed: {escape(row.failure)}</td>'
                    if row.failure is not None
                    else "".join(f"<td>{escape(cell.text)}</td>" for cell in row.cells)
                )
                + "</tr>"
                for row in own.rows
            )
            blocks.append(f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>")
        return "\n".join([*blocks, *(f"<p>{inline(text)}</p>" for text in self.recommendation.split("\n\n"))])


def _row(entry: Entry) -> Iterator[tuple[str, Any]]:
    from calibench.report.pages.exports import estimates_of

    yield "label", entry.label
    for name, path in _NAMES.items():
        yield name, dig(entry.record, *path)
    yield "error", entry.failure
    for name, estimate in () if entry.failure is not None else estimates_of(entry.record):
        for column, key in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
            value = estimate.get(key)
            yield column, float("nan") if value is None else value
