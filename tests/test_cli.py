"""The command line as a user meets it: one sentence per error, exit codes, variables, listings."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from calibench.cli import main
from calibench.data.embedded import checkpoint_folder
from calibench.measure import throughput
from calibench.report.terminal.progress import Display
from calibench.store.records import RECORDS, load_records
from stub_hub import StubHub

ROOT = Path(__file__).resolve().parents[1]

SMALL = ["-L", "24", "--passes", "2", "--fast", "--token-budget", "128"]


def calibench(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), env=env)


@pytest.fixture
def unmeasured(tmp_path: Path) -> str:
    """A file of the embedded suite without peak memory, for which a process of its own imports all anew."""
    text = resources.files("calibench").joinpath("suites", "embedded.toml").read_text(encoding="utf-8")
    file = tmp_path / "unmeasured.toml"
    file.write_text(text.replace("[timing]\n", "[timing]\nmemory = false\n"), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the command itself."""
    target = tmp_path_factory.mktemp("cli") / "run"
    result = calibench("run", *SMALL, "-m", "frequentist", "-m", "mc-dropout", "-o", str(target))
    assert result.exit_code == 0, result.output
    assert "mc-dropout" in result.output
    assert f"Report: {target / 'report.md'}" in result.output
    return target


def test_a_run_leaves_records_predictions_report_and_figures(folder: Path) -> None:
    """-o DIR holds everything the README promises."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {RECORDS, "report.md", "predictions", "figures"} <= names
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}


def test_show_and_report_read_the_folder(folder: Path) -> None:
    """`show` and `report` need no model and come to the same report."""
    before = (folder / "report.md").read_text()
    shown = calibench("show", str(folder))
    assert shown.exit_code == 0
    assert "frequentist" in shown.output
    assert calibench("report", str(folder / RECORDS)).exit_code == 0
    assert (folder / "report.md").read_text() == before


def test_env_prints_what_a_record_holds(folder: Path) -> None:
    """`env` names the same fields as the environment of a record."""
    printed = dict(line.split(": ", 1) for line in calibench("env").output.splitlines())
    assert printed.keys() == load_records(folder)[0]["environment"].keys()


@pytest.mark.parametrize("what", ["methods", "metrics", "datasets", "readers", "suites"])
def test_ls(what: str) -> None:
    """Every registry and the suites can be listed, each name with a description."""
    result = calibench("ls", what)
    assert result.exit_code == 0
    assert all(len(line.split(None, 1)) == 2 for line in result.output.splitlines())


def broken_data(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "data.csv"
    file.write_text("\n".join(("text,label", *lines)) + "\n")
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "embeded"], 2, "Unknown suite 'embeded'; did you mean 'embedded'?"),
        (["run", "none.toml"], 2, "Could not read the suite none.toml (No such file or directory)"),
        (["run", "-m", "frequentst"], 2, "Unknown method 'frequentst'; did you mean 'frequentist'?"),
        (["run", "-a", "passes=2"], 2, "names no method"),
        (["run", "-m", "mc-dropout", "-a", "pases=2"], 2, "has no parameter 'pases'"),
        (["run", "--dataset", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        (["run", "--model", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        (["run", "--device", "cuda:99"], 2, "cuda:99"),
        (["run", "--dtype", "float8"], 2, "float8"),
        (["run", "--split", "train"], 2, "test"),
        (["run", "--passes", "0"], 2, "passes"),
        (["run", "--model", "a", "--model", "b"], 2, "--model is given more than once; it takes one value."),
        (["run", "--seed=1", "-m", "frequentist", "--seed", "2"], 2, "--seed is given more than once"),
        (["show", "/nowhere"], 2, "There are no records at /nowhere"),
        (["report", "/nowhere"], 2, "There are no records at /nowhere"),
    ],
)
def test_usage_errors(arguments: list[str], code: int, message: str) -> None:
    """What cannot be done as asked is one sentence, exit code 2, and no traceback."""
    result = calibench(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["good,anger", "bad,joy"], "anger"),
        ([], "empty"),
        (["good,-1", "bad,-1"], "-1"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    """Labels the model does not output, no examples, and unlabelled rows are each refused in a sentence."""
    result = calibench("run", "--dataset", broken_data(tmp_path, *lines), "-o", str(tmp_path / "out"))
    assert result.exit_code in (1, 2), result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_unreachable_hub_is_one_sentence(tmp_path: Path) -> None:
    """With the hub away, the message says what to pass instead."""
    with StubHub(tmp_path / "home") as hub:
        gone = {**os.environ, **hub.env}
    command = [sys.executable, "-m", "calibench.cli", "run", "sst2", "-o", str(tmp_path / "out")]
    result = subprocess.run(command, env=gone, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "--dataset" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_sentence_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup, and a long sentence is one line for whoever searches a log."""
    sentence = 'It is not installed; run: pip install "calibench[peers]" ' + "and wait " * 20
    Display(quiet=False, verbose=False).say(sentence)
    assert capsys.readouterr().err == f"{sentence}\n"


