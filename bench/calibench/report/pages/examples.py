"""The examples worth looking at, for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calibench.report import stored
from calibench.report.pages.grid import Box, Grid, GridRow
from calibench.report.sections import Section
from calibench.report.stored import Opinions
from calibench.report.writing.numbers import fraction
from calibench.report.writing.sheets import Heading


def changes_words(found: Opinions) -> list[str]:
    """How often each method differs from the first, a sentence each."""
    first, count = found.entries[0].label, len(found.label)
    return [
        f"**{entry.label}** says another class than {first} on {right + lost + other:,} of {count:,} "
        f"examples: {right:,} become right, {lost:,} become wrong, {other:,} stay wrong."
        for entry, right, lost, other in stored.changes(found)
    ]


def examples_grids(
    found: Opinions, section: Section, texts: dict[str, str] | None
) -> Iterator[tuple[str, Grid]]:
    """(title, table) of the examples that are wrong with confidence, and of those that changed most.

    Args:
        found: what the methods said.
        section: where it is from; it knows the names of the labels.
        texts: sentences by hash, or None to name examples by their row only.
    """
    labels = [str(label) for label in section.common("data").get("labels") or []]
    for title, positions in (
        ("Most wrong with confidence", stored.confidently_wrong(found)),
        (f"Furthest from {found.entries[0].label} among those that changed", stored.disagreed(found)),
    ):
        if len(positions):
            yield title, _grid(title, found, positions, labels, texts)


def _grid(
    title: str, found: Opinions, positions: np.ndarray, labels: Sequence[str], texts: dict[str, str] | None
) -> Grid:
    heads = [Heading("Row", "Row of the example in its split.")]
    heads += [Heading("Sentence", "The text.", text=True)] if texts is not None else []
    heads += [Heading("Label", "The class the data set gives.", text=True)]
    meaning = "Predicted class and its probability; sorted by the label's."
    heads += [Heading(entry.label, meaning) for entry in found.entries]
    return Grid(title, heads, [GridRow(_boxes(found, int(at), labels, texts)) for at in positions])


def _boxes(found: Opinions, at: int, labels: Sequence[str], texts: dict[str, str] | None) -> list[Box]:
    boxes = [Box(f"{found.row[at]}", int(found.row[at]), heads=True)]
    if texts is not None:
        sentence = texts.get(found.text_sha256[at], "(not in the data that were loaded)")
        boxes.append(Box(sentence, sentence, tone="sentence"))
    boxes.append(Box(labels[found.label[at]], labels[found.label[at]]))
    for said, probs in zip(found.said[:, at], found.probs[:, at], strict=True):
        verdict = "right" if said == found.label[at] else "wrong"
        text = f"{labels[said]} {fraction(probs[said], 3)} {verdict}"
        boxes.append(Box(text, float(probs[found.label[at]]), tone=verdict))
    return boxes
