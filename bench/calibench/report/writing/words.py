"""The sentences of a report. Names from a record stand in backticks; the rest is ours, and plain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from calibench.report.sections import Entry, Section
from calibench.report.writing.numbers import fraction, significant
from calibench.store.records import Record, dig
from calibench.suites.loader import load_suite, suite_names

#: More labels than this are counted instead of listed.
_LABELS = 8
#: More names than this are not listed, but these many and a count.
_NAMED, _FEW = 5, 3


def code(value: object) -> str:
    """A value as a code span, whatever is in it."""
    return "`" + " ".join(str(value).replace("`", "'").split()) + "`"


def names(labels: Iterable[str]) -> str:
    """Labels as code, `a`, `b` and `c`; of many the first few, and how many more there are."""
    listed = [code(label) for label in labels]
    if len(listed) > _NAMED:
        listed = [*listed[:_FEW], f"{len(listed) - _FEW} others"]
    return join(listed)


def join(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def subject(record: Record) -> str:
    """What was run: a suite, or the data where they are not those that a suite of ours is about."""
    suite, data = str(record["suite"]), record.get("data") or {}
    if suite not in suite_names() or data.get("source") not in ("folder", "hub", "plugin"):
        return suite
    own, name = load_suite(suite).data, str(data["name"])
    if data["source"] == "plugin":
        return suite if own.loader == data.get("loader") else name
    # The suite's own data may come from a folder, of which records keep the last part of the path.
    theirs = {suite, own.config, PurePath(own.name or suite).name}
    return suite if PurePath(name).name in theirs else name


def title(section: Section) -> str:
    """What tells the section from the others of a report."""
    first = section.entries[0].record
    data, model = section.common("data").get("name"), section.common("model").get("name")
    what = subject(first)
    named = "" if what != first["suite"] else f"{code(data)} "
    parts = [f"{named}with {code(model)}"] if data and model else []
    parts += [f"seed {first.get('seed')}", *section.telling]
    return f"{code(what)}: {', '.join(parts)}"


def heading(section: Section) -> str:
    """One sentence that says what ran: methods, data, model, device, passes, seed."""
    data, model = section.common("data"), section.common("model")
    count, failed = len(section.entries), len(section.entries) - len(section.measured)
    text = f"{count} {'method' if count == 1 else 'methods'}"
    if data:
        text += f" on {_data(data)}"
    if model:
        text += f", with {_model(model)}"
    spent = sorted({r["passes"] for r in _records(section.measured) if (r.get("passes") or 1) > 1})
    if spent:
        text += f"; T = {', '.join(map(str, spent))} passes"
    text += f"; seed {section.entries[0].record.get('seed')}."
    return text + (f" **{failed} of them failed.**" if failed else "")


def _records(entries: Iterable[Entry]) -> list[Record]:
    return [entry.record for entry in entries]


def _data(data: dict[str, Any]) -> str:
    name = " ".join(code(part) for part in (data.get("name"), data.get("config")) if part)
    subset = "a random subset of " if data.get("limit") else ""
    names = [str(label) for label in data.get("labels") or []]
    labels = " / ".join(map(code, names)) if len(names) <= _LABELS else f"{len(names)} labels"
    beyond = f", {data['out_of_scope']:,} of them out of scope" if data.get("out_of_scope") else ""
    if data.get("source") == "file":
        rows = "answers with their confidences" if len(names) == 1 else f"rows of a file, {labels}"
        return f"{data.get('n'):,} {rows}"
    split = code(data.get("split"))
    return f"{name} ({subset}{data.get('n'):,} examples of the split {split}{beyond}, {labels})"


def _model(model: dict[str, Any]) -> str:
    text = f"{code(model.get('name'))} ({code(model.get('architecture'))}"
    if model.get("parameters"):
        text += f", {significant(model['parameters'] / 1e6)} million parameters"
    text += f", {model.get('attention')} attention)"
    return f"{text} in {model.get('dtype')} on {code(model.get('device'))}"


def remarks(section: Section) -> list[tuple[str, str]]:
    """(label, text) of every failure, warning and note; what all entries share is said once, unlabelled."""
    found: dict[str, list[str]] = {}
    for entry in section.entries:
        texts = [f"failed: {entry.failure}"] if entry.failure is not None else []
        texts += [f"Warning: {warning}" for warning in entry.record.get("warnings") or []]
        texts += [str(note) for note in entry.record.get("notes") or []]
        for text in [*texts, *_stalls(entry.record)]:
            found.setdefault(text, []).append(entry.label)
    every = len(section.entries)
    return [
        *((label, f"is {other}, which was timed itself.") for label, other in section.renamed),
        *(
            ("" if len(labels) == every and every > 1 else ", ".join(labels), text)
            for text, labels in found.items()
        ),
    ]


def _stalls(record: Record) -> list[str]:
    """That blocks were marked as stalled, in a sentence; none where none was."""
    stalls = dig(record, "timing", "stalls") or {}
    marked, repeated, left = (stalls.get(name, 0) for name in ("marked", "repeated", "left"))
    if not marked and not left:
        return []
    if not marked:
        which = "1 timing block is" if left == 1 else f"{left} timing blocks are"
        return [f"{which} far from this row's others, as when the machine stalls."]
    count = "1 timing block" if marked == 1 else f"{marked} timing blocks"
    return [
        f"{count} took far longer than this row's others, as when the machine stalls; timed once more: "
        f"{repeated}, far from the others still: {left}."
    ]


def environment(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(name, value) of everything that was captured; several values where the records differ."""
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for key, value in (record.get("environment") or {}).items():
            text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
            values.setdefault(str(key), {})[text] = None
    return [(key, "; ".join(texts)) for key, texts in values.items()]


