"""Templates -> text of a page, escaped unless this package made it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from calibench.report.drawing import style
from calibench.report.writing.tables import note_letter

_CODE, _STRONG = re.compile(r"`([^`]*)`"), re.compile(r"\*\*(.+?)\*\*")
#: A heading may break over lines, but not before its arrow.
_ARROW, _KEPT = re.compile(r" (?=[↑↓→])|(?<=→) "), "\u00a0"


def rendered(template: str, **values: Any) -> str:
    """A template of this package with these values, as the text of a page."""
    page = _environment().get_template(template)
    return page.render(light=style.COLOURS, dark=style.DARK_COLOURS, **values).lstrip()


def inline(text: str) -> Markup:
    """A sentence of `words` as HTML: code spans and strong text."""
    html = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_STRONG.sub(r"<strong>\1</strong>", html))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("calibench.report.pages"), autoescape=True, undefined=StrictUndefined
    )
    made.filters |= {"inline": inline, "kept": _unbroken, "letter": note_letter}
    return made


def _unbroken(title: str) -> str:
    return _ARROW.sub(_KEPT, title)
