"""The base once more beside the run: what is raced, what it is taken from, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from calibench.cli import main
from calibench.compare.runs import load_run
from calibench.data.embedded import checkpoint_folder
from calibench.errors import UsageError
from calibench.flows.rerun import asked_section, checked_out, filled_in, raced_suite, root_of
from calibench.suites.loader import load_suite
from run_pairs import METHOD, REFERENCE, put, run

SUITE = """
[data]
loader = "embedded"
split = "test"
limit = 24

[model]
name = "embedded"

[[method]]
name = "frequentist"
{method}
[timing]
blocks = {blocks}
token_budget = 128
latency = 3
memory = false
"""
#: A method that prints, and takes as long as its revision says.
METHOD_OF = '''"""The softmax, after a pause."""

import os
import time

import numpy as np
import torch

from calibench import Method, Predictive
from calibench.models import map_batches

PAUSE = {pause}


class Pausing(Method):
    def __init__(self, checkpoint):
        super().__init__(checkpoint)
        self.module = checkpoint.module

    def predict(self, plan, *, seed):
        def softmax(batch):
            with torch.inference_mode():
                return self.module(**batch.inputs).logits.double().softmax(-1)

        print("{{}}")
        os.write(1, b"[]")
        time.sleep(PAUSE)
        return Predictive(probs=map_batches(plan, softmax), passes=np.ones(len(plan), dtype=np.int64))
'''


def calibench(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a folder, with the packages that lie in it."""
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "calibench.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


def inside(*arguments: str) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(main, list(arguments))


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git checkout of a plugin whose second revision takes four times as long, and a run of that."""
    folder = tmp_path_factory.mktemp("checkout")
    about = folder / "pausing-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pausing\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[calibench.methods]\npausing = pausing:Pausing\n")
    (folder / ".gitignore").write_text("run\n*.toml\n__pycache__\n")
    git(folder, "init", "-q")
    for pause, tag in ((0.02, "fast"), (0.08, "slow")):
        (folder / "pausing.py").write_text(METHOD_OF.format(pause=pause))
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", tag)
        git(folder, "tag", tag)
    (folder / "tiny.toml").write_text(SUITE.format(blocks=3, method='[[method]]\nname = "pausing"\n'))
    made = calibench(folder, "run", "tiny.toml", "-q", "-o", "run", "--device", "cpu")
    assert made.returncode == 0, made.stderr
    return folder


def check(folder: Path, base: str, limit: str, *others: object) -> subprocess.CompletedProcess[str]:
    asked = ["check", "run", "--against", "run", "--rerun-base", base, "--max-regression", limit]
    return calibench(folder, *asked, "--suite", "tiny.toml", *others)


def said(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


@pytest.mark.slow
def test_a_revision_is_raced_with_what_is_there_now(checkout: Path) -> None:
    """Exit code 1 for four times the time, though both records are one; what it prints is no answer."""
    found = check(checkout, "fast", "throughput=50%,latency=50%")
    assert found.returncode == 1, said(found)
    rows = [line for line in found.stdout.splitlines() if line.startswith("pausing")]
    assert ["raced" in row and row.rstrip().endswith("regression") for row in rows] == [True, True]


@pytest.mark.slow
def test_a_race_within_the_limit_passes(checkout: Path) -> None:
    """Exit code 0, for a revision and for the folder of a checkout."""
    assert check(checkout, "slow", "throughput=95%").returncode == 0
    assert check(checkout, str(checkout), "throughput=95%").returncode == 0


@pytest.mark.slow
def test_a_base_that_cannot_be_raced_is_refused(checkout: Path, tmp_path: Path) -> None:
    """Exit code 2 and a sentence: no such revision, a folder of something else, no suite, no speed."""
    assert "'slower' is neither a folder nor a revision" in said(check(checkout, "slower", "throughput=5%"))
    refused = check(checkout, str(tmp_path), "throughput=5%")
    assert refused.returncode == 2
    assert "holds neither a checkpoint (config.json) nor the source of calibench" in said(refused)
    asked = ["check", "run", "--against", "run", "--rerun-base", "fast"]
    assert "add --suite" in said(calibench(checkout, *asked, "--max-regression", "throughput=5%"))
    assert "add one, such as throughput=5%" in said(calibench(checkout, *asked, "--max-regression", "ece=1"))


@pytest.mark.slow
def test_the_base_s_checkpoint_is_raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by its folder; another one than the base's is refused, and so is a run's that is not named."""
    (tmp_path / "tiny.toml").write_text(SUITE.format(blocks=2, method=""))
    for name in ("before", "after"):
        shutil.copytree(checkpoint_folder(), tmp_path / name)
    weights = load_file(tmp_path / "after" / "model.safetensors")
    save_file(
        {name: 1.01 * tensor for name, tensor in weights.items()},
        tmp_path / "after" / "model.safetensors",
        {"format": "pt"},
    )
    monkeypatch.chdir(tmp_path)
    for name in ("before", "after"):
        made = inside("run", "tiny.toml", "-q", "--model", name, "-o", f"run-{name}", "--device", "cpu")
        assert made.exit_code == 0, made.output
    asked = ["check", "run-after", "--against", "run-before", "--max-regression", "throughput=95%"]
    asked += ["--suite", "tiny.toml", "--rerun-base"]
    found = inside(*asked, "before", "--model", "after")
    assert found.exit_code == 0, found.output
    assert "raced" in found.stdout
    for others, sentence in {
        ("after", "--model", "after"): "after is not the checkpoint of run-before",
        ("before",): "names its model 'after' and not where it lies; add --model",
        ("before", "--model", "before"): "is not what would be measured here now",
    }.items():
        refused = inside(*asked, *others)
        assert refused.exit_code == 2
        assert sentence in " ".join(refused.output.split())


