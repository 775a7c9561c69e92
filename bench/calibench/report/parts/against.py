"""Every method against the section's reference: paired differences, verdicts, and what could be shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.text import Text

from calibench.compare.contrasts import Contrast, contrasts
from calibench.compare.verdicts import FAMILY, UNDECIDED, Pair, family_of
from calibench.metrics.calibration import ECE
from calibench.metrics.detection import OOS_AUROC
from calibench.metrics.scoring import BRIER_CONFIDENCE
from calibench.report.points import evaluation_of
from calibench.report.sections import Entry, Section, sections
from calibench.report.stored import has_predictions, stored_predictions
from calibench.report.writing.numbers import fraction, signed, significant, span
from calibench.report.writing.tables import ABSENT, Cell, Column, Table, build
from calibench.report.writing.words import code
from calibench.stats.montecarlo import FEWEST_SEEDS, sd_over_seeds, sds_over_passes
from calibench.store.predictions import Predictions
from calibench.store.records import Record, dig, load_records
from calibench.types import Evaluation, Interval, Metric


@dataclass(frozen=True, eq=False)
class Against:
    """A section's methods against its reference.

    Attributes:
        reference: what they are compared with.
        entries: the entry of each contrast.
        contrasts: methods first, each in every metric with verdicts and the study's own.
        examples: how many in scope both saw.
        beyond: how many out of scope.
    """

    reference: Entry
    entries: tuple[Entry, ...]
    contrasts: tuple[Contrast, ...]
    examples: int
    beyond: int


def against(section: Section, folder: Path) -> Against | None:
    """Compare every method that has predictions with the reference; None where there is nothing to compare.

    Raises:
        CalibenchError: two cells of the section hold predictions about different examples.
    """
    reference = section.reference
    if sum(has_predictions(entry, folder) for entry in section.measured) < 2:
        return None
    stored = {entry.order: (entry, found) for entry, found in stored_predictions(section, folder)}
    if reference is None or reference.order not in stored or len(stored) < 2:
        return None
    labels = stored[reference.order][1].label
    base = evaluation_of(*stored.pop(reference.order))
    pairs = [Pair(entry.label, base, evaluation_of(entry, found)) for entry, found in stored.values()]
    shown = (*family_of(base), ECE)
    rows = contrasts(pairs, shown)
    entries = [entry for entry, _ in stored.values() for _ in shown]
    beyond = int((labels < 0).sum())
    return Against(reference, tuple(entries), tuple(rows), len(labels) - beyond, beyond)


def against_table(section: Section, found: Against) -> Table:
    """One row per method, failed methods last: the difference in each metric, and the verdict on it."""
    rows: dict[int, Entry] = {}
    for entry, contrast in zip(found.entries, found.contrasts, strict=True):
        row = rows.setdefault(entry.order, replace(entry, record=_identity(entry.record) | {"contrasts": {}}))
        row.record["contrasts"][contrast.metric.name] = contrast
    shown = {contrast.metric.name: contrast.metric for contrast in found.contrasts}
    columns = [_metric_column(metric) for metric in shown.values()]
    return build("Against the reference", [*rows.values(), *_failed(section)], columns)


def details_table(section: Section, found: Against, folder: Path) -> Table:
    """One row per method and metric, failed methods last; Monte-Carlo is of the method's own number."""
    stored = {entry.order: predictions for entry, predictions in stored_predictions(section, folder)}
    records = [record for record in load_records(folder) if record["status"] == "ok"]
    twins: dict[str, list[Record]] = {}
    for record in records:
        twins.setdefault(_twin(record), []).append(record)
    rows = []
    for _, group in groupby(zip(found.entries, found.contrasts, strict=True), key=lambda pair: pair[0].order):
        pairs = list(group)
        entry, own = pairs[0][0], [contrast for _, contrast in pairs]
        spreads = _monte_carlo(entry, own, stored[entry.order], twins.get(_twin(entry.record), []))
        rows += [
            replace(entry, record=_as_record(entry.record, contrast) | {"monte_carlo": spread})
            for contrast, spread in zip(own, spreads, strict=True)
        ]
    return build("Every difference", [*rows, *_failed(section)], _COLUMNS)


