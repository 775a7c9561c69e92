"""Quality work in parts: what it equals, what it survives, and that nothing is done or counted twice."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from calibench.compare.runs import load_run, match
from calibench.errors import UsageError
from calibench.report import write_report
from calibench.run import run
from calibench.store.lock import sole_writer
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records
from calibench.sweep.executor import Answer
from calibench.sweep.manifest import load_manifest
from calibench.sweep.spec import Sweep, parse_sweep
from calibench.sweep.sweeping import run_sweep
from calibench.sweep.work import REASON, Join, Look, Shard
from calibench.sweep.worker import Worker
from sweeps import HEAD, MODEL, InProcess, Listening, small, text_of, write_data

METHODS = (
    "frequentist",
    "mc-dropout",
    "mc-dropout-batch",
    "mc-dropout-baal",
    "laplace-last",
    "mahalanobis",
    "conformal",
)
#: What a record of quality work lacks, or says otherwise.
COSTS = {"timing", "cost_ratio", "latency_ratio", "self_check", "memory"}
UNLIKE = {"created", "environment", "fit", "conformal", "curve", "predictions_sha256", *COSTS}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a process of a sweep."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def everything(folder: Path) -> Sweep:
    """A sweep with all that a suite can ask for."""
    named = "".join(
        f'[[method]]\nname = "{name}"\n'
        + ("params = { memory_budget_mb = 500 }\n" if name == "mc-dropout-batch" else "")
        for name in METHODS
    )
    head = (
        'seeds = [3]\nposthoc = ["temperature"]\ncurve = [1, 2]\nmetrics = ["accuracy", "nll", "ece"]\n'
        + HEAD.replace("blocks = 2", "blocks = 3")
        + '[conformal]\nkinds = ["raps"]\n[calibration]\nsplit = "validation"\nunseen = true\n'
        + '[shift]\ncorruptions = ["typos"]\nstrengths = [0.3]\n'
    )
    return parse_sweep(head + MODEL + f'[[data]]\nname = "{folder}"\nsplit = "test"\n' + named, "whole")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, InProcess]:
    """A run folder of a whole run, one of quality work by four processes in turn, and what these did."""
    place = tmp_path_factory.mktemp("both")
    sweep = everything(write_data(place / "data"))
    executor, told = InProcess(slots=4), Listening()
    run_sweep(sweep, place / "sweep", executor, told, quality_only=True)
    assert told.failures == {}
    run(sweep.pairs[0].suite, place / "whole")
    return place / "whole", place / "sweep" / sweep.pairs[0].folder, executor


def by_cell(folder: Path) -> dict[str, Record]:
    return {record["cell"]: record for record in load_records(folder)}


def without_seconds(value: Any) -> Any:
    """A field without what was timed on the way."""
    if isinstance(value, list):
        return [without_seconds(item) for item in value]
    if not isinstance(value, dict):
        return value
    timed = ("seconds", "fit_s", "seconds_per_example", "cost_ratio")
    return {key: without_seconds(item) for key, item in value.items() if key not in timed}


def test_parts_equal_the_whole_bit_for_bit(both: tuple[Path, Path, InProcess]) -> None:
    """Same keys, predictions, scores, sets, metrics and fits, of masks from torch's generator too."""
    whole, parts, executor = both
    shards = [job.work for job in executor.done if isinstance(job.work, Shard)]
    cut = Counter(work.key for work in shards)
    first, second = by_cell(whole), by_cell(parts)
    assert first.keys() == second.keys()
    assert len(first) == 2 * len(METHODS) - 1
    learning = {"laplace-last", "mahalanobis"}
    for key, record in first.items():
        other = second[key]
        assert record["status"] == other["status"] == "ok"
        tables = [pq.read_table(f / r["predictions"]) for f, r in ((whole, record), (parts, other))]
        assert tables[0].equals(tables[1]), record["method"]
        assert record["predictions_sha256"] == other["predictions_sha256"]
        assert {k: v for k, v in record.items() if k not in UNLIKE} == {
            k: v for k, v in other.items() if k not in UNLIKE
        }
        for name in ("fit", "conformal", "curve"):
            assert without_seconds(record[name]) == without_seconds(other[name]), (record["method"], name)
        if record["method"]["posthoc"] is None:
            assert (cut[key] > 1) == (record["method"]["name"] not in learning)


