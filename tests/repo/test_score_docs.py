"""docs/score.md: its commands run, and each bad input of its table is refused in the sentence it says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import scored_files
from calibench.cli import main

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "score.md").read_text(encoding="utf-8")
TABLE = "--label label --probs 'p_*'"


def csv(name: str, text: str) -> Callable[[], None]:
    return lambda: Path(name).write_text(text)


def parquet(name: str, **columns: Any) -> Callable[[], None]:
    return lambda: pq.write_table(pa.table(columns), name)


def npz(name: str, **arrays: Any) -> Callable[[], None]:
    return lambda: np.savez(name, **arrays)


def lines(name: str, *objects: Any) -> Callable[[], None]:
    return csv(name, "".join(json.dumps(item) + "\n" for item in objects))


def nothing() -> None:
    """No file is needed."""


THREE = [0.2, 0.3, 0.5]
GENERATED = {"doc_id": 0, "target": "4", "filtered_resps": ["four"], "arguments": [["2 + 2 =", {}]]}
LOG = {
    "eval": {},
    "status": "success",
    "samples": [{"id": 1, "epoch": 1, "scores": {"match": {"value": "C"}}}],
}
#: What is wrong, what makes the file, and the command that is refused.
CASES: list[tuple[str, Callable[[], None], str]] = [
    ("a file that is not there", nothing, f"gone.csv {TABLE}"),
    ("a suffix that says nothing", csv("preds.txt", "label,p_0,p_1\n0,1,0\n"), f"preds.txt {TABLE}"),
    ("standard input without a format", nothing, f"- {TABLE}"),
    ("an empty file", csv("a.csv", ""), f"a.csv {TABLE}"),
    ("no rows", csv("a.csv", "label,p_0,p_1\n"), f"a.csv {TABLE}"),
    ("a file that is not what its suffix says", csv("a.parquet", "label,p_0,p_1\n"), f"a.parquet {TABLE}"),
    ("another delimiter", csv("a.csv", "label;p_0;p_1\n0;1;0\n"), f"a.csv {TABLE}"),
    ("two columns of one name", csv("a.csv", "label,p_0,p_0\n0,1,0\n"), f"a.csv {TABLE}"),
    ("words where numbers are expected", csv("a.csv", "label,p_0,p_1\n0,high,low\n"), f"a.csv {TABLE}"),
    (
        "a line that is no JSON object",
        csv("a.jsonl", '{"label": 0, "p": [1, 0]}\n{"label"\n'),
        "a.jsonl --label label --probs p",
    ),
    ("no columns of probabilities", csv("a.csv", "label,p_0,p_1\n0,1,0\n"), "a.csv --label label"),
    ("no column of labels", csv("a.csv", "label,p_0,p_1\n0,1,0\n"), "a.csv --probs 'p_*'"),
    ("a column that is not there", csv("a.csv", "y,p_0,p_1\n0,1,0\n"), f"a.csv {TABLE}"),
    ("a pattern that no column fits", csv("a.csv", "label,q_0,q_1\n0,1,0\n"), f"a.csv {TABLE}"),
    (
        "probabilities that do not sum to 1, for lack of a class",
        csv("a.csv", "label,p_0,p_1,other\n0,.3,.3,.4\n"),
        f"a.csv {TABLE}",
    ),
    (
        "probabilities that were rounded",
        csv("a.csv", "label,p_0,p_1,p_2\n0,.333,.333,.333\n"),
        f"a.csv {TABLE}",
    ),
    (
        "sums too far from 1 for that",
        csv("a.csv", "label,p_0,p_1\n0,.3,.6\n"),
        f"a.csv {TABLE} --renormalise",
    ),
    (
        "logits, or log-probabilities, taken for probabilities",
        csv("a.csv", "label,p_0,p_1\n0,2.5,-1.5\n"),
        f"a.csv {TABLE}",
    ),
    ("probabilities taken for logits", csv("a.csv", "label,p_0,p_1\n0,.9,.1\n"), f"a.csv {TABLE} --logits"),
    (
        "the same of one column",
        csv("a.csv", "label,p\n0,.9\n1,.2\n"),
        "a.csv --label label --prob p --logits",
    ),
    ("an infinite number", csv("a.csv", "label,p_0,p_1\n0,inf,0\n"), f"a.csv {TABLE}"),
    ("one column for two classes", csv("a.csv", "label,p_pos\n0,.9\n"), f"a.csv {TABLE}"),
    (
        "one column for two classes that holds lists",
        parquet("a.parquet", label=[0, 1], p=[[0.9, 0.1]] * 2),
        "a.parquet --label label --prob p",
    ),
    (
        "lists of unlike lengths",
        parquet("a.parquet", label=[0, 1], p=[THREE, [0.5, 0.5]]),
        "a.parquet --label label --probs p",
    ),
    (
        "float16",
        parquet("a.parquet", label=[0, 1], p_0=np.array([0.9, 0.2], "f2"), p_1=np.array([0.1, 0.8], "f2")),
        f"a.parquet {TABLE}",
    ),
    ("null rows: a label", csv("a.csv", "label,p_0,p_1\n0,.9,.1\n,.9,.1\n1,.3,.7\n"), f"a.csv {TABLE}"),
    ("null rows: a probability", csv("a.csv", "label,p_0,p_1\n0,.9,.1\n1,.9,\n"), f"a.csv {TABLE}"),
    ("nothing but null rows", csv("a.csv", "label,p_0,p_1\n,.9,.1\n"), f"a.csv {TABLE} --skip-nulls"),
    (
        "words for labels, and classes without names",
        parquet("a.parquet", label=["neg"], p=[[0.9, 0.1]]),
        "a.parquet --label label --probs p",
    ),
    (
        "numbers for labels, and classes with names: by name or by position?",
        csv("a.csv", "label,p_neg,p_pos\n0,.9,.1\n1,.4,.6\n"),
        f"a.csv {TABLE}",
    ),
    ("a label that is no class", csv("a.csv", "label,p_neg,p_pos\nneutral,.9,.1\n"), f"a.csv {TABLE}"),
    ("labels that count from 1", csv("a.csv", "label,p_0,p_1\n1,.9,.1\n2,.4,.6\n"), f"a.csv {TABLE}"),
    (
        "labels that may be names or positions",
        csv("a.csv", "label,p_a,p_b\n1,.9,.1\n"),
        f"a.csv {TABLE} --classes '1 star,2 stars'",
    ),
    (
        "names for another number of classes",
        csv("a.csv", "label,p_a,p_b\n1,.9,.1\n"),
        f"a.csv {TABLE} --classes neg,neu,pos",
    ),
    (
        "lists of labels",
        parquet("a.parquet", label=[[0], [1]], p_0=[1.0, 0.0], p_1=[0.0, 1.0]),
        f"a.parquet {TABLE}",
    ),
    ("two files of unlike lengths", nothing, f"A=good.csv B=short.csv {TABLE}"),
    ("two files with other labels", nothing, f"A=good.csv B=other.csv {TABLE}"),
    ("two files with other ids", nothing, f"A=good.csv B=short.csv {TABLE} --id id"),
    ("files of two tasks or data sets", nothing, f"A=good.csv B=strange.csv {TABLE} --id id"),
    (
        "ids that are there twice",
        csv("a.csv", "id,label,p_0,p_1\nx,0,.9,.1\nx,0,.9,.1\n"),
        f"a.csv {TABLE} --id id",
    ),
    (
        "two files with other classes",
        csv("a.csv", "id,label,p_x,p_y\n1,x,.9,.1\n"),
        f"A=named.csv B=a.csv {TABLE}",
    ),
    ("two files of one name", nothing, f"good.csv ./good.csv {TABLE}"),
    ("a reference that is not there", nothing, f"A=good.csv {TABLE} --reference B"),
    ("confidence without correctness", nothing, "judge.csv --confidence confidence"),
    (
        "what needs classes, without classes",
        nothing,
        "judge.csv --confidence confidence --correct correct --posthoc temperature",
    ),
    (
        "confidences in percent",
        csv("a.csv", "confidence,correct\n85,1\n"),
        "a.csv --confidence confidence --correct correct",
    ),
    (
        "correctness in words",
        csv("a.csv", "confidence,correct\n.85,yes\n"),
        "a.csv --confidence confidence --correct correct",
    ),
    ("a metric that there is not", nothing, f"good.csv {TABLE} --metric nil"),
    (
        "a metric that needs classes, without classes",
        nothing,
        "judge.csv --confidence confidence --correct correct --metric nll",
    ),
    ("rows to fit on, without a value", nothing, f"good.csv {TABLE} --calibration-split region"),
    ("no rows to fit on", nothing, f"good.csv {TABLE} --calibration-split region=east"),
    (
        "rows to fit on that differ by file",
        nothing,
        f"A=good.csv B=moved.csv {TABLE} --calibration-split region=north",
    ),
    (
        "rows of no part",
        csv("a.csv", "label,p_0,p_1,part\n0,1,0,dev\n1,0,1,\n"),
        f"a.csv {TABLE} --calibration-split part=dev",
    ),
    ("groups that are too small", nothing, f"good.csv {TABLE} --group region"),
    ("prices for some of the methods", nothing, f"A=good.csv B=good.csv {TABLE} --prices A=0.03"),
    ("a price below nothing", csv("a.csv", "label,p_0,p_1,usd\n0,.9,.1,-1\n"), f"a.csv {TABLE} --prices usd"),
    (
        "an npz file with Python objects",
        npz("a.npz", label=np.array(["x"], object), p=np.ones((1, 2))),
        "a.npz --label label --probs p",
    ),
    (
        "arrays of unlike lengths",
        npz("a.npz", label=np.zeros(3, int), p=np.full((2, 2), 0.5)),
        "a.npz --label label --probs p",
    ),
    ("a reader that there is not", nothing, f"good.csv {TABLE} --from sklern"),
    ("an option of another reader", nothing, f"good.csv {TABLE} --normalise bytes"),
    ("a log of generated text", lines("samples.jsonl", GENERATED), "samples.jsonl --from lm-eval"),
    (
        "a column for a reader that knows its own",
        lines("samples.jsonl", GENERATED),
        "samples.jsonl --from lm-eval --label target",
    ),
    ("a log without confidences", lines("log.json", LOG), "log.json --from inspect"),
    (
        "a field that is in no sample",
        lines("log.json", LOG),
        "log.json --from inspect --confidence metadata.confidence",
    ),
    (
        "a log that did not finish",
        lines("log.json", LOG | {"status": "error"}),
        "log.json --from inspect --confidence metadata.p",
    ),
    (
        "a model with several outputs",
        npz("out.npz", predictions=np.zeros((4, 7, 3)), label_ids=np.zeros((4, 7), int)),
        "out.npz --from hf-trainer",
    ),
    (
        "classes of dtype object",
        npz(
            "m.npz", proba=np.full((1, 2), 0.5), classes=np.array(["n", "p"], object), labels=np.array(["n"])
        ),
        "m.npz --from sklearn",
    ),
]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that docs/score.md speaks of."""
    monkeypatch.chdir(tmp_path)
    scored_files.write(tmp_path)


