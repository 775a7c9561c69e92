"""A report -> report.html: one file that needs nothing else, to be looked at rather than read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from calibench.report import stored
from calibench.report.content import Content, Part, Report
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.pages.grid import Box, Head, grid, records_table
from calibench.report.pages.html_examples import examples_part
from calibench.report.pages.texts import texts_of
from calibench.report.sections import Section
from calibench.report.writing import reproduce, words
from calibench.store.files import write_whole
from calibench.store.records import Record

PAGE = "report.html"
_UNUSED_ID = re.compile(r' id="[a-zA-Z0-9.]+_\d+"')
_AROUND = re.compile(r"<\?xml.*?<svg", re.DOTALL)
_DISCARD = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r' width="([\d.]+)pt" height="[\d.]+pt"')
_FONT = re.compile(r"'DejaVu Sans'(, [^;\"]*)?")


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
    blocks = []
    with style.styled():
        for content in report.contents:
            texts = texts_of(content.section, dataset) if include_text else None
            blocks += _section(content, report.folder, texts, several=several)
    blocks += [
        block("how-to-read", "How to read this", _how_to_read(report.sections)),
        block("environment", "Environment", _environment(report.records)),
        block("reproduce", "How to reproduce", _reproduce(report.sections, report.records)),
    ]
    path = report.folder / PAGE
    write_whole(path, page(report.title, blocks).encode())
    return path


def inline(text: str) -> str:
    """A sentence of `words` as HTML: code spans and strong text."""
    html = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html)


def _asset(name: str) -> str:
    return files("calibench.report.pages").joinpath(name).read_text(encoding="utf-8")


def page(title: str, blocks: Sequence[str]) -> str:
    linked = re.findall(r'<section id="([^"]+)"><h2>(.*?)</h2>', "\n".join(blocks))
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading in linked)
    body = "\n".join(blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{_asset("page.css")}{_palette()}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>{escape(title)}</h1><button type="button" id="theme" hidden>Dark</button></header>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main id="content">
{body}
</main>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


def _palette() -> str:
    """The figures' colours as variables, so that they follow the page from light to dark."""
    light = "".join(f"--series-{i}:{colour};" for i, colour in enumerate(style.COLOURS))
    dark = "".join(f"--series-{i}:{colour};" for i, colour in enumerate(style.DARK_COLOURS))
    return (
        f":root{{{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
    )


def block(name: str, heading: str, body: str) -> str:
    return f'<section id="{name}"><h2>{inline(heading)}</h2>\n{body}\n</section>'


def _section(content: Content, target: Path, texts: dict[str, str] | None, *, several: bool) -> list[str]:
    section = content.section
    lines = "".join(f"<li><strong>{head}:</strong> {inline(text)}</li>" for head, text in content.lines)
    lead = f'<ul class="headline">{lines}</ul>\n<p class="lead">{inline(words.heading(section))}</p>'
    bodies = [(part.title, _part(part)) for part in content.parts]
    own = section.distinct()
    found = stored.opinions(own, target)
    if found is not None:
        bodies.append(("Examples", examples_part(found, own, texts)))
    remarks = words.remarks(section)
    if remarks:
        items = "".join(
            f"<li>{f'<strong>{escape(label)}</strong>: ' if label else ''}{escape(text)}</li>"
            for label, text in remarks
        )
        bodies.append(("Notes and failures", f"<ul>{items}</ul>"))
    if several:
        inner = "\n".join(f"<h3>{escape(title)}</h3>\n{body}" for title, body in bodies)
        return [block(section.slug, words.title(section), f"{lead}\n{inner}")]
    return [lead, *(block(_anchor(title), title, body) for title, body in bodies)]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _part(part: Part) -> str:
    lines = [records_table(part.table)] if part.table else []
    lines += [f"<p>{inline(text)}</p>" for text in part.text.split("\n\n") if text]
    if part.details is not None:
        inner = records_table(part.details)
        lines += [f"<details><summary>{escape(part.details.title)}</summary>\n{inner}</details>"]
    lines += [figure(drawing) for drawing in part.drawings]
    return "\n".join(lines)


def figure(drawing: Drawing) -> str:
    return f"<figure>{page_svg(drawing)}<figcaption>{escape(drawing.caption)}</figcaption></figure>"


def page_svg(drawing: Drawing) -> str:
    """The drawing as SVG to stand inside a page: its text in the page's font, its colours variables."""
    text = style.svg(drawing.figure, salt=drawing.name, text=True)
    text = _DISCARD.sub("", _UNUSED_ID.sub("", _AROUND.sub("<svg", text)))
    text = _FONT.sub("var(--font)", text)
    for variable, colour in style.VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    label = escape(drawing.alt)
    text = _SIZE.sub(rf' style="max-width:\1pt" role="img" aria-label="{label}"', text, count=1)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _how_to_read(found: Sequence[Section]) -> str:
    items = "".join(
        f"<li><strong>{escape(what)}</strong> {inline(text)}</li>" for what, text in words.how_to_read(found)
    )
    return f"<ul>{items}</ul>"


def _environment(records: Sequence[Record]) -> str:
    rows = [
        [Box(escape(name), name, heads=True), Box(escape(value), value)]
        for name, value in words.environment(records)
    ]
    return grid("Environment", [Head("What", text=True), Head("Value", text=True)], rows)


def _reproduce(found: Sequence[Section], records: Sequence[Record]) -> str:
    commands = dict.fromkeys([reproduce.install(records), *(reproduce.command(section) for section in found)])
    facts = dict.fromkeys(fact for section in found for fact in reproduce.provenance(section))
    items = "".join(f"<li>{inline(fact)}</li>" for fact in facts)
    return f'<pre tabindex="0"><code>{escape(chr(10).join(commands))}</code></pre>\n<ul>{items}</ul>'