def test_nothing_is_said_of_costs(both: tuple[Path, Path, InProcess]) -> None:
    """Every cost is null, with a reason where a reason has a place; and readers get along with that."""
    whole, parts, _ = both
    for record in load_records(parts):
        assert record["timing"] is None
        for name in ("cost_ratio", "latency_ratio", "memory"):
            assert record[name]["reason"] == REASON
            assert {record[name].get(end) for end in ("value", "low", "high", "peak_bytes")} == {None}
        assert record["fit"] is None or record["fit"]["seconds"] is None
        assert all(entry["fit_s"] is None for entry in record["conformal"])
        assert record["environment"]["threads"] == 1
    report = write_report(parts).read_text()
    assert "What an answer costs is not known" in report
    assert "--prices" not in report
    assert len(match(load_run(parts), load_run(whole)).pairs) == len(load_records(parts))


def test_across_plans_what_is_keyed_by_row_agrees(tmp_path: Path) -> None:
    """In one block, whose seed no plan changes, within 1e-6; torch's generator gives other masks."""
    found: dict[int, dict[str, Any]] = {}
    for budget in (100, 4096):
        methods = (
            "frequentist",
            "mc-dropout-batch",
            "mc-dropout-stratified",
            "mc-dropout",
            "mc-dropout-baal",
        )
        text = text_of(*methods, head='metrics = ["accuracy"]\n').replace("blocks = 2", "blocks = 1")
        sweep = parse_sweep(text.replace("token_budget = 256", f"token_budget = {budget}"), "plans")
        run_sweep(sweep, tmp_path / str(budget), InProcess(), Listening(), quality_only=True)
        folder = tmp_path / str(budget) / "embedded--corpus"
        records = load_records(folder)
        assert (records[0]["plan"]["batches"] > 3) == (budget == 100)
        found[budget] = {r["method"]["name"]: load_predictions(folder, r).probs for r in records}
    for name, probs in found[100].items():
        difference = np.abs(probs - found[4096][name]).max()
        assert (difference < 1e-6) == (name not in ("mc-dropout", "mc-dropout-baal")), (name, difference)


def test_what_is_there_is_not_done_again(both: tuple[Path, Path, InProcess], tmp_path: Path) -> None:
    """A new seed runs alone, and a second time nothing runs; records that were there keep their bytes."""
    del both
    sweep = small("frequentist", "mc-dropout")
    run_sweep(sweep, tmp_path, InProcess(), Listening(), quality_only=True)
    folder = tmp_path / "embedded--corpus"
    before = by_cell(folder)
    told = Listening()
    wider = small("frequentist", "mc-dropout", head="seeds = [0, 1]\n")
    run_sweep(wider, tmp_path, InProcess(), told, quality_only=True)
    assert told.rows == ["embedded--corpus: frequentist (seed 1)", "embedded--corpus: mc-dropout (seed 1)"]
    after = by_cell(folder)
    assert {key: after[key] for key in before} == before
    executor = InProcess()
    run_sweep(wider, tmp_path, executor, Listening(), quality_only=True)
    assert [type(job.work) for job in executor.done] == [Look]
    assert by_cell(folder) == after


@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_a_killed_sweep_goes_on(tmp_path: Path, stop: int) -> None:
    """Wherever it was stopped: no part is predicted twice, and the records are those of one that was not."""

    class StoppedError(Exception):
        """In the place of a kill."""

    class Stopping(InProcess):
        def answers(self) -> Any:
            if len(self.done) == stop:
                raise StoppedError
            return super().answers()

    sweep = small("frequentist", "mc-dropout")
    first = Stopping(slots=2)
    with pytest.raises(StoppedError):
        run_sweep(sweep, tmp_path / "a", first, Listening(), quality_only=True)
    second = InProcess(slots=2)
    run_sweep(sweep, tmp_path / "a", second, Listening(), quality_only=True)
    run_sweep(sweep, tmp_path / "b", InProcess(slots=2), Listening(), quality_only=True)
    parts = [
        (job.work.key, part)
        for job in [*first.done, *second.done]
        if isinstance(job.work, Shard)
        for part in job.work.parts
    ]
    assert len(parts) == len(set(parts)) == 4
    folders = [tmp_path / name / "embedded--corpus" for name in "ab"]
    found, undisturbed = map(by_cell, folders)
    assert found.keys() == undisturbed.keys()
    for key, record in found.items():
        assert record["predictions_sha256"] == undisturbed[key]["predictions_sha256"]
        assert record["metrics"] == undisturbed[key]["metrics"]
    assert not (folders[0] / "journal").exists()