def refused(make: Callable[[], None], command: str) -> str:
    """The sentence that a command is refused with."""
    make()
    result = CliRunner().invoke(main, ["score", *shlex.split(command), "-o", "out"])
    assert result.exit_code == 2, result.output
    assert not Path("out").exists()
    sentence, end = result.output.removeprefix("Error: ").rstrip("\n"), result.output[-2:]
    assert end == ".\n"
    assert "\n" not in sentence
    return sentence


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("case", CASES, ids=[words for words, *_ in CASES])
def test_a_bad_input_is_refused_in_the_sentence_of_the_table(
    case: tuple[str, Callable[[], None], str],
) -> None:
    """Exit code 2, nothing written, and one sentence, which the document has beside the command."""
    words, make, command = case
    assert f"| {words} | `{command}` | {refused(make, command)} |" in DOCUMENT.splitlines()


def test_the_table_has_no_other_rows() -> None:
    """Each row of the table is a case of the test above."""
    rows = re.findall(r"^\| .+ \| `.+` \| .+ \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == len(set(rows)) == len(CASES)


def commands() -> list[str]:
    """The lines of the document's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("calibench ")]


@pytest.mark.usefixtures("workplace")
@pytest.mark.slow
def test_the_commands_of_the_document_run() -> None:
    """One after the other, as they are written, on files like those that they are about."""
    for command in commands():
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)
        assert result.output.strip()


def test_there_are_enough_commands() -> None:
    """The document shows how, and not only what is refused."""
    assert len(commands()) >= 8
