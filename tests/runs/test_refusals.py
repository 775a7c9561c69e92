"""What a slip of the hand or a damaged file gets, by the command: one sentence and no run folder."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from calibench.cli import main
from calibench.data.embedded import checkpoint_folder
from calibench.measure.measured import Measured
from calibench.measure.phases import measure
from calibench.measure.session import Session
from calibench.store.records import load_records

SUITE = """
{top}
[data]
loader = "embedded"
split = "test"
limit = 8
[model]
name = "embedded"
[[method]]
name = "frequentist"
[timing]
memory = false
{timing}
"""


def calibench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(result: Result, says: str, *, exit_code: int = 2) -> None:
    """One sentence on one line, which says this."""
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == exit_code
    assert "Traceback" not in result.output
    (sentence,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.output.rstrip().endswith(sentence)
    assert sentence.endswith(".")
    assert re.search(says, sentence), sentence


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def from_one(folder: Path) -> None:
    """Outputs numbered from 1, as by hand."""
    labels = {"1": "NEGATIVE", "2": "POSITIVE"}
    back = {name: int(number) for number, name in labels.items()}
    edit(folder / "config.json", lambda config: config | {"id2label": labels, "label2id": back})


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def strange_tokens(folder: Path) -> None:
    """A tokenizer of another model, with more tokens."""

    def moved(content: Any) -> Any:
        words = content["model"]["vocab"]
        for word in sorted(words, key=words.get)[-200:]:
            words[word] += 5000
        return content

    edit(folder / "tokenizer.json", moved)


def no_weight_map(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def pickled_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": print}))


def pickled_others(folder: Path) -> None:
    """Weights, though not this model's."""
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "exit_code", "says"),
    [
        (from_one, 2, "names the outputs 1, 2; expected 0 to 1: mend its config.json"),
        (no_tokenizer, 2, "The tokenizer of .* cannot be loaded: save a fast tokenizer"),
        (strange_tokens, 2, "makes the token id 6067 and the model knows 1068 tokens, from 0"),
        (no_weight_map, 1, "has no readable weight_map: copy the checkpoint again"),
        (
            pickled_code,
            1,
            "is a pickle of more than weights, which could run any code: save the checkpoint as",
        ),
        (pickled_others, 2, "has no trained weights for classifier.bias"),
    ],
)
def test_a_damaged_checkpoint(
    tmp_path: Path, damage: Callable[[Path], None], exit_code: int, says: str
) -> None:
    """The file is named, and what to do about it."""
    model = Path(shutil.copytree(checkpoint_folder(), tmp_path / "model"))
    damage(model)
    result = calibench("run", "-m", "frequentist", "-L", "8", "--model", model, "-o", tmp_path / "run")
    assert_refused(result, says, exit_code=exit_code)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "\n\n"], ids=["nothing", "blank lines"])
def test_an_empty_file_of_texts(tmp_path: Path, content: str) -> None:
    """It has no rows."""
    data = tmp_path / "texts.jsonl"
    data.write_text(content)
    result = calibench("run", "-m", "frequentist", "--dataset", data, "-o", tmp_path / "run")
    assert_refused(result, "The split 'train' of 'texts.jsonl' is empty: put rows into it")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("top", "timing", "says"),
    [
        ("", "blocks = 0", "timing.blocks is 0 in the suite 'mine'; expected 1 or more"),
        ("", "min_time = inf", "timing.min_time is inf .* expected 0 or more"),
        ("", "min_time = nan", "timing.min_time is nan .* expected 0 or more"),
        ("", "min_time = -1.0", "timing.min_time is -1.0 .* expected 0 or more"),
        ("", "token_budget = 0", "timing.token_budget is 0 .* expected 1 or more"),
        ("", "batch_size = 0", "timing.batch_size is 0 .* expected 1 or more"),
        ("", "warmup = -1", "timing.warmup is -1 .* expected 0 or more"),
        ("", "latency = -1", "timing.latency is -1 .* expected 0 or more"),
        ("", "runs = 0", "timing.runs is 0 .* expected 1 or more"),
        ("", "timeout_per_block = nan", "timing.timeout_per_block is nan .* above 0 and up to a year"),
        ("", "timeout_per_block = inf", "timing.timeout_per_block is inf .* above 0 and up to a year"),
        ("seeds = [-1]", "", "One of seeds is -1 .* expected 0 or more"),
        ("seeds = []", "", "seeds is empty .* expected at least one integer"),
        ("passes = 0", "", "passes is 0 .* expected 1 or more"),
        ("curve = [0]", "", "One of curve is 0 .* expected 1 or more"),
    ],
)
def test_a_number_that_cannot_be(tmp_path: Path, top: str, timing: str, says: str) -> None:
    """In a suite file."""
    file = tmp_path / "mine.toml"
    file.write_text(SUITE.format(top=top, timing=timing))
    assert_refused(calibench("run", file, "-o", tmp_path / "run"), says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--min-time", "inf", "--min-time is inf; expected a number of seconds"),
        ("--min-time", "nan", "--min-time is nan; expected a number of seconds"),
        (
            "--timeout-per-block",
            "nan",
            "--timeout-per-block is nan; expected seconds above 0 and up to a year",
        ),
        ("--timeout-per-block", "inf", "--timeout-per-block is inf; expected seconds above 0"),
        ("--token-budget", "0", "'--token-budget': 0 is not in the range x>=1"),
        ("--warmup", "-1", "'--warmup': -1 is not in the range x>=0"),
        ("--seed", "-1", "'--seed': -1 is not in the range x>=0"),
        ("--limit", "0", "0 is not in the range x>=1"),
    ],
)
def test_an_option_that_cannot_be(tmp_path: Path, option: str, value: str, says: str) -> None:
    """On the command line."""
    assert_refused(calibench("run", option, value, "-o", tmp_path / "run"), says)
    assert not (tmp_path / "run").exists()


def test_one_example_is_enough(tmp_path: Path) -> None:
    """Warnings are errors here, NumPy's of empty means among them; what cannot be had has a reason."""
    command = ["run", "-m", "frequentist", "-m", "mc-dropout", "--passes", "2", "-L", "1", "--fast"]
    result = calibench(*command, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for record in load_records(tmp_path / "run"):
        assert record["status"] == "ok"
        for found in record["metrics"].values():
            assert found["low"] is not None or found["reason"]


def test_the_environment_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are those that methods were given, whatever became of them meanwhile."""
    threads = torch.get_num_threads()

    def measured(session: Session) -> Measured:
        found = measure(session)
        torch.set_num_threads(threads + 1)
        return found

    monkeypatch.setattr("calibench.run.measure", measured)
    try:
        result = calibench("run", "-m", "frequentist", "-L", "8", "--fast", "-o", tmp_path / "run")
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    (record,) = load_records(tmp_path / "run")
    assert record["environment"]["threads"] == threads