def test_a_dead_process_costs_its_cell(tmp_path: Path) -> None:
    """A cell's second shard dies: its row and the one made of it fail, no other; asked again it is done."""
    sweep = small("frequentist", "mc-dropout", head='posthoc = ["temperature"]\n')
    shards: list[Shard] = []

    def dies(job: Any) -> bool:
        shards.extend([job.work] if isinstance(job.work, Shard) else [])
        return isinstance(job.work, Shard) and len(shards) == 2

    executor, told = InProcess(slots=3, dies=dies), Listening()
    run_sweep(sweep, tmp_path, executor, told, quality_only=True)
    records = load_records(tmp_path / "embedded--corpus")
    failed = [record for record in records if record["status"] == "error"]
    assert {record["method"]["name"] for record in failed} == {"frequentist"}
    assert len(failed) == 2
    assert len(records) == 4
    assert all("killed by SIGKILL" in reason for reason in told.failures.values())
    assert len(told.rows) == len(told.failures) == 2
    manifest = load_manifest(tmp_path)
    assert manifest is not None
    assert manifest["pairs"][0]["rows"] == 2
    assert len(manifest["pairs"][0]["failed"]) == 2
    again = Listening()
    run_sweep(sweep, tmp_path, InProcess(), again, quality_only=True)
    assert again.failures == {}
    assert len(again.rows) == 2
    assert {record["status"] for record in load_records(tmp_path / "embedded--corpus")} == {"ok"}


def test_a_join_that_dies_is_told(tmp_path: Path) -> None:
    """Where not even a record can be made, the rows are named, and the rest is there."""
    joins: list[Join] = []

    def dies(job: Any) -> bool:
        joins.extend([job.work] if isinstance(job.work, Join) else [])
        return isinstance(job.work, Join) and len(joins) == 1

    told = Listening()
    run_sweep(small("frequentist", "mc-dropout"), tmp_path, InProcess(dies=dies), told, quality_only=True)
    assert list(told.failures) == ["embedded--corpus: frequentist"]
    assert [r["method"]["name"] for r in load_records(tmp_path / "embedded--corpus")] == ["mc-dropout"]


def test_a_pair_that_cannot_be_loaded_costs_itself(tmp_path: Path) -> None:
    """A split that is not there is told of its pair, and the other pair is done."""
    more = '[[data]]\nid = "other"\nloader = "embedded"\nsplit = "tset"\n'
    told = Listening()
    run_sweep(small(more=more), tmp_path, InProcess(slots=2), told, quality_only=True)
    assert list(told.failures) == ["embedded--other: "]
    assert "tset" in told.failures["embedded--other: "]
    assert told.rows == ["embedded--corpus: frequentist"]


def test_a_timed_run_measures_what_was_not_timed(tmp_path: Path) -> None:
    """Records of quality work are no records of a timed run, which replaces them; the other way they do."""
    sweep = small("frequentist")
    run_sweep(sweep, tmp_path, InProcess(), Listening(), quality_only=True)
    folder = tmp_path / "embedded--corpus"
    (untimed,) = load_records(folder)
    run_sweep(sweep, tmp_path, InProcess(), Listening())
    (timed,) = load_records(folder)
    assert timed["cell"] == untimed["cell"]
    assert timed["timing"] is not None
    assert timed["predictions_sha256"] == untimed["predictions_sha256"]
    executor = InProcess()
    run_sweep(sweep, tmp_path, executor, Listening(), quality_only=True)
    assert len(executor.done) == 1
    assert load_records(folder) == [timed]


