"""docs/record.md names the fields of a record: each once, all of them, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import oos_data
import scored_files
from calibench.data.embedded import load
from calibench.flows.scoring import score
from calibench.models.loading import load_checkpoint
from calibench.posthoc.conformal import recipes
from calibench.readers.asked import Asked
from calibench.readers.methods import read_methods
from calibench.run import run
from calibench.score.scored import Wanted
from calibench.store.records import Record
from calibench.suites.spec import ConformalSpec, MethodSpec, ShiftSpec, YardstickSpec
from scenarios import trajectory

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "record.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A run of everything that a record may hold, in small."""
    folder = tmp_path_factory.mktemp("run")
    data = oos_data.write(folder / "data", inside=40, beyond=12)
    corpus = load(None, split="validation")
    rows = list(zip(corpus.texts[-60:], corpus.labels[-60:], strict=True))
    lines = [json.dumps({"text": text, "label": corpus.label_names[label]}) + "\n" for text, label in rows]
    (data / "train.jsonl").write_text("".join(lines))
    members = str(trajectory(load_checkpoint("embedded", device="cpu")))
    suite = replace(
        oos_data.suite(data, "frequentist", "mc-dropout", "laplace-last", "energy"),
        posthoc=("temperature",),
        conformal=ConformalSpec(("raps",)),
        shift=ShiftSpec(("typos",), (0.5,)),
        curve=(1, 2),
        yardstick=YardstickSpec("mc-dropout", 2, "mc-dropout-batch", 4, 2),
    )
    others = (
        MethodSpec("frequentist @ bfloat16"),
        MethodSpec("snapshot", {"folder": members}),
        MethodSpec("mc-dropout-adaptive", {"tolerance": 0.05, "max_passes": 40}),
    )
    found = run(replace(suite, method=(*suite.method, *others)), folder / "out", self_check=True)
    scored_files.write(folder)
    asked = Asked(label="label", probs="p_*", id="id", group="region", price="usd")
    tables = read_methods([str(folder / f"{name}.parquet") for name in "ab"], asked)
    wanted = Wanted(posthoc=("temperature",), recipes=recipes(["raps"]))
    found += score(tables, folder / "scored", wanted)
    assert {record["status"] for record in found} == {"ok"}
    return found


def rows_of(document: str) -> list[tuple[list[str], str]]:
    """Each row of the table: the fields that it is about, in full, and what is said of them."""
    found = []
    for first, said in re.findall(r"^\| (`.+?) \| (.+) \|$", document, re.MULTILINE):
        names = re.findall(r"`([^`]+)`", first)
        above = names[0].rpartition(".")[0]
        found.append(([above + name if name.startswith(".") else name for name in names], said))
    return found


def values_at(value: Any, path: list[str]) -> Iterator[Any]:
    """What is at a path; `NAME` stands for any key, and of a list it is each item."""
    if isinstance(value, list):
        for item in value:
            yield from values_at(item, path)
    elif not path or path == ["*"]:
        yield value
    elif isinstance(value, dict):
        keys = list(value) if path[0] == "NAME" else [key for key in path[:1] if key in value]
        for key in keys:
            yield from values_at(value[key], path[1:])


def keys_of(value: Any) -> set[str]:
    """Every key in a value, however deep."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    own = set(value) if isinstance(value, dict) else set()
    return own.union(*map(keys_of, items))


def faults(document: str, records: list[Record]) -> list[str]:
    """What a document has wrong about the fields of these records, a sentence each.

    A row that names fields within its own names all of them, one level deep; what it names in addition must
    be a key further below, or a field that another row is about.
    """
    rows = rows_of(document)
    named = [name for names, _ in rows for name in names]
    found = [f"{name} is listed twice" for name in sorted({n for n in named if named.count(n) > 1})]
    for above in ("", "method.", "timing."):
        listed = {n.removeprefix(above).partition(".")[0] for n in named if n.startswith(above)}
        there = {key for r in records for v in values_at(r, above.split(".")[:-1]) for key in v or ()}
        found += [f"{above}{name} is in no record" for name in sorted(listed - there)]
        found += [f"{above}{name} is not listed" for name in sorted(there - listed)]
    known = {part for name in named for part in name.split(".")}
    for names, said in rows:
        words = re.findall(r"`([a-z][a-z_0-9]*(?:\.\w+)*)`", said)
        parts = {part for word in words for part in word.split(".")}
        values = [v for r in records for name in names for v in values_at(r, name.split("."))]
        below = keys_of([r.get(name.partition(".")[0]) for r in records for name in names])
        fields = {key for value in values if isinstance(value, dict) for key in value}
        if parts & fields:
            found += [f"{name} of {names[0]} is not named" for name in sorted(fields - parts)]
        strange = {part for word in words if word not in below for part in word.split(".")} - below - known
        found += [f"{names[0]} has no {part}" for part in sorted(strange) if part.islower()]
    return found


@pytest.mark.slow
def test_the_documented_fields_are_those_of_a_record(records: list[Record]) -> None:
    """Top level, `method` and `timing` exactly; below, whatever a row begins to name."""
    assert faults(DOCUMENT, records) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| `predictions` |", "| `self_check` | null |\n| `predictions` |", "self_check is listed twice"),
        ("| `seed` |", "| `sead` |", "sead is in no record"),
        ("| `seed` |", "| `sead` |", "seed is not listed"),
        ("| `timing.setup_s`, ", "| `timing.setup_s`, `.teardown_s`, ", "timing.teardown_s is in no record"),
        ("| `method.folders` |", "| `method.params` |", "method.folders is not listed"),
        ("`fit_bytes`", "the peak", "fit_bytes of memory is not named"),
        ("`fit_bytes`", "`fit_bytes`, `swap_bytes`", "memory has no swap_bytes"),
        ("`tokens`, and the seconds `end_to_end_s`", "and", "tokens of timing.blocks is not named"),
        ("signed `bias`", "signed `slant`", "yardstick has no slant"),
    ],
)
def test_a_fault_of_the_document_is_seen(old: str, new: str, fault: str, records: list[Record]) -> None:
    """A doubled field, a missing one and one that is not there, also below the top."""
    assert DOCUMENT.count(old) == 1
    assert fault in faults(DOCUMENT.replace(old, new), records)
