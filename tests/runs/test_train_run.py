"""Whole runs with methods that learn from training data: records, resuming, and what costs one row only."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import oos_data
from calibench.cli import main
from calibench.data.embedded import load
from calibench.hashing import plan_sha256
from calibench.measure import memory
from calibench.method import Method
from calibench.models.loading import load_checkpoint
from calibench.registry import METHODS
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records
from calibench.suites.loader import load_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import Suite, TrainSpec
from calibench.types import LabelledPlan
from calibench_methods.scores.mahalanobis import Mahalanobis

METHODS_RUN = ("frequentist", "energy", "mahalanobis")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`oos_data.write`, and a split called train: the end of the embedded validation split."""
    folder = oos_data.write(tmp_path_factory.mktemp("data"), inside=40, beyond=12)
    corpus = load(None, split="validation")
    rows = list(zip(corpus.texts[-120:], corpus.labels[-120:], strict=True))
    lines = [json.dumps({"text": text, "label": corpus.label_names[label]}) + "\n" for text, label in rows]
    (folder / "train.jsonl").write_text("".join(lines))
    return folder


def by_method(records: list[Record]) -> dict[str, Record]:
    return {record["method"]["name"]: record for record in records}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """One run of two scores beside the reference, by the command line, with memory."""
    folder = tmp_path_factory.mktemp("run")
    toml = folder / "tiny.toml"
    toml.write_text(
        f"""
        metrics = ["accuracy", "oos_auroc"]
        [data]
        name = {json.dumps(str(data))}
        split = "test"
        out_of_scope = ["beyond"]
        threshold_split = "validation"
        [model]
        name = "embedded"
        [timing]
        blocks = 3
        latency = 4
        token_budget = 256
        """
        + "".join(f'[[method]]\nname = "{name}"\n' for name in METHODS_RUN)
    )
    arguments = ["run", str(toml), "--train-limit", "90", "-q", "-o", str(folder / "out"), "--device", "cpu"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return folder / "out", by_method(load_records(folder / "out"))


def test_a_record_says_what_was_learnt(finished: tuple[Path, dict[str, Record]]) -> None:
    """Seconds, examples, split and parameters of the fit, and its memory; null where nothing is learnt."""
    _, records = finished
    fit = records["mahalanobis"]["fit"]
    assert (fit["examples"], fit["split"], fit["folds"], fit["unseen"]) == (90, "train", None, None)
    assert fit["parameters"]["classes"] == 2
    assert 1 <= fit["parameters"]["rank"] <= 128
    assert 0 < fit["seconds"] <= records["mahalanobis"]["timing"]["setup_s"]
    assert records["mahalanobis"]["memory"]["fit_bytes"] >= 0
    for name in ("frequentist", "energy"):
        assert records[name]["fit"] is None
        assert records[name]["memory"]["fit_bytes"] is None
        assert records[name]["memory"]["peak_bytes"] >= 0


def test_a_record_names_the_score(finished: tuple[Path, dict[str, Record]]) -> None:
    """The score by which a method ranks, and that it is all that the method adds; it is stored by name."""
    folder, records = finished
    named = {name: (r["method"]["score"], r["method"]["score_only"]) for name, r in records.items()}
    assert named == {
        "frequentist": (None, False),
        "energy": ("energy", True),
        "mahalanobis": ("mahalanobis", True),
    }
    plain = load_predictions(folder, records["frequentist"])
    for name in ("energy", "mahalanobis"):
        stored = load_predictions(folder, records[name])
        assert np.array_equal(stored.probs, plain.probs)
        assert np.isfinite(stored.scores[name]).all()
        assert records[name]["metrics"]["accuracy"] == records["frequentist"]["metrics"]["accuracy"]


def test_shared_passes_are_in_every_time(finished: tuple[Path, dict[str, Record]]) -> None:
    """In each block, both scores have the time of the forward pass that one of them made."""
    _, records = finished
    blocks = zip(
        *(records[name]["timing"]["blocks"] for name in ("frequentist", "energy", "mahalanobis")), strict=True
    )
    for reference, *scores in blocks:
        for entry in scores:
            assert entry["end_to_end_s"] >= entry["forward_s"] > reference["forward_s"] / 20


# --- what goes wrong ---------------------------------------------------------------------------------------


def small(data: Path, **changes: object) -> Suite:
    suite = oos_data.suite(data, *METHODS_RUN)
    bare = replace(suite, data=replace(suite.data, threshold_split=None), metrics=("accuracy",))
    return replace(bare, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("split", "said"),
    [("test", "is the one that is scored"), ("lessons", "no split 'lessons'")],
)
def test_without_training_data_only_what_learns_from_them_fails(
    split: str, said: str, data: Path, tmp_path: Path
) -> None:
    """Their record says in a sentence what is missing, and all other rows are as in any run."""
    records = by_method(run(small(data, train=TrainSpec(split)), tmp_path, device="cpu"))
    assert {name: record["status"] for name, record in records.items()} == {
        "frequentist": "ok",
        "energy": "ok",
        "mahalanobis": "error",
    }
    message = records["mahalanobis"]["error"]["message"]
    assert message.startswith("mahalanobis learns from training data, and there is none. The")
    assert said in message


def test_a_run_without_a_train_split_exits_with_one(tmp_path: Path) -> None:
    """The embedded data have no split to train on: the table is made, and the exit code tells of the row."""
    arguments = [
        "run",
        "-m",
        "mahalanobis",
        "--fast",
        "-L",
        "30",
        "-q",
        "-o",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "1 of 2 cells failed (mahalanobis)" in done.output
    records = by_method(load_records(tmp_path))
    assert records["frequentist"]["status"] == "ok"
    assert "has no split 'train'" in records["mahalanobis"]["error"]["message"]


def test_a_fit_that_fails_costs_its_row_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `fit` raises is the method's failure and nobody else's."""

    def fail(self: Method, train: LabelledPlan) -> None:  # noqa: ARG001
        raise RuntimeError("nothing learnt")

    monkeypatch.setattr(Mahalanobis, "fit", fail)
    records = by_method(run(small(data), tmp_path, device="cpu"))
    assert records["mahalanobis"]["error"] == {"type": "RuntimeError", "message": "nothing learnt"}
    assert records["energy"]["status"] == records["frequentist"]["status"] == "ok"


class StoppedAfter:
    """A progress that presses Ctrl-C when so many steps of the first repetition have been made."""

    def __init__(self, steps: float) -> None:
        self._left = steps
        self._stage = ""
        self.blocks = 0

    def stage(self, name: str, steps: int) -> None:
        self._stage = name
        if name == "Repetition 1":
            self.blocks = steps // len(METHODS_RUN)

    def step(self, detail: str) -> None:  # noqa: ARG002 - only counted
        self._left -= self._stage == "Repetition 1"
        if self._left < 0:
            raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        pass


def test_a_killed_run_goes_on(data: Path, tmp_path: Path) -> None:
    """Scores of finished blocks are kept, the fit is made again, and the outcome is that of a whole run."""
    suite = small(data)
    with pytest.raises(KeyboardInterrupt):
        run(suite, tmp_path / "killed", device="cpu", progress=StoppedAfter(4))
    second = StoppedAfter(math.inf)
    resumed = run(suite, tmp_path / "killed", device="cpu", progress=second)
    assert second.blocks == 3 - 1
    whole = run(suite, tmp_path / "whole", device="cpu")
    for one, other in zip(resumed, whole, strict=True):
        assert one["metrics"] == other["metrics"]
        stored = [
            load_predictions(tmp_path / where, r).scores for where, r in (("killed", one), ("whole", other))
        ]
        assert stored[0].keys() == stored[1].keys()
        assert all(np.array_equal(stored[0][name], stored[1][name]) for name in stored[0])
    assert resumed[2]["fit"]["examples"] == 120


def test_memory_is_measured_on_the_batches_of_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measuring process batches the training texts as the run did, and so finds their features again."""
    tasks: list[memory.MemoryTask] = []

    def measure(given: list[memory.MemoryTask]) -> list[memory.Peak]:
        tasks.extend(given)
        return [memory.Peak(1, "rss") for _ in given]

    fitted: list[LabelledPlan] = []
    fit = Mahalanobis.fit
    monkeypatch.setattr(Mahalanobis, "fit", lambda self, train: fitted.append(train) or fit(self, train))
    monkeypatch.setattr(memory, "measure", measure)
    suite = small(data)
    run(replace(suite, timing=replace(suite.timing, memory=True, latency=0)), tmp_path, device="cpu")
    assert [task.method for task in tasks if task.train is not None] == ["mahalanobis"]
    sent = memory.TrainData(**json.loads(json.dumps(asdict(tasks[2])))["train"])
    found = memory._labelled(load_checkpoint("embedded", device="cpu"), sent)
    assert plan_sha256(found.plan) == plan_sha256(fitted[0].plan)
    assert found.labels.tolist() == fitted[0].labels.tolist()


def test_training_data_make_another_cell(data: Path, tmp_path: Path) -> None:
    """With another limit only what learns is measured again, beside the reference; the rest is kept."""
    first = by_method(run(small(data), tmp_path, device="cpu"))
    fewer = override(small(data), Overrides(train_limit=60))
    second = by_method(run(fewer, tmp_path, device="cpu"))
    assert second["frequentist"] == first["frequentist"]
    assert second["energy"] == first["energy"]
    assert second["mahalanobis"]["cell"] != first["mahalanobis"]["cell"]
    assert second["mahalanobis"]["fit"]["examples"] == 60


def test_every_method_says_what_it_ranks_by() -> None:
    """A method of scores alone names one; a method that learns has a `fit` of its own."""
    for name in METHODS.names():
        kind = METHODS.load(name)
        assert not kind.score_only or kind.score
        assert kind.needs_train == (kind.fit is not Method.fit)
    assert load_suite("embedded").train == TrainSpec("train", None)
