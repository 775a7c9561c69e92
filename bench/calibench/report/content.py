"""What a section of a report consists of, in order; the same for markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibench.compare.detectors import Choice
from calibench.report.drawing import style
from calibench.report.drawing.drawing import Drawing
from calibench.report.parts import equal_error, equal_quality, groups, scope, sets, shifts
from calibench.report.parts.against import against, against_table, against_words, details_table
from calibench.report.parts.curves import curve_drawings
from calibench.report.parts.detectors import detector_words
from calibench.report.parts.front import front_drawing, front_table, front_words
from calibench.report.parts.headline import HEADS, Judgement, headline, judge
from calibench.report.parts.recommendation import recommendation_words
from calibench.report.parts.reliability import reliability_diagrams
from calibench.report.parts.selective import selective_table, selective_words
from calibench.report.parts.sets_drawing import sets_drawing
from calibench.report.points import Point, tradeoff
from calibench.report.sections import Section, sections
from calibench.report.stored import has_predictions, loaded_once, records_of
from calibench.report.writing import tables
from calibench.report.writing.tables import Table
from calibench.report.writing.words import code, join, subject
from calibench.store.records import Record


@dataclass(frozen=True, eq=False)
class Part:
    """A heading with what stands under it: sentences, a table, drawings, and what is unfolded on demand.

    Attributes:
        text: paragraphs, with an empty line between them.
        details: a table that few read, behind its title.
    """

    title: str
    text: str = ""
    table: Table | None = None
    drawings: tuple[Drawing, ...] = ()
    details: Table | None = None


@dataclass(frozen=True, eq=False)
class Content:
    """What a report says of a section.

    Attributes:
        lines: (head, text) of the three that come first.
        parts: the rest, in order.
    """

    section: Section
    lines: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A run folder, made ready to be written in any form.

    Attributes:
        folder: where records and predictions are, and pages go.
    """

    folder: Path
    records: tuple[Record, ...]
    contents: tuple[Content, ...]

    @property
    def sections(self) -> list[Section]:
        """The sections, in order."""
        return [content.section for content in self.contents]

    @property
    def title(self) -> str:
        """The suites that ran, or the data that they ran on instead of their own."""
        return f"calibench: {', '.join(dict.fromkeys(map(subject, self.records)))}"


def read(path: Path) -> Report:
    """Read the records and stored predictions of a run folder, or beside a records file, and draw.

    Raises:
        UsageError: no records there, or records this version does not read.
    """
    records, folder = records_of(path), path if path.is_dir() else path.parent
    with style.styled(), loaded_once():
        contents = tuple(_content(section.once(), folder) for section in sections(records))
    return Report(folder, tuple(records), contents)


def _content(section: Section, folder: Path) -> Content:
    judged = judge(section, folder)
    lines = tuple(zip(HEADS, headline(section, judged), strict=True))
    return Content(section, lines, tuple(parts(section, judged, folder)))


def parts(section: Section, judged: Judgement, folder: Path) -> list[Part]:
    """The parts of a section; call and draw inside `style.styled()`.

    Methods that add a score alone stand where scores or costs are shown, and nowhere else.
    """
    own = section.distinct()
    placed, choice = judged.points, judged.choice
    selective = selective_table(section)
    found = [
        Part("Recommendation", _recommendation(section, judged)),
        Part("Quality", _quality_words(section), tables.quality(own)),
        _against(own, folder),
        _reliability(own, folder),
        Part("Selective prediction", selective_words() if selective else "", selective),
        *_scope(section, folder, choice),
        _sets(own),
        _groups(own),
        _shift(own),
        *_speed(own),
        *_front(own, placed),
        _matched(own, placed),
        Part("Over the number of passes", drawings=tuple(curve_drawings(own))),
        Part("Cost", "", tables.cost(section)),
        _stages(section),
        Part("Dropout coverage", "", tables.coverage(section)),
        Part("Further metrics", "", tables.further(own)),
    ]
    return [part for part in found if part.table or part.drawings or part.text]


def recommended(section: Section, folder: Path) -> str:
    """What the section's recommendation says, in paragraphs."""
    section = section.once()
    return _recommendation(section, judge(section, folder))


