"""Records sorted into the sections of a report: one per suite, data, model and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibench.store.naming import label
from calibench.store.records import Record, dig, is_scored, is_untimed

_DATA = ("name", "config", "split", "revision", "sha256", "n", "limit")
#: What tells sections of one title apart, in this order: block, key and words.
_FACTS = (
    ("data", "n", "{} examples"),
    ("data", "config", "config {}"),
    ("data", "split", "split {}"),
    ("model", "dtype", "{}"),
    ("model", "device", "on {}"),
    ("model", "attention", "{} attention"),
    ("data", "revision", "data revision {}"),
    ("model", "revision", "model revision {}"),
    ("data", "limit", "limit {}"),
    ("data", "sha256", "data {}"),
    ("model", "sha256", "weights {}"),
    ("model", "config_sha256", "configuration {}"),
    ("model", "tokenizer_sha256", "tokenizer {}"),
)
_MODEL = ("name", "revision", "sha256", "config_sha256", "tokenizer_sha256", "dtype", "device", "attention")


@dataclass(frozen=True)
class Entry:
    """One cell of a run, as a report shows it.

    Attributes:
        record: the record as it was read.
        label: the record's name among those of the section.
        order: position in the section, 0 for the reference.
        family: number of the method with its parameters, 0 for the reference; fixes colour and marker.
        variant: 0 for the method itself, then one for each of its post-hoc steps, which share its colour.
    """

    record: Record
    label: str
    order: int
    family: int = 0
    variant: int = 0

    @property
    def score(self) -> str | None:
        """The score by which the method ranks texts, None for the largest probability."""
        name = self.record["method"].get("score")
        return None if name is None else str(name)

    @property
    def failure(self) -> str | None:
        """What went wrong, in one line, or None."""
        if self.record["status"] == "ok":
            return None
        error = self.record.get("error") or {}
        message = " ".join(str(error.get("message") or "").split())
        return message or str(error.get("type") or "no message recorded")


@dataclass(frozen=True)
class Section:
    """The cells that may be read side by side: same suite, examples, weights and seed.

    Attributes:
        slug: unique within the report, for file names and anchors.
        entries: the reference first, then in the order of the records.
        telling: what tells it from the sections of the same suite, data, model and seed, such as
            "60 examples".
        renamed: (label, label) of what was left out because it stands under another name.
    """

    slug: str
    entries: tuple[Entry, ...]
    telling: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def measured(self) -> tuple[Entry, ...]:
        """The entries that did not fail."""
        return tuple(entry for entry in self.entries if entry.failure is None)

    @property
    def reference(self) -> Entry | None:
        """The entry costs are relative to, where it did not fail."""
        return next((entry for entry in self.measured if entry.record.get("reference")), None)

    @property
    def by_score_alone(self) -> tuple[Entry, ...]:
        """The finished entries whose probabilities are those of the plain softmax."""
        return tuple(entry for entry in self.measured if is_copy(entry.record))

    @property
    def timed(self) -> bool:
        """Whether anything of it was timed; predictions from files, and quality work of a sweep, were not."""
        return not all(is_untimed(entry.record) for entry in self.measured)

    @property
    def from_files(self) -> bool:
        """Whether all of it was scored from files, which say nothing of model and texts."""
        return all(is_scored(entry.record) for entry in self.measured)

    @property
    def priced(self) -> bool:
        """Whether its costs are prices."""
        found = (dig(entry.record, "cost_ratio", "value") for entry in self.measured)
        return not self.timed and any(value is not None for value in found)

    @property
    def by_confidence(self) -> bool:
        """Whether there are no classes, and predictions are confidences of answers."""
        return len(self.common("data").get("labels") or []) == 1

    def distinct(self) -> Section:
        """The section without them: what there is to say about probabilities."""
        return replace(self, entries=tuple(entry for entry in self.entries if not is_copy(entry.record)))

    def once(self) -> Section:
        """The section with each thing once: a step on a method that is itself one of the methods goes.

        `temperature` is `frequentist + temperature`. It stays, as it was timed itself; the step's cost is
        that of the method whose measurement it shares.
        """
        names = {
            entry.order: other.label
            for entry in self.measured
            for other in self.measured
            if _is_the_step(entry.record, other.record)
        }
        kept = tuple(entry for entry in self.entries if entry.order not in names)
        gone = tuple((entry.label, names[entry.order]) for entry in self.entries if entry.order in names)
        return replace(self, entries=kept, renamed=gone)

    def common(self, block: str) -> dict[str, Any]:
        """The first `data`, `model` or `plan` block that is there; empty where there is none."""
        return next((entry.record[block] for entry in self.entries if entry.record.get(block)), {})


def is_copy(record: Record) -> bool:
    """Whether its probabilities say nothing new; those of the reference do, whatever it is."""
    return bool(record["method"].get("score_only")) and not record.get("reference")


def _is_the_step(record: Record, method: Record) -> bool:
    """Whether a row with a post-hoc step is what a method does of itself: the same fit, the same numbers."""
    if not record["method"].get("posthoc") or method["method"].get("posthoc") or not method.get("fit"):
        return False
    pairs = [
        ((one.get("fit") or {}).get("parameters"), _values(one), one["method"].get("params"))
        for one in (record, method)
    ]
    return _close(*pairs)


def _values(record: Record) -> dict[str, Any]:
    return {name: found.get("value") for name, found in (record.get("metrics") or {}).items()}


def _close(one: Any, other: Any) -> bool:
    """Whether two structures are equal, numbers up to what machines differ by."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def sections(records: Iterable[Record]) -> list[Section]:
    """Group records; of several records of one cell the last stands, as a resumed run supersedes itself."""
    latest: dict[str, Record] = {}
    for record in records:
        latest[record["cell"]] = record
    grouped: dict[str, list[Record]] = {}
    for record in latest.values():
        grouped.setdefault(_key(record), []).append(record)
    result: list[Section] = []
    taken: dict[str, int] = {}
    for members in grouped.values():
        suite = _slug(str(members[0]["suite"]))
        taken[suite] = taken.get(suite, 0) + 1
        slug = suite if taken[suite] == 1 else f"{suite}-{taken[suite]}"
        members.sort(key=lambda record: not record.get("reference"))
        places = _places(members)
        entries = tuple(
            Entry(record, label(record, members), i, *places[i]) for i, record in enumerate(members)
        )
        result.append(Section(slug, entries))
    return _told_apart(result)


