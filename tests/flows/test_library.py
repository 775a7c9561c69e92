"""The calls of a notebook: the same records and the same refusals as the command's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import calibench as cb
import scored_files
from calibench.cli import main
from calibench.store.records import Record, is_scored, load_records

PROBS, LABELS = scored_files.predictions()
SURE, _ = scored_files.predictions(scale=2.0)


def measured(records: Any) -> list[tuple[Any, ...]]:
    """What records say of predictions."""
    shared = ("metrics", "conformal", "cost_ratio", "groups")
    return [
        (r["method"]["name"], r["method"]["posthoc"], r["reference"], *(r[k] for k in shared))
        for r in records
    ]


def test_the_records_are_those_of_the_command(tmp_path: Path) -> None:
    """Every number of it: metrics, steps, sets, groups and prices."""
    groups = ["north", "south"] * 120
    for name, probs in (("A", PROBS), ("B", SURE)):
        columns = {"label": LABELS, "p": probs.tolist(), "region": groups}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    words = ["A.parquet", "B.parquet", "--label", "label", "--probs", "p", "--group", "region", "--seed", "3"]
    words += ["--posthoc", "temperature", "--conformal", "lac", "--prices", "A=0.5,B=1", "--reference", "B"]
    words = [str(tmp_path / word) if word.endswith(".parquet") else word for word in words]
    result = CliRunner().invoke(main, ["score", *words, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    called = cb.compare(
        {"A": PROBS, "B": SURE},
        LABELS,
        groups=groups,
        seed=3,
        posthoc="temperature",
        conformal="lac",
        prices={"A": 0.5, "B": 1.0},
        reference="B",
    )
    mine = measured(called.records)
    theirs = measured(load_records(tmp_path / "out"))
    for own, other in zip(mine, theirs, strict=True):
        own[-1]["column"] = other[-1]["column"]  # an array has no name
        for sets in (own[4][0], other[4][0]):
            assert sets.pop("fit_s") >= 0.0
            assert sets.pop("seconds_per_example") >= 0.0
    assert mine == theirs


#: What is wrong, as rows of p_0, p_1 and p_2 with a label, and the options of the call and of the command.
WRONG: list[tuple[list[list[float]], list[Any], dict[str, Any], list[str]]] = [
    ([[0.3, 0.3, 0.0]], [0], {}, []),
    ([[0.333, 0.333, 0.333]], [0], {}, []),
    ([[0.3, 0.3, 0.3]], [0], {"renormalise": True}, ["--renormalise"]),
    ([[2.5, -1.5, 0.0]], [0], {}, []),
    ([[0.9, 0.05, 0.05]], [0], {"logits": True}, ["--logits"]),
    ([[np.inf, 0.0, 0.0]], [0], {}, []),
    ([[0.9, 0.05, 0.05]], [3], {}, []),
    ([[0.9, 0.05, 0.05]], ["neg"], {}, []),
    ([[0.9, 0.05, 0.05]], [0], {"classes": ["a", "b"]}, ["--classes", "a,b"]),
    ([[0.9, 0.05, 0.05], [np.nan, 0.0, 0.0]], [0, 1], {}, []),
    ([[np.nan, 0.0, 0.0]], [0], {"skip_nulls": True}, ["--skip-nulls"]),
    ([[0.9, 0.05, 0.05]], [0], {"posthoc": "temprature"}, ["--posthoc", "temprature"]),
    ([[0.9, 0.05, 0.05]], [0], {"conformal": "lacs"}, ["--conformal", "lacs"]),
]
IN_PYTHON = {
    "--logits": "logits=True",
    "--renormalise": "renormalise=True",
    "--skip-nulls": "skip_nulls=True",
    "--classes": "classes",
    "--probs": "probs",
    "in the column 'label'": "in the column 'labels'",
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_input_is_refused_as_by_the_command(
    case: tuple[list[list[float]], list[Any], dict[str, Any], list[str]], tmp_path: Path
) -> None:
    """In the same sentence, with what to do in the words of a call."""
    probs, labels, given, options = case
    columns = {f"p_{i}": [row[i] for row in probs] for i in range(3)}
    pq.write_table(pa.table({"label": labels, **columns}), tmp_path / "scored.parquet")
    words = [str(tmp_path / "scored.parquet"), "--label", "label", "--probs", "p_*", *options]
    result = CliRunner().invoke(main, ["score", *words, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    said = result.output.removeprefix("Error: ").strip().replace("'scored.parquet'", "'scored'")
    for option, word in IN_PYTHON.items():
        said = said.replace(option, word)
    with pytest.raises(cb.UsageError) as raised:
        cb.score(probs, labels, output=tmp_path / "out", **given)
    assert str(raised.value) == said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cb.compare({"A": PROBS}, LABELS), "Expected two methods or more"),
        (lambda: cb.compare([PROBS, SURE], LABELS), "Expected two methods or more"),  # type: ignore[arg-type]
        (lambda: cb.compare({"A": PROBS, "B": SURE}, LABELS, reference="C"), "reference 'C' is no method"),
        (lambda: cb.compare({"A": PROBS, "B": SURE}, LABELS, prices={"A": 1.0}), "prices names A and the"),
        (lambda: cb.compare({"A": PROBS, "B": SURE}, LABELS, prices={"A": 1, "B": -1}), "price of 'B' is -1"),
        (lambda: cb.score(PROBS, LABELS, seed=-1), "The seed is -1"),
        (lambda: cb.score(PROBS, LABELS, groups=["a"] * 240), "No group of 'group'"),
        (lambda: cb.score(PROBS, LABELS, ids=["a"] * 240), "ids of 'scored' are not unique"),
        (lambda: cb.score(PROBS.max(axis=1), LABELS, confidence=True, logits=True), "beside confidence=True"),
        (lambda: cb.load("nowhere"), "There are no records at nowhere"),
        (lambda: cb.run("embeded"), "did you mean 'embedded'"),
        (lambda: cb.run("embedded", "no", lmit=3), "did you mean 'limit'"),
        (lambda: cb.run("embedded", "no", limit=0), "limit is 0"),
        (lambda: cb.run("embedded", "no", passes="ten"), "expected a whole number"),
        (lambda: cb.run("embedded", "no", methods="mc-dropot"), "did you mean 'mc-dropout'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    call: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cb.UsageError) as raised:
        call()
    assert words in str(raised.value)
    assert "--" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_goes_with_what_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where scoring fails; one that was named stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = cb.score(PROBS, LABELS)
    assert found.folder.parent == tmp_path
    assert found.verdicts().empty
    del found
    assert not list(tmp_path.iterdir())
    with pytest.raises(cb.UsageError):
        cb.compare({"A": PROBS, "B": SURE}, LABELS, reference="C")
    assert not list(tmp_path.iterdir())
    kept = cb.score(PROBS, LABELS, output=tmp_path / "kept").folder
    assert load_records(kept)


def test_scoring_imports_no_torch() -> None:
    """Nor transformers, nor the libraries of a run, up to the figure."""
    code = (
        "import sys, numpy as np, calibench as cb\n"
        "probs = np.random.default_rng(0).dirichlet([1, 1], 200)\n"
        "found = cb.compare({'a': probs, 'b': probs[:, ::-1]}, probs.argmax(axis=1))\n"
        "found.table(), found.verdicts(), found.recommendation, found.figure(), found._repr_html_()\n"
        "cb.assert_calibrated(probs, probs.argmax(axis=1), ece=0.9)\n"
        "print({'torch', 'transformers', 'datasets', 'baal'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_a_suite_runs_and_loads(tmp_path: Path) -> None:
    """The same cells as the command's, and nothing is measured twice."""
    given: dict[str, Any] = {"methods": "frequentist", "limit": 40, "effort": "fast"}
    first = cb.run("embedded", tmp_path, **given)
    again = cb.run("embedded", tmp_path, **given)
    loaded = cb.load(tmp_path / "records.jsonl")
    assert first.records == again.records == loaded.records
    (record,) = loaded.records
    assert record["timing"] is not None
    assert loaded.folder == tmp_path


