"""The tables of a report, built from records and independent of how they are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from calibench.metrics.selective import KINDS
from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import (
    Format,
    bound,
    fraction,
    interval,
    memory,
    percent,
    seconds,
    significant,
)
from calibench.store.records import Record, dig

ABSENT = "-"


@dataclass(frozen=True)
class Cell:
    """What one column says about one record.

    Attributes:
        text: as shown.
        sort: what sorting by this column compares, or None to stay at the end.
        reason: why there is no value, or None.
        span: the interval around the value, or None.
        tone: "right" or "wrong" for what a page may tint so, or None.
    """

    text: str
    sort: float | None = None
    reason: str | None = None
    span: tuple[float, float] | None = None
    tone: str | None = None


@dataclass(frozen=True)
class Column:
    """A heading, what it means in one sentence, how to read it off a record, and whether it holds words."""

    title: str
    meaning: str
    read: Callable[[Record], Cell]
    text: bool = False


@dataclass(frozen=True)
class Row:
    """One entry's cells; those of a failed entry are absent and `failure` says why."""

    entry: Entry
    cells: tuple[Cell, ...]
    failure: str | None


@dataclass(frozen=True)
class Table:
    """A table ready to be drawn: the method and its passes come before `columns`.

    Attributes:
        notes: the full reasons that cells point to as (a), (b), ...
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def build(title: str, entries: Iterable[Entry], columns: Sequence[Column], room: int = 24) -> Table:
    """Read `columns` off every entry, failed ones included; collect the reasons of missing values.

    A reason of up to `room` characters stands in its cell; longer ones become notes.
    """
    notes: list[str] = []
    rows = []
    for entry in entries:
        cells: tuple[Cell, ...] = ()
        if entry.failure is None:
            cells = tuple(with_note(column.read(entry.record), notes, room) for column in columns)
        rows.append(Row(entry, cells, entry.failure))
    return Table(title, tuple(columns), tuple(rows), tuple(notes))


def with_note(cell: Cell, notes: list[str], room: int) -> Cell:
    """The cell, with a reason that does not fit cut at its first colon and pointing to a note."""
    if cell.reason is None or len(cell.reason) <= room:
        return cell
    if cell.reason not in notes:
        notes.append(cell.reason)
    head = cell.reason.partition(":")[0].partition(";")[0]
    letter = note_letter(notes.index(cell.reason))
    return Cell(f"{head if len(head) <= room else 'n/a'} ({letter})", cell.sort, cell.reason)


def note_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def passes(record: Record) -> Cell:
    """The passes asked for, and the mean actually spent where that differs."""
    # A cell that failed before it was built has no passes of its own, only the ones it was asked for.
    asked = record.get("passes") or dig(record, "method", "params", "passes")
    mean = dig(record, "passes_used", "mean")
    if asked is None:
        return Cell(ABSENT)
    if mean is None or mean == asked:
        return Cell(str(asked), asked)
    return Cell(f"{asked} (mean {significant(mean)})", mean)


def estimate(*path: str, value: Format = fraction, end: Format | None = bound) -> Callable[[Record], Cell]:
    """Reads a `{"value", "low", "high", "reason"}` block; without `end` the interval is left out."""

    def read(record: Record) -> Cell:
        found = dig(record, *path)
        if found is None:
            return Cell(ABSENT)
        if found.get("value") is None:
            reason = str(found.get("reason") or "no reason recorded")
            return Cell(reason, reason=reason)
        if end is None or found.get("low") is None or found.get("high") is None:
            return Cell(value(found["value"]), found["value"])
        return Cell(interval(found, value, end), found["value"], span=(found["low"], found["high"]))

    return read


def duration(*path: str) -> Callable[[Record], Cell]:
    """Reads a bare number of seconds."""

    def read(record: Record) -> Cell:
        found = dig(record, *path)
        return Cell(ABSENT) if found is None else Cell(seconds(found), found)

    return read


def peak_memory(record: Record) -> Cell:
    """Peak memory above the loaded model."""
    block = record.get("memory") or {}
    size = block.get("peak_bytes")
    if size is None:
        reason = str(block.get("reason") or "not measured")
        return Cell(reason, reason=reason)
    return Cell(memory(size), size)


def sites(record: Record) -> Cell:
    """Live of expected dropout sites, `8/14`."""
    active, expected = dig(record, "coverage", "active"), dig(record, "coverage", "expected")
    if active is None or expected is None:
        return Cell(ABSENT)
    return Cell(f"{active}/{expected}", active / expected if expected else 0.0)


def has_scope(section: Section) -> bool:
    """Whether anything that was scored is out of scope."""
    return any(dig(entry.record, "metrics", "oos_auroc") for entry in section.measured)


def has_threshold(section: Section) -> bool:
    """Whether a threshold between in scope and out of scope was chosen for any method."""
    return any(dig(entry.record, "joint", "threshold") is not None for entry in section.measured)


QUALITY = (
    Column(
        "Accuracy ↑",
        "Share of examples whose most probable class is the label.",
        estimate("metrics", "accuracy"),
    ),
    Column(
        "ECE ↓",
        "Expected calibration error, 10 equal-width bins: mean distance of confidence from accuracy.",
        estimate("metrics", "ece"),
    ),
    Column(
        "ECE noise floor",
        "What ECE would read had the same probabilities been exactly right: mean [2.5%, 97.5%].",
        estimate("metrics", "ece_noise_floor"),
    ),
    Column(
        "Debiased ECE → 0",
        "ECE with its sampling noise subtracted; may be negative.",
        estimate("metrics", "ece_debiased"),
    ),
    Column("NLL ↓", "Mean negative log-probability of the label, in nats.", estimate("metrics", "nll")),
    Column(
        "Brier ↓",
        "Mean squared distance from the one-hot label, summed over classes.",
        estimate("metrics", "brier"),
    ),
)
TRUTH = (
    Column(
        "Posterior error ↓",
        "Mean distance from the true posterior, which is known for this corpus.",
        estimate("metrics", "posterior_error"),
    ),
    Column(
        "True ECE ↓",
        "ECE with labels replaced by their true probabilities: no label noise.",
        estimate("metrics", "ece_true"),
    ),
)
COST = (
    Column(
        "Cost ratio ↓",
        "End-to-end time, text to probabilities, over the reference's, paired by blocks.",
        estimate("cost_ratio", value=significant, end=significant),
    ),
    Column(
        "Sentences/s ↑",
        "Throughput at the plan's batches.",
        estimate("timing", "throughput", "sentences_per_s", value=significant, end=significant),
    ),
    Column(
        "Tokens/s ↑",
        "Real tokens, padding not counted.",
        estimate("timing", "throughput", "tokens_per_s", value=significant, end=None),
    ),
    Column(
        "p50 (ms) ↓",
        "Median latency of one sentence at batch 1.",
        estimate("timing", "latency_ms", "p50", value=significant, end=significant),
    ),
    Column(
        "p95 (ms) ↓",
        "95th percentile of the same.",
        estimate("timing", "latency_ms", "p95", value=significant, end=None),
    ),
    Column(
        "p99 (ms) ↓",
        "99th percentile of the same.",
        estimate("timing", "latency_ms", "p99", value=significant, end=None),
    ),
    Column(
        "Latency ratio ↓",
        "Latency at batch 1 over the reference's.",
        estimate("latency_ratio", value=significant, end=significant),
    ),
    Column("Peak memory ↓", "High-water mark above the loaded model.", peak_memory),
)


def _price(record: Record) -> Cell:
    value = dig(record, "scored", "price_per_row")
    return Cell(ABSENT) if value is None else Cell(significant(value), value)


PRICE = (
    Column("Price per row ↓", "What an answer costs on average, as given.", _price),
    Column(
        "Price ratio ↓",
        "The same over the reference's; known and not measured.",
        estimate("cost_ratio", value=significant, end=None),
    ),
)


def _outside_model(record: Record) -> Cell:
    forward, total = (dig(record, "timing", "stages_s", key) for key in ("forward", "end_to_end"))
    if forward is None or not total:
        return Cell(ABSENT)
    return Cell(percent(1 - forward / total), 1 - forward / total)


STAGES = (
    Column("Tokenise (s)", "Text to token ids.", duration("timing", "stages_s", "tokenise")),
    Column("Forward (s)", "Inside the model's forward.", duration("timing", "stages_s", "forward")),
    Column("Aggregate (s)", "From passes to one distribution.", duration("timing", "stages_s", "aggregate")),
    Column("End to end (s)", "Text to probabilities.", duration("timing", "stages_s", "end_to_end")),
    Column("Outside the model", "1 - forward / end to end.", _outside_model),
    Column("Set-up (s)", "Making the method ready, once.", duration("timing", "setup_s")),
    Column(
        "First forward (s)",
        "The first batch, with nothing warm.",
        duration("timing", "first_forward_s"),
    ),
    Column("Model load (s)", "Checkpoint to memory.", duration("timing", "model_load_s")),
)


def _fitted_on(record: Record) -> Cell:
    """The labelled examples that a method and its post-hoc step took, with their splits."""
    step = record.get("fit")
    parts = [part for part in (dig(record, "fit", "method"), step) if part and part.get("examples")]
    if not parts:
        return Cell(ABSENT)
    text = " + ".join(
        f"{part['examples']:,} ({part['split']})" if part.get("split") else f"{part['examples']:,}"
        for part in parts
    )
    return Cell(text, sum(part["examples"] for part in parts))


def _fit_memory(record: Record) -> Cell:
    size = dig(record, "memory", "fit_bytes")
    return Cell(ABSENT) if size is None else Cell(memory(size), size)


FIT = (
    Column(
        "Fit (s)",
        "Learning from labelled data, once, before any prediction; with predicting that data where it takes "
        "that.",
        duration("fit", "seconds"),
    ),
    Column("Fitted on", "Labelled examples that it takes, and their split.", _fitted_on),
    Column("Fit memory", "High-water mark above the loaded model while learning.", _fit_memory),
)

_TITLES = {
    "ece_15": "ECE, 15 bins ↓",
    "ece_equal_mass": "ECE, equal mass ↓",
    "mce": "Maximum CE ↓",
    "ece_classwise": "Classwise ECE ↓",
}
#: Metrics with a section of their own start like this.
_ELSEWHERE = ("oos_", *(kind.name for kind in KINDS))
_SHOWN = ("accuracy", "ece", "ece_noise_floor", "ece_debiased", "nll", "brier", "posterior_error", "ece_true")
#: The headings of what a model card shows.
_MAIN = ("Accuracy", "ECE", "NLL", "Brier")


def quality(section: Section) -> Table:
    """How right and how well calibrated each method is."""
    known = any(dig(entry.record, "metrics", "posterior_error") for entry in section.measured)
    return build("Quality", section.entries, QUALITY + (TRUTH if known else ()))


def main(section: Section, entries: Iterable[Entry]) -> Table:
    """What a model card has room for: accuracy, ECE, NLL, Brier and, where known, the cost."""
    known = COST[:1] if section.timed else PRICE[1:] if section.priced else ()
    named = [column for column in QUALITY if column.title.rstrip(" ↑↓") in _MAIN]
    return build("Main metrics", entries, [*named, *known])


def further(section: Section) -> Table | None:
    """Every metric of the records that the quality table does not show."""
    names: dict[str, None] = {}
    for entry in section.measured:
        names |= dict.fromkeys(entry.record.get("metrics") or {})
    ordered = sorted(names, key=lambda name: list(_TITLES).index(name) if name in _TITLES else len(_TITLES))
    columns = [
        Column(_TITLES.get(name, name), f"The metric {name}.", estimate("metrics", name))
        for name in ordered
        if name not in _SHOWN and not name.startswith(_ELSEWHERE)
    ]
    return build("Further metrics", section.entries, columns) if columns else None


def cost(section: Section) -> Table | None:
    """What each method costs, relative to the reference and absolutely, and what it takes to be fitted.

    None where nobody knows.
    """
    fitted = any(entry.record.get("fit") for entry in section.measured)
    known = COST if section.timed or not section.measured else PRICE if section.priced else ()
    columns = (*known, *(FIT if fitted else ()))
    return build("Cost", section.entries, columns) if columns else None


def stages(section: Section) -> Table | None:
    """Where the time of one pass over the data went; None where nothing was timed."""
    if section.measured and not section.timed:
        return None
    return build("Where the time goes", section.entries, STAGES)


def _kinds(active: bool) -> Callable[[Record], Cell]:
    def read(record: Record) -> Cell:
        found = dig(record, "coverage", "sites")
        if found is None:
            return Cell(ABSENT)
        count = Counter(str(site["kind"]) for site in found if bool(site["active"]) is active)
        return Cell(", ".join(f"{n} {kind}" for kind, n in count.items()) or "none", sum(count.values()))

    return read


def coverage(section: Section) -> Table | None:
    """Which of the sites that draw random numbers in training also draw at prediction."""
    entries = [
        entry for entry in section.entries if entry.failure is not None or entry.record.get("coverage")
    ]
    if not any(entry.failure is None for entry in entries):
        return None
    columns = (
        Column("Live sites", "Sites that draw at prediction, of those that draw in training.", sites),
        Column("Live", "Kinds of the sites that draw.", _kinds(True), text=True),
        Column("Dead", "Kinds of the sites that stay silent.", _kinds(False), text=True),
    )
    return build("Dropout coverage", entries, columns)
