"""The examples worth looking at, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from calibench.report import stored
from calibench.report.pages.grid import Box, Head, grid
from calibench.report.sections import Section
from calibench.report.stored import Opinions
from calibench.report.writing.numbers import fraction


def examples_part(found: Opinions, section: Section, texts: dict[str, str] | None) -> str:
    """How often each method differs from the first, and the examples worth looking at.

    Args:
        found: what the methods said.
        section: where it is from; it knows the names of the labels.
        texts: sentences by hash, or None to name examples by their row only.
    """
    labels = [str(label) for label in section.common("data").get("labels") or []]
    first = found.entries[0].label
    count = len(found.label)
    lines = []
    for entry, right, lost, other in stored.changes(found):
        lines.append(
            f"<li><strong>{escape(entry.label)}</strong> says another class than {escape(first)} on "
            f"{right + lost + other:,} of {count:,} examples: {right:,} become right, {lost:,} become wrong, "
            f"{other:,} stay wrong.</li>"
        )
    parts = [f"<ul>{''.join(lines)}</ul>"] if lines else []
    for heading, positions in (
        ("Most wrong with confidence", stored.confidently_wrong(found)),
        (f"Furthest from {first} among those that changed", stored.disagreed(found)),
    ):
        if len(positions):
            parts.append(f"<h4>{escape(heading)}</h4>")
            parts.append(_examples_table(heading, found, positions, labels, texts))
    return "\n".join(parts)


def _examples_table(
    heading: str, found: Opinions, positions: np.ndarray, labels: Sequence[str], texts: dict[str, str] | None
) -> str:
    heads = [Head("Row", "Row of the example in its split.")]
    heads += [Head("Sentence", "The text.", text=True)] if texts is not None else []
    heads += [Head("Label", "The class the data set gives.", text=True)]
    heads += [
        Head(entry.label, "Predicted class and its probability; sorted by the label's.")
        for entry in found.entries
    ]
    rows = []
    for at in positions:
        row = [Box(f"{found.row[at]}", int(found.row[at]))]
        if texts is not None:
            sentence = texts.get(found.text_sha256[at], "(not in the data that were loaded)")
            row.append(Box(f'<span class="sentence">{escape(sentence)}</span>', sentence))
        row.append(Box(escape(labels[found.label[at]]), labels[found.label[at]]))
        for said, probs in zip(found.said[:, at], found.probs[:, at], strict=True):
            right = said == found.label[at]
            mark = '<span class="right">right</span>' if right else '<span class="wrong">wrong</span>'
            row.append(
                Box(
                    f"{escape(labels[said])} {fraction(probs[said], 3)} {mark}", float(probs[found.label[at]])
                )
            )
        rows.append(row)
    return grid(heading, heads, rows)
