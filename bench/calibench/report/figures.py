"""The figures of a section by their kinds, each drawn when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from calibench.report.drawing.drawing import Drawing
from calibench.report.parts import curves, equal_error, front, reliability, risk_coverage, scope, shifts
from calibench.report.parts.sets_drawing import sets_drawing
from calibench.report.points import points, tradeoff
from calibench.report.sections import Section, is_copy
from calibench.report.writing.tables import has_scope

Drawn = Sequence[Drawing | None]


def _front(section: Section, folder: Path) -> Drawn:
    placed = [point for point in points(section, folder) if not is_copy(point.entry.record)]
    return [front.front_drawing(section.distinct(), tradeoff(placed))]


def _scope(section: Section, folder: Path) -> Drawn:
    return [scope.detection_drawing(section, folder)] if has_scope(section) else []


def _time(section: Section, _: Path) -> Drawn:
    timed = equal_error.yardstick_of(section) is not None
    return [equal_error.speed_drawing(section)] if timed else []


#: By what their kinds begin with.
_DRAWN: dict[str, Callable[[Section, Path], Drawn]] = {
    "reliability": lambda section, folder: [reliability.reliability_diagrams(section.distinct(), folder)],
    "risk-coverage": lambda section, folder: [
        risk_coverage.risk_coverage_drawing(section.distinct(), folder)
    ],
    "front": _front,
    "sets": lambda section, _: [sets_drawing(section.distinct())],
    "scope": _scope,
    "shift": lambda section, _: shifts.shift_drawings(section.distinct()),
    "curve": lambda section, _: curves.curve_drawings(section.distinct()),
    "time-against-error": _time,
}


def drawing(section: Section, folder: Path, kind: str) -> Drawing | None:
    """The drawing of a kind, such as "reliability" or "curve-nll"; None where there is none.

    Call and draw inside `style.styled()`.
    """
    found = [
        item
        for begins, drawn in _DRAWN.items()
        if kind == begins or kind.startswith(f"{begins}-")
        for item in drawn(section, folder)
    ]
    return next((item for item in found if item is not None and _kind(item, section) == kind), None)


def kinds(section: Section, folder: Path) -> list[str]:
    """The kinds there are; draws them all."""
    found = [item for drawn in _DRAWN.values() for item in drawn(section, folder)]
    return [_kind(item, section) for item in found if item is not None]


def _kind(found: Drawing, section: Section) -> str:
    return found.name.removeprefix(f"{section.slug}-")