def test_debug_shows_the_traceback() -> None:
    """--debug adds the traceback to the sentence."""
    result = calibench("run", "embeded", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert "Unknown suite" in result.output


def test_options_come_from_the_environment(tmp_path: Path, unmeasured: str) -> None:
    """CALIBENCH_LIMIT and the like stand in for options."""
    env = {"CALIBENCH_LIMIT": "16", "CALIBENCH_METHOD": "frequentist", "CALIBENCH_FAST": "fast"}
    result = calibench("run", unmeasured, "-o", str(tmp_path / "out"), "-q", env=env)
    assert result.exit_code == 0, result.output
    assert result.output == ""
    (record,) = load_records(tmp_path / "out")
    assert record["data"]["n"] == 16
    assert calibench("ls", "methods", env={"CALIBENCH_DEBUG": "1"}).exit_code == 0


def test_a_failed_cell_makes_the_command_fail(tmp_path: Path, unmeasured: str) -> None:
    """The table is printed, the failure named, and the exit code is 1."""
    arguments = ["-m", "frequentist", "-m", "mc-dropout-batch", "-a", "mc-dropout-batch.memory_budget_mb=-1"]
    result = calibench("run", unmeasured, *SMALL, *arguments, "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "1 of 2 cells failed (mc-dropout-batch)" in result.output
    assert [record["status"] for record in load_records(tmp_path / "out")] == ["ok", "error"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_keeps_what_was_measured(tmp_path: Path) -> None:
    """Ctrl-C in the middle exits 130 with the command to go on, and the journal holds the finished blocks."""
    command = [sys.executable, "-m", "calibench.cli", "run", "-m", "mc-dropout", "-v", "-o", str(tmp_path)]
    # Where tests run in the background of a shell, children are born deaf to SIGINT.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (journals := list(tmp_path.glob("journal/*.jsonl"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"run the same command with -o {tmp_path} to go on" in errors.replace("\n", " ")
    assert "Traceback" not in errors
    assert json.loads(journals[0].read_text().splitlines()[0])["kind"] == "block"


def test_names_with_line_separators_go_through_a_run_a_resumption_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unmeasured: str
) -> None:
    """U+2028, U+0085 and U+001C end no line of the data, the journal or the records."""
    names = ["gri\u2028m\x1c", "che\x85erful"]
    model = shutil.copytree(checkpoint_folder(), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (model / "config.json").write_text(json.dumps(config))
    texts = ["rain\u2028again", "the sun is out", "no bread left", "fresh\x85bread"]
    rows = [{"text": f"{texts[i % 4]} {i}", "label": names[i % 2]} for i in range(24)]
    for escaped in (True, False):
        data = tmp_path / f"{escaped}.jsonl"
        lines = [json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows]
        data.write_text("".join(lines), encoding="utf-8", newline="")
        command = ["run", unmeasured, *SMALL, "-m", "frequentist", "-m", "mc-dropout"]
        command += ["--posthoc", "temperature"]
        target = tmp_path / f"run-{escaped}"
        command += ["--dataset", str(data), "--model", str(model), "-o", str(target)]
        if not escaped:
            with monkeypatch.context() as patch:
                patch.setattr(throughput, "_one_block", interrupted_at(1))
                assert calibench(*command).exit_code == 130
            assert list((target / "journal").glob("*.jsonl"))
        result = calibench(*command)
        assert result.exit_code == 0, result.output
        records = load_records(target)
        assert [record["data"]["n"] for record in records] == [24] * 4
        assert all(record["data"]["labels"] == record["model"]["labels"] == names for record in records)
    before = (target / RECORDS).read_bytes()
    assert calibench(*command).exit_code == 0
    assert (target / RECORDS).read_bytes() == before
    for kind in ("markdown", "html", "model-card", "csv", "json"):
        assert calibench("report", str(target), "--format", kind).exit_code == 0
    with (target / "report.csv").open(encoding="utf-8", newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1
    json.loads((target / "report.json").read_text(encoding="utf-8"))
    assert (
        calibench("check", str(target), "--against", str(target), "--max-regression", "nll=0").exit_code == 0
    )
    one, other = (
        [record["predictions_sha256"] for record in load_records(tmp_path / f"run-{escaped}")]
        for escaped in (True, False)
    )
    assert one == other


def interrupted_at(number: int) -> Callable[..., None]:
    """A block of a run, in the place of which Ctrl-C is pressed at that number."""
    real, count = throughput._one_block, iter(range(number))

    def block(*arguments: Any) -> None:
        if next(count, None) is None:
            raise KeyboardInterrupt
        real(*arguments)

    return block


@pytest.mark.parametrize("command", ["ls methods", "env", "show {results}", "compare {results} {results}"])
def test_a_closed_pipe_ends_a_command_quietly(command: str) -> None:
    """Whoever reads one line, as `head -1` does, is told of no defect."""
    arguments = shlex.split(command.format(results=ROOT / "results" / "embedded"))
    process = subprocess.Popen(
        [sys.executable, "-m", "calibench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=120)
    assert b"defect" not in said
    assert b"Traceback" not in said


def test_ctrl_c_is_said_by_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """130, as of whatever a SIGINT ends, with a sentence on how to go on."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calibench.run.run", stop)
    result = CliRunner().invoke(main, ["run", "-o", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert "Interrupted; finished blocks are kept: run the same command with -o" in result.output
