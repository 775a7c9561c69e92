"""A figure with its words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from calibench.report.drawing import style


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

    @cached_property
    def svg(self) -> str:
        """The figure as SVG, its text as text; drawn once, inside `style.styled()`."""
        return style.svg(self.figure, salt=self.name)
