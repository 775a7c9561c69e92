"""JSON lines with their numbers, and values by path."""

from __future__ import annotations

import pytest

from calibench.errors import UsageError
from calibench.readers.files import Source
from calibench.readers.logs import lines_of, text_at, value_at


def test_lines_are_numbered_as_an_editor_does() -> None:
    """Blank lines count and are left out; one that is no object is named."""
    assert list(lines_of(Source("a", "", content=b'{"a": 1}\n\n{"a": 2}\n'))) == [
        (1, {"a": 1}),
        (3, {"a": 2}),
    ]
    for content, message in ((b'{"a": 1}\n[]\n', "Line 2 of 'a'"), (b"\n\n", "no rows"), (b"", "no rows")):
        with pytest.raises(UsageError, match=message):
            list(lines_of(Source("a", "", content=content)))


def test_values_by_path() -> None:
    """As far as the keys go; only one value is a word."""
    value = {"doc": {"subject": "law", "number": 3, "list": [1]}}
    assert value_at(value, "doc.subject") == "law"
    assert value_at(value, "doc.subject.deeper") is None
    assert text_at(value, "doc.number") == "3"
    assert text_at(value, "doc.list") is None
    assert text_at(value, "doc") is None