def test_the_command_s_gaps_are_filled_with_what_was_given(tmp_path: Path) -> None:
    """A suite, a model or a data set that lies somewhere; what the command knows stays."""
    made = load_run(run(tmp_path / "a"))
    words = ["PATH/TO/mine.toml", "--model", "PATH/TO/m", "--dataset", "org/data", "--split", "PATH/TO/x"]
    filled = filled_in(words, made, suite="s.toml", model="there/m", dataset=None)
    assert filled == ["s.toml", "--model", "there/m", "--dataset", "org/data", "--split", "PATH/TO/x"]
    with pytest.raises(UsageError, match="names its model 'm' and not where it lies; add --model"):
        filled_in(words, made, suite="s.toml", model=None, dataset=None)
    with pytest.raises(UsageError, match="is of no folder that --model could name"):
        filled_in(["embedded"], made, suite=None, model="there/m", dataset=None)


def test_what_is_raced_is_what_the_run_holds(tmp_path: Path) -> None:
    """Methods with their parameters and seeds, and nothing that no clock sees; folders are refused."""
    made = load_run(run(tmp_path / "a", REFERENCE, METHOD, seeds=(0, 3)))
    suite = raced_suite(made.records, made, load_suite("embedded"))
    assert [spec.name for spec in suite.method] == ["frequentist", "mc-dropout"]
    assert suite.method[1].params == made.records[1]["method"]["params"]
    assert suite.seeds == (0, 3)
    members = load_run(run(tmp_path / "b", change=put("method.folders", ["m"])))
    with pytest.raises(UsageError, match="does not say where its folders lie"):
        raced_suite(members.records, members, suite)


def test_a_run_of_two_data_sets_is_refused(tmp_path: Path) -> None:
    """A race is about one."""
    made = run(tmp_path / "a")
    lines = (made / "records.jsonl").read_text().splitlines()
    other = json.loads(lines[0])
    other["data"]["sha256"], other["cell"] = "0" * 64, "0" * 12
    (made / "records.jsonl").write_text("\n".join([*lines, json.dumps(other)]) + "\n")
    with pytest.raises(UsageError, match="several suites, data sets or models"):
        asked_section(load_run(made))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["pack/__init__.py"], "."),
        (["src/pack/__init__.py", "build/lib/pack/__init__.py"], "src"),
        (["src/pack.py"], "src"),
        (["other/__init__.py"], None),
    ],
)
def test_a_package_is_found_in_a_source_tree(
    tmp_path: Path, files: Sequence[str], expected: str | None
) -> None:
    """Wherever it lies; the shallowest is meant."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert root_of("pack", tmp_path) == (None if expected is None else tmp_path / expected)


def test_a_revision_outside_a_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sentence for one that does not exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="neither a folder nor a revision of a git checkout here"):
        checked_out("HEAD", tmp_path / "files")