def _failed(section: Section) -> list[Entry]:
    return [entry for entry in section.entries if entry.failure is not None]


def _identity(record: Record) -> Record:
    """What says which cell it is, without its results."""
    return {key: record.get(key) for key in ("cell", "status", "method", "passes", "passes_used")}


def _metric_column(metric: Metric) -> Column:
    arrow = {"lower": "↓", "higher": "↑", "zero": "→ 0"}[metric.better]
    tones = {"better": "right", "worse": "wrong"}

    def read(record: Record) -> Cell:
        contrast: Contrast = record["contrasts"][metric.name]
        found, verdict = contrast.difference, contrast.tested and contrast.tested.verdict
        if found.value is None:
            return Cell(ABSENT)
        extent = (found.low, found.high) if found.low is not None and found.high is not None else None
        word = f" {verdict}" if verdict and verdict != UNDECIDED else ""
        return Cell(signed(found.value) + word, found.value, span=extent, tone=tones.get(verdict or ""))

    return Column(
        f"{metric.title} {arrow}",
        "The method's number less the reference's, on the same examples, and the verdict where there is one; "
        "the strip is its 95% interval.",
        read,
    )


def _as_record(record: Record, contrast: Contrast) -> Record:
    """What columns read: the cell's own name and passes, with the contrast in place of its results."""
    tested = contrast.tested
    return _identity(record) | {
        "metric": contrast.metric.title,
        "difference": contrast.difference.as_dict(),
        "adjusted": tested and tested.adjusted.as_dict(),
        "p_holm": tested and tested.adjusted_p,
        "verdict": tested and tested.verdict,
    }


def _monte_carlo(
    entry: Entry, own: Sequence[Contrast], predictions: Predictions, twins: Sequence[Record]
) -> list[dict[str, Any]]:
    """Of each contrast's metric: the spread over seeds where there are enough, else over passes."""
    spreads: dict[str, float | None] = {}
    for contrast in own:
        name = contrast.metric.name
        values = {record["seed"]: dig(record, "metrics", name, "value") for record in twins}
        spreads[name] = sd_over_seeds([value for value in values.values() if value is not None])
    for beyond in (False, True):
        asked = [
            contrast.metric
            for contrast in own
            if contrast.metric.needs_out_of_scope is beyond and spreads[contrast.metric.name] is None
        ]
        if not asked or predictions.standard_error is None or (beyond and entry.score is not None):
            continue
        about = (predictions.label >= 0) | beyond
        evaluation = Evaluation(predictions.probs[about], predictions.label[about])
        found = sds_over_passes(asked, evaluation, predictions.standard_error[about])
        spreads |= {metric.name: spread for metric, spread in zip(asked, found, strict=True)}
    reason = f"needs {FEWEST_SEEDS} seeds: no standard error over passes"
    return [
        Interval(spread, None, None, reason if spread is None else None).as_dict()
        for spread in (spreads[contrast.metric.name] for contrast in own)
    ]


def _twin(record: Record) -> str:
    parts = [record["suite"], record["method"], dig(record, "data", "sha256"), dig(record, "model", "sha256")]
    return json.dumps(parts, sort_keys=True)


def _difference(record: Record) -> Cell:
    found = record["difference"]
    if found["value"] is None:
        return Cell(ABSENT, reason=found["reason"])
    ends = span(found["low"], found["high"])
    extent = (found["low"], found["high"]) if ends else None
    return Cell(f"{signed(found['value'])} {ends}".strip(), found["value"], span=extent)


def _adjusted(record: Record) -> Cell:
    found = record["adjusted"]
    if found is None:
        return Cell(ABSENT)
    if found["low"] is None:
        return Cell(str(found["reason"]), reason=found["reason"])
    return Cell(span(found["low"], found["high"]))