def _told_apart(found: Sequence[Section]) -> list[Section]:
    """The sections, those of one title with the first facts that tell them apart."""
    groups: dict[str, list[Section]] = {}
    for section in found:
        groups.setdefault(json.dumps(_named(section)), []).append(section)
    telling: dict[str, tuple[str, ...]] = {}
    for group in groups.values():
        facts: list[tuple[str, ...]] = [() for _ in group]
        for block, key, words in _FACTS:
            values = [section.common(block).get(key) for section in group]
            if len(set(facts)) < len(group) and len(set(map(str, values))) > 1:
                facts = [(*own, _fact(words, value)) for own, value in zip(facts, values, strict=True)]
        telling |= {section.slug: own for section, own in zip(group, facts, strict=True)}
    return [replace(section, telling=telling[section.slug]) for section in found]


def _named(section: Section) -> list[Any]:
    """What its title says of it."""
    first = section.entries[0].record
    names = [section.common(block).get("name") for block in ("data", "model")]
    return [first["suite"], first.get("seed"), *names]


def _fact(words: str, value: Any) -> str:
    if isinstance(value, int):
        return words.format(f"{value:,}")
    # Of a hash the first digits tell.
    return words.format("none" if value is None else str(value)[:12])


def _key(record: Record) -> str:
    parts = [record["suite"], record.get("seed")]
    parts += [dig(record, "data", key) for key in _DATA]
    parts += [dig(record, "model", key) for key in _MODEL]
    return json.dumps(parts)


def _places(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(family, variant) of each record: post-hoc steps of one method and parameters are one family."""
    families: dict[str, int] = {}
    variants: dict[tuple[int, str], int] = {}
    places = []
    for record in records:
        method = record["method"]
        name = json.dumps([method["name"], method.get("params")], sort_keys=True)
        family = families.setdefault(name, len(families))
        step = method.get("posthoc")
        own = [key for key in variants if key[0] == family]
        variant = variants.setdefault((family, str(step)), len(own) + 1) if step else 0
        places.append((family, variant))
    return places


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name.lower()) or "run"