def _some(drawing: Drawing | None) -> tuple[Drawing, ...]:
    return () if drawing is None else (drawing,)


def _recommendation(section: Section, judged: Judgement) -> str:
    paragraphs = [recommendation_words(section.distinct(), judged.points, judged.decision)]
    if judged.choice is not None:
        paragraphs.append(detector_words(section, judged.choice))
    return "\n\n".join(paragraphs)


def _quality_words(section: Section) -> str:
    if not section.measured:
        return "No method finished, so there is nothing to compare."
    text = (
        "Brackets are 95% intervals over examples; those of the noise floor hold 95% of what a perfectly "
        "calibrated model would read. Rows share their examples: overlapping brackets do not mean that two "
        "methods are equal."
    )
    scores = section.by_score_alone
    if not scores:
        return text
    are, their = ("is", "its") if len(scores) == 1 else ("are", "their")
    return (
        f"{text} Not here {are} {join([code(entry.label) for entry in scores])}: {their} probabilities are "
        f"those of the plain softmax, and only {their} score is new. What that is worth is under selective "
        f"prediction{' and out of scope' if tables.has_scope(section) else ''}."
    )


def _against(section: Section, folder: Path) -> Part:
    title = "Against the reference"
    found = against(section, folder)
    if found is None:
        return Part(title)
    table, details = against_table(section, found), details_table(section, found, folder)
    return Part(title, against_words(found), table, details=details)


def _reliability(section: Section, folder: Path) -> Part:
    title = "Reliability diagrams"
    lacking = [code(entry.label) for entry in section.measured if not has_predictions(entry, folder)]
    text = (
        f"Not drawn, because no predictions lie beside the records: {', '.join(lacking)}." if lacking else ""
    )
    return Part(title, text, drawings=_some(reliability_diagrams(section, folder)))


def _stages(section: Section) -> Part:
    table = tables.stages(section)
    return Part("Where the time goes", "Seconds for the whole data set, once." if table else "", table)


def _front(section: Section, placed: Sequence[Point]) -> tuple[Part, Part]:
    found = tradeoff(placed)
    table = front_table(section, found)
    return (
        Part("Cost against quality", drawings=_some(front_drawing(section, found))),
        Part("Probability of being on the front", front_words(section) if table else "", table),
    )


def _scope(section: Section, folder: Path, choice: Choice | None) -> list[Part]:
    if not tables.has_scope(section):
        return []
    table = scope.joint_table(section)
    return [
        Part(
            "Out of scope",
            scope.detection_words(section, choice),
            scope.detection_table(section, choice),
            _some(scope.detection_drawing(section, folder)),
            scope.other_scores_table(section),
        ),
        Part("In scope or not, and which class", scope.joint_words(section) if table else "", table),
    ]


def _sets(section: Section) -> Part:
    title, table = "Prediction sets", sets.sets_table(section)
    if table is None:
        return Part(title)
    return Part(title, sets.sets_words(section), table, _some(sets_drawing(section)))


def _groups(section: Section) -> Part:
    table = groups.groups_table(section)
    return Part("By group", groups.groups_words(section) if table else "", table)


def _shift(section: Section) -> Part:
    table = shifts.shift_matrix(section)
    if table is None:
        return Part("Under shift")
    drawings = tuple(shifts.shift_drawings(section))
    return Part("Under shift", shifts.shift_words(section), table, drawings, shifts.shift_table(section))


def _speed(section: Section) -> list[Part]:
    if equal_error.yardstick_of(section) is None:
        return []
    found = [
        Part(
            "Time against error",
            equal_error.speed_words(section),
            equal_error.speed_table(section),
            _some(equal_error.speed_drawing(section)),
        )
    ]
    table = equal_error.matched_error_table(section)
    if table is not None:
        found.append(Part("Time at the matched error", equal_error.matched_error_words(section), table))
    return [*found, Part("Bias of stopping", equal_error.stopping_words(section))]


def _matched(section: Section, placed: Sequence[Point]) -> Part:
    title = "Cost at matched quality"
    base = equal_quality.baseline(placed)
    if base is None or len(section.measured) < 2:
        return Part(title)
    found = equal_quality.matches(placed, base)
    return Part(title, equal_quality.matched_words(base), equal_quality.matched_table(section, found))