def test_model_and_data_are_loaded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Per process and pair, however many shards there are."""
    from calibench.sweep import worker

    loads: list[str] = []
    load = worker.load_setting

    def counted(suite: Any, *arguments: Any, **settings: Any) -> Any:
        loads.append(suite.data.split)
        return load(suite, *arguments, **settings)

    monkeypatch.setattr(worker, "load_setting", counted)
    more = '[[data]]\nid = "other"\nloader = "embedded"\nsplit = "validation"\nlimit = 24\n'
    executor = InProcess(slots=2)
    run_sweep(small("mc-dropout", more=more), tmp_path, executor, Listening(), quality_only=True)
    assert sorted(loads) == ["test", "validation"]
    assert sum(isinstance(job.work, Shard) for job in executor.done) == 8


def test_an_idle_process_loads_what_another_looks_at(tmp_path: Path) -> None:
    """It has the pair by the time there is work; what it then says of the pair is not taken twice."""

    class Counting(Listening):
        def failed(self, pair: Any, row: str, reason: str) -> None:
            del pair, row
            self.said.append(reason)

    more = '[[data]]\nid = "other"\nloader = "embedded"\nsplit = "tset"\n'
    executor, told = InProcess(slots=5), Counting()
    run_sweep(small("frequentist", more=more), tmp_path, executor, told, quality_only=True)
    looks = Counter(job.pair for job in executor.done if isinstance(job.work, Look))
    assert sorted(looks.values()) == [2, 3]
    assert len(told.said) == 1
    assert told.rows == ["embedded--corpus: frequentist"]
    predicted = [part for job in executor.done if isinstance(job.work, Shard) for part in job.work.parts]
    assert len(predicted) == len(set(predicted))


class Importing(pickle.Unpickler):
    """Notes whose classes an answer is made of."""

    def find_class(self, module: str, name: str) -> Any:
        self.packages.add(module.partition(".")[0])
        return super().find_class(module, name)

    packages: set[str]


class Reading(InProcess):
    """An executor whose answers have come over a wire, with what reading them has imported."""

    def __init__(self) -> None:
        super().__init__()
        self.packages: dict[type, set[str]] = {}

    def answers(self) -> list[Answer]:
        work = type(self._jobs[0].work)
        unpickler = Importing(io.BytesIO(pickle.dumps(super().answers())))
        unpickler.packages = self.packages.setdefault(work, set())
        found: list[Answer] = unpickler.load()
        return found


def test_answers_bring_nothing_but_values(tmp_path: Path) -> None:
    """Whoever reads one imports calibench and numpy: torch takes a second in the sweep's own process."""
    executor = Reading()
    sweep = small("frequentist @ bfloat16", "mc-dropout", head='posthoc = ["temperature"]\n')
    run_sweep(sweep, tmp_path, executor, Listening(), quality_only=True)
    assert executor.packages.keys() == {Look, Shard, Join}
    for packages in executor.packages.values():
        assert "calibench" in packages
        assert packages <= {"calibench", "numpy", "builtins", "pathlib"}


def test_two_writers_are_refused(tmp_path: Path) -> None:
    """Another sweep in the folder, another run in one of its run folders, another sweep's folder."""
    sweep = small()
    with sole_writer(tmp_path), pytest.raises(UsageError, match="Another run"):
        run_sweep(sweep, tmp_path, InProcess(), Listening(), quality_only=True)
    with sole_writer(tmp_path / "embedded--corpus"), pytest.raises(UsageError, match="Another run"):
        run_sweep(sweep, tmp_path, InProcess(), Listening(), quality_only=True)
    with pytest.raises(UsageError, match="holds the sweep 'small'"):
        run_sweep(replace(sweep, name="other"), tmp_path, InProcess(), Listening(), quality_only=True)
    assert not list(tmp_path.rglob("records.jsonl"))


class Forgetful(InProcess):
    """An executor whose records are made by processes that have predicted nothing."""

    def answers(self) -> list[Answer]:
        if isinstance(self._jobs[0].work, Join):
            self._worker = Worker()
        return super().answers()


def test_a_record_says_what_ran_the_model_whoever_makes_it(tmp_path: Path) -> None:
    """Also where another process predicted its parts, or an earlier sweep did."""
    executor = Forgetful()
    run_sweep(small("frequentist @ bfloat16"), tmp_path, executor, Listening(), quality_only=True)
    (folder,) = (path.parent for path in tmp_path.rglob("records.jsonl"))
    found = {record["method"]["name"]: record for record in load_records(folder)}
    assert found["frequentist @ bfloat16"]["runtime"]["name"] == "bfloat16"
    assert "runtime" not in found["frequentist"]
