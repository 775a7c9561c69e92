"""A figure with its words."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with its words.

    Attributes:
        name: file name without suffix; unique in the report.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
    """

    name: str
    figure: Figure
    alt: str
    caption: str