_HOW_TO_READ = (
    (
        "The recommendation",
        "follows fixed rules and no estimate by itself. A method qualifies if it is shown better than the "
        "reference in NLL, Brier score or debiased ECE², worse in nothing, and a loss of more than one "
        "percentage point of accuracy is ruled out. Of those that take up to twice the reference's time the "
        "cheapest is named, unless a dearer one is shown to have the lower NLL.",
    ),
    (
        "T",
        "is the number of forward passes per sentence. One pass gives one opinion; the methods with more "
        "average them.",
    ),
    (
        "Square brackets",
        "hold a 95% interval. The examples are a sample: had others been drawn, the number would have come "
        "out differently, and the brackets say by how much. Two rows saw the same examples, so their "
        "brackets may overlap although one method is better; only a paired difference can tell.",
    ),
    (
        "ECE",
        "sorts the predictions into bins by confidence and averages the distance between how sure the model "
        "was and how often it was right. Zero means: of the cases it calls 80% sure, 80% are right.",
    ),
    (
        "The noise floor",
        "is what ECE reads on a sample of this size even when nothing is wrong. Bins of a few dozen examples "
        "miss their expected accuracy by chance, and ECE adds up the misses whatever their sign: on 872 "
        "examples and 10 bins a perfectly calibrated model reads about .012.",
    ),
    (
        "Debiased ECE",
        "takes the part that sampling noise adds to ECE off again. Around zero no miscalibration is shown; "
        "it can come out negative.",
    ),
    (
        "Verdicts",
        "are given on paired differences from the reference, on the same examples. All verdicts of a table "
        "are adjusted together, so that with 95% probability none of them is a false alarm. No difference "
        "shown does not mean that there is none: this many examples did not show it.",
    ),
    (
        "A score of its own",
        "is all that some methods add: their probabilities are those of the plain softmax. They "
        "stand where texts are ranked, under selective prediction and out of scope, and under cost; a row "
        "about probabilities would only repeat the softmax's.",
    ),
    (
        "Out of scope",
        "the method with the highest AUROC is the best by its estimate only. All pairs of methods are tested "
        "(DeLong) and adjusted together (Holm): which one comes out best is a matter of chance too, so that "
        "tests against it alone would promise too much. What is not told apart from the best is as good as "
        "far as these texts can say, and the cheapest of these is recommended.",
    ),
    ("NLL and Brier", "punish being wrong and being wrongly sure at once; lower is better."),
    (
        "Another package",
        "may read another number under the same name, on the same predictions. docs/conventions.md, in "
        "calibench's repository, says why, package by package, and how to get from the one to the other.",
    ),
    (
        "Cost ratio",
        "is the time from text to probabilities over that of the reference, measured side by side in the "
        "same blocks. Throughput is measured at full batches and latency one sentence at a time: neither "
        "follows from the other.",
    ),
    (
        "The front",
        "holds what is not beaten in quality by anything as cheap. Which methods those are depends on "
        "examples and timings that came out by chance; its probability says how often a method is on it "
        "when both are drawn again.",
    ),
    (
        "No worse",
        "turns the burden round: a method is no worse than another only where a loss of the margin is ruled "
        "out. Not shown means that more examples are needed to tell.",
    ),
    (
        "n too small",
        "stands where a percentile cannot be known from the number of requests timed. A dash means that a "
        "column does not apply.",
    ),
    (
        "Live sites",
        "are the places where the network draws random numbers at prediction, out of those where it did in "
        "training. A method that leaves some of them dead is another, narrower, approximation than its name "
        "says.",
    ),
)


def how_to_read(found: Sequence[Section]) -> list[tuple[str, str]]:
    """(what, explanation in plain words) for everything in the tables."""
    floor = _noise_floor_here(found)
    scores = any(section.by_score_alone for section in found)
    beyond = any(dig(e.record, "metrics", "oos_auroc") for section in found for e in section.measured)
    timed = any(section.timed for section in found)
    costed = timed or any(section.priced for section in found)
    there = {
        "A score of its own": scores,
        "Out of scope": beyond,
        "The front": costed,
        **dict.fromkeys(("T", "Cost ratio", "No worse", "n too small", "Live sites"), timed),
    }
    absent = {name for name, here in there.items() if not here}
    return [
        (what, text + floor if what == "The noise floor" else text)
        for what, text in _HOW_TO_READ
        if what not in absent
    ]


def _noise_floor_here(found: Sequence[Section]) -> str:
    """The same with this report's own numbers: the first method that has a noise floor."""
    for section in found:
        for entry in section.measured:
            floor, n = dig(entry.record, "metrics", "ece_noise_floor"), dig(entry.record, "data", "n")
            known = [floor[end] for end in ("value", "low", "high") if floor and floor.get(end) is not None]
            n = n and n - (dig(entry.record, "data", "out_of_scope") or 0)
            if n and len(known) == 3:
                mean, low, high = known
                return (
                    f" Here: were the probabilities of {code(entry.label)} exactly right, its ECE on these "
                    f"{n:,} examples would still read {fraction(mean)} on average, and in 95 of 100 samples "
                    f"between {fraction(low, 3)} and {fraction(high, 3)}. An ECE in that range shows no "
                    "miscalibration."
                )
    return ""
