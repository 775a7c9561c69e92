"""A report -> report.html: one file that needs nothing else, to be looked at rather than read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from calibench.report import stored
from calibench.report.content import Content, Part, Report
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.pages.examples import changes_words, examples_grids
from calibench.report.pages.grid import Box, Grid, GridRow, of_records
from calibench.report.pages.rendering import rendered
from calibench.report.pages.texts import texts_of
from calibench.report.sections import Section
from calibench.report.writing import reproduce, words
from calibench.report.writing.sheets import Heading
from calibench.store.files import write_whole
from calibench.store.records import Record

PAGE = "report.html"
_UNUSED_ID = re.compile(r' id="[a-zA-Z0-9.]+_\d+"')
_AROUND = re.compile(r"<\?xml.*?<svg", re.DOTALL)
_DISCARD = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r' width="([\d.]+)pt" height="[\d.]+pt"')
_FONT = re.compile(r"'DejaVu Sans'(, [^;\"]*)?")
#: Share of its size to which a figure shrinks before it is scrolled: its smallest words stay readable.
_SHRINKS = 0.85


@dataclass(frozen=True)
class Figure:
    """A drawing ready to be put into a page; `label` names the region that scrolls."""

    label: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class PagePart:
    """A heading of a page with what stands under it, as the template takes it.

    Attributes:
        name: the anchor.
        points: sentences of a list.
        remarks: (head, text) of another.
        tables: (title, table) under headings of their own.
    """

    name: str
    title: str
    text: str = ""
    table: Grid | None = None
    details: Grid | None = None
    figures: Sequence[Figure] = ()
    points: Sequence[str] = ()
    remarks: Sequence[tuple[str, str]] = ()
    tables: Sequence[tuple[str, Grid]] = ()


@dataclass(frozen=True)
class PageSection:
    """What a page says of a section: three lines, a sentence, and parts."""

    name: str
    title: str
    lines: Sequence[tuple[str, str]]
    lead: str
    parts: Sequence[PagePart]


def write_page(report: Report, include_text: bool = False, dataset: str | None = None) -> Path:
    """Write `report.html`, one self-contained page, beside the records; returns its path.

    The same folder gives the same bytes.

    Args:
        include_text: show the sentences of the examples that are singled out, and not their rows only. Mind
            the licence of the data before passing such a page on.
        dataset: where the sentences are, for data that came from a folder.

    Raises:
        UsageError: sentences that cannot be found.
    """
    several = len(report.contents) > 1
    with style.styled():
        sections = [
            _section(
                content,
                report.folder,
                texts_of(content.section, dataset) if include_text else None,
                several=several,
            )
            for content in report.contents
        ]
    linked = sections if several else sections[0].parts
    text = rendered(
        "report.html",
        title=report.title,
        linked=[*linked, *_ENDS],
        several=several,
        sections=sections,
        how_to_read=words.how_to_read(report.sections),
        environment=_environment(report.records),
        commands="\n".join(_commands(report)),
        facts=dict.fromkeys(fact for section in report.sections for fact in reproduce.provenance(section)),
    )
    path = report.folder / PAGE
    write_whole(path, text.encode())
    return path


_ENDS = (
    PagePart("how-to-read", "How to read this"),
    PagePart("environment", "Environment"),
    PagePart("reproduce", "How to reproduce"),
)


def anchor(title: str) -> str:
    """The name by which a heading is linked."""
    return title.lower().replace(" ", "-")


def _section(content: Content, target: Path, texts: dict[str, str] | None, *, several: bool) -> PageSection:
    section = content.section
    parts = [_part(part, section, several=several) for part in content.parts]
    parts += _examples(section.distinct(), target, texts)
    remarks = words.remarks(section)
    if remarks:
        title = "Notes and failures"
        parts.append(PagePart(anchor(title), title, remarks=remarks))
    return PageSection(section.slug, words.title(section), content.lines, words.heading(section), parts)


def _part(part: Part, section: Section, *, several: bool) -> PagePart:
    about = f" ({section.slug})" if several else ""
    return PagePart(
        anchor(part.title),
        part.title,
        part.text,
        of_records(part.table, part.title + about) if part.table else None,
        of_records(part.details, part.details.title + about) if part.details else None,
        [figure(drawing) for drawing in part.drawings],
    )


def _examples(section: Section, target: Path, texts: dict[str, str] | None) -> Iterator[PagePart]:
    found = stored.opinions(section, target)
    if found is not None:
        tables = list(examples_grids(found, section, texts))
        yield PagePart("examples", "Examples", points=changes_words(found), tables=tables)


def figure(drawing: Drawing) -> Figure:
    """The drawing for a page."""
    return Figure(f"Figure {drawing.name}", page_svg(drawing), drawing.caption)


def page_svg(drawing: Drawing) -> Markup:
    """The drawing as SVG to stand inside a page: its text in the page's font, its colours variables."""
    text = _DISCARD.sub("", _UNUSED_ID.sub("", _AROUND.sub("<svg", drawing.svg)))
    text = _FONT.sub("var(--font)", text)
    for variable, colour in style.VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    size = _SIZE.search(text)
    assert size is not None
    wide = f"width:{size[1]}pt;min-width:{_SHRINKS * float(size[1]):.1f}pt"
    sized = f' style="{wide}" role="img" aria-label="{escape(drawing.alt)}"'
    text = text[: size.start()] + sized + text[size.end() :]
    return Markup(re.sub(r"\s*\n\s*", "\n", text).strip())


def _environment(records: Sequence[Record]) -> Grid:
    rows = [
        GridRow([Box(name, name, heads=True), Box(value, value)])
        for name, value in words.environment(records)
    ]
    return Grid("Environment", [Heading("What", text=True), Heading("Value", text=True)], rows)


def _commands(report: Report) -> list[str]:
    found = [reproduce.install(report.records), *(reproduce.command(section) for section in report.sections)]
    return list(dict.fromkeys(found))