def test_a_report_says_how_to_make_it_again(tmp_path: Path) -> None:
    """By the call, for what came in arrays."""
    from calibench.report import write_report

    given: dict[str, Any] = {"posthoc": "temperature", "conformal": "lac", "logits": True, "seed": 2}
    cb.compare(
        {"A": np.log(PROBS), "B": np.log(SURE)}, LABELS, prices={"A": 1, "B": 2}, output=tmp_path, **given
    )
    text = write_report(tmp_path).read_text()
    assert (
        "# in Python: calibench.compare({'A': ..., 'B': ...}, labels, logits=True, prices={'A': 1.0, 'B': "
        "2.0}, posthoc=['temperature'], conformal=['lac'], conformal_level=0.9, seed=2)"
    ) in text


def test_what_is_said_is_about_arrays_and_calls() -> None:
    """And not about files and options, which are for those who gave them."""
    found = cb.compare({"plain": PROBS, "sure": SURE}, LABELS)
    for record in found.records:
        assert record["scored"]["reason"] == record["memory"]["reason"] == "scored from arrays"
        assert is_scored(record)
    assert "(`prices=` says it)" in found.recommendation
    assert "--" not in found.recommendation


def test_a_step_that_fails_costs_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others stand, and the table says why it has no numbers."""

    def broken(*_: Any, **__: Any) -> Record:
        raise RuntimeError("it broke")

    monkeypatch.setattr("calibench.score.scored_fits.cross_fitted", broken)
    table = cb.score(PROBS, LABELS, posthoc="temperature").table()
    assert table["error"].isna().tolist() == [True, False]
    assert table["error"][1] == "it broke"
    assert table["nll"].notna().tolist() == [True, False]