def _p_value(record: Record) -> Cell:
    value = record["p_holm"]
    if value is None:
        return Cell(ABSENT)
    return Cell("<.001" if value < 0.001 else fraction(value, 3), value)


def _monte_carlo_cell(record: Record) -> Cell:
    found = record["monte_carlo"]
    if found["value"] is None:
        return Cell(str(found["reason"]), reason=found["reason"])
    return Cell(fraction(found["value"]), found["value"])


_COLUMNS = (
    Column("Metric", "What was compared.", lambda record: Cell(record["metric"]), text=True),
    Column(
        "Difference",
        "The method's number less the reference's, on the same examples, with a 95% interval for this one.",
        _difference,
    ),
    Column(
        "Adjusted interval",
        "The same allowing for all verdicts of the table; it leaves out zero exactly where there is one.",
        _adjusted,
    ),
    Column("p (Holm)", "Adjusted for all verdicts of the table.", _p_value),
    Column(
        "Verdict",
        "Whether the method is better or worse than the reference; a dash for a metric that only describes.",
        lambda record: Cell(record["verdict"] or ABSENT),
        text=True,
    ),
    Column(
        "Monte-Carlo sd",
        "How much the method's own number varies over seeds, or over fresh passes, on the same examples.",
        _monte_carlo_cell,
    ),
)


def against_words(found: Against) -> str:
    """How the table is to be read, and what this run could have shown."""
    verdicts = sum(contrast.tested is not None for contrast in found.contrasts)
    count = len({entry.order for entry in found.entries})
    methods = f"{count} {'method' if count == 1 else 'methods'}"
    beyond = f", and {found.beyond:,} out of scope" if found.beyond else ""
    sentences = [
        f"Differences from {code(found.reference.label)} on the same {found.examples:,} examples{beyond}. "
        f"The {verdicts} verdicts ({methods} in {verdicts // count} metrics) hold together: with 95% "
        "probability none of them is a false alarm (Holm). Where no word stands beside a difference, none is "
        "shown. ECE itself gets no verdict, because it reads less for sharper probabilities however well "
        "calibrated they are.",
        *footer(found),
    ]
    return " ".join(sentences)


def footer(found: Against) -> list[str]:
    """Sentences for below the tables: the smallest differences, and the reference raced against itself."""
    every = (*FAMILY, BRIER_CONFIDENCE, OOS_AUROC)
    smallest = [text for metric in every for text in _smallest(found, metric)]
    sentences = []
    if smallest:
        sentences.append(
            f"A true difference of this size gets its verdict four times in five: {'; '.join(smallest)}."
        )
    raced = found.reference.record.get("self_check")
    if raced:
        cost, latency = (_ratio(Interval(**raced[name])) for name in ("cost_ratio", "latency_ratio"))
        sentences.append(
            f"Raced against itself, {code(found.reference.label)} took {cost} times its own time (latency "
            f"{latency}): what lies within these intervals of 1 shows no difference in cost."
        )
    return sentences


def closing(records: Iterable[Record], folder: Path) -> Text:
    """The footers of sections whose reference was raced against itself, for below the terminal's table."""
    lines: list[str] = []
    for section in sections(records):
        if section.reference is not None and section.reference.record.get("self_check"):
            found = against(section.distinct(), folder)
            lines += footer(found) if found is not None else []
    return Text("\n".join(lines))


def _smallest(found: Against, metric: Metric) -> list[str]:
    sizes = [
        contrast.tested.detectable
        for contrast in found.contrasts
        if contrast.metric is metric and contrast.tested and contrast.tested.detectable is not None
    ]
    if not sizes:
        return []
    low, high = fraction(min(sizes)), fraction(max(sizes))
    return [f"{metric.title} {low}" if low == high else f"{metric.title} {low} to {high} by method"]


def _ratio(ratio: Interval) -> str:
    if ratio.value is None:
        return f"unknown: {ratio.reason}"
    text = significant(ratio.value)
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} [{significant(ratio.low)}, {significant(ratio.high)}]"
