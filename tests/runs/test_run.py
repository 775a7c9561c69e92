"""Whole runs on the embedded suite: the record's contract, resuming, and failures that cost one row only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.loading import load_checkpoint
from calibench.registry import METHODS
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import RECORDS, Record, load_records
from calibench.suites.loader import load_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import MethodSpec, ModelSpec, Suite, TimingSpec
from calibench.types import Plan, Predictive
from limited_suites import limited
from tiny_models import tiny_model, tiny_tokenizer

TIMING = TimingSpec(blocks=4, latency=8, memory=False, token_budget=128)
LIMIT = 40


def small(*methods: str, **changes: Any) -> Suite:
    """The embedded suite with little timing effort."""
    specs = tuple(MethodSpec(name) for name in methods)
    return replace(limited("embedded", LIMIT), method=specs, passes=3, timing=TIMING, **changes)


class Broken(Method):
    """Raises, or returns what is no probability, from the second block on."""

    def __init__(self, checkpoint: Checkpoint, *, how: str = "raise") -> None:
        super().__init__(checkpoint)
        self.how = how
        self.calls = 0

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        self.calls += 1
        probs = np.full((len(plan), 2), 0.5)
        if self.calls > 2:
            if self.how == "raise":
                raise RuntimeError("the fan fell off")
            probs[0] = np.nan if self.how == "nan" else 3.0
        return Predictive(probs, np.ones(len(plan), dtype=np.int64))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered method called "broken"."""
    load, point = METHODS.load, METHODS.entry_point
    monkeypatch.setattr(METHODS, "load", lambda name: Broken if name == "broken" else load(name))
    monkeypatch.setattr(
        METHODS, "entry_point", lambda name: point("frequentist" if name == "broken" else name)
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """One run of all built-in methods, with memory and a curve."""
    folder = tmp_path_factory.mktemp("run")
    suite = small(*[spec.name for spec in load_suite("embedded").method], curve=(1, 3))
    suite = replace(suite, timing=replace(TIMING, memory=True))
    return folder, run(suite, folder)


CONTRACT = (
    "schema",
    "status",
    "suite",
    "method.name",
    "method.params",
    "passes",
    "seed",
    "data.sha256",
    "model.sha256",
    "plan.padding_ratio",
    "environment",
    "metrics.accuracy.value",
    "metrics.accuracy.low",
    "metrics.accuracy.high",
    "metrics.ece.value",
    "metrics.ece.low",
    "metrics.ece.high",
    "metrics.ece_15.value",
    "metrics.ece_equal_mass.value",
    "metrics.ece_debiased.value",
    "metrics.mce.value",
    "metrics.nll.value",
    "metrics.brier.value",
    "metrics.ece_noise_floor.value",
    "metrics.ece_noise_floor.low",
    "metrics.ece_noise_floor.high",
    "metrics.posterior_error.value",
    "metrics.ece_true.value",
    "timing.throughput.sentences_per_s.value",
    "timing.throughput.tokens_per_s.value",
    "timing.latency_ms.p50.value",
    "cost_ratio.value",
    "cost_ratio.low",
    "cost_ratio.high",
    "latency_ratio.value",
    "memory.peak_bytes",
    "environment.torch",
    "environment.transformers",
    "environment.baal",
    "environment.cpu",
    "environment.threads",
    "environment.fingerprint",
    "timing.stages_s.end_to_end",
    "timing.setup_s",
    "timing.first_forward_s",
    "timing.model_load_s",
)


def dig(record: Record, path: str) -> Any:
    value: Any = record
    for part in path.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("path", CONTRACT)
def test_the_contract_of_a_record(finished: tuple[Path, list[Record]], path: str) -> None:
    """What scripts outside rely on is there in every record of a run that went well."""
    for record in finished[1]:
        assert record["status"] == "ok", record["error"]
        assert dig(record, path) is not None


def test_too_few_samples_are_said_to_be_too_few(finished: tuple[Path, list[Record]]) -> None:
    """Eight sentences give no 99th percentile, and the record says why."""
    for record in finished[1]:
        p99 = record["timing"]["latency_ms"]["p99"]
        assert p99["value"] is None
        assert "n too small" in p99["reason"]


def test_coverage_is_in_the_record(finished: tuple[Path, list[Record]]) -> None:
    """BaaL's patch misses attention dropout; full coverage does not; the softmax has none to speak of."""
    coverage = {record["method"]["name"]: record["coverage"] for record in finished[1]}
    assert coverage["frequentist"] is None
    assert coverage["mc-dropout-baal"]["active"] < coverage["mc-dropout-baal"]["expected"]
    assert coverage["mc-dropout"]["active"] == coverage["mc-dropout"]["expected"]
    assert coverage["mc-dropout-baal"]["expected"] == coverage["mc-dropout"]["expected"]


def test_records_and_predictions_agree(finished: tuple[Path, list[Record]]) -> None:
    """The stored predictions give the recorded accuracy, and the last point of the curve the whole record."""
    folder, found = finished
    assert load_records(folder) == found
    for record in found:
        stored = load_predictions(folder, record)
        assert (stored.probs.argmax(1) == stored.label).mean() == record["metrics"]["accuracy"]["value"]
        assert record["data"]["n"] == LIMIT == len(set(stored.index.tolist()))
        if record["curve"] is not None:
            np.testing.assert_allclose(stored.at_passes[3], stored.probs, atol=1e-6)
            assert record["curve"]["metrics"]["ece"][-1]["value"] == pytest.approx(
                record["metrics"]["ece"]["value"], abs=1e-6
            )
            assert record["curve"]["seconds"][0] > 0


def test_no_record_holds_a_path(finished: tuple[Path, list[Record]]) -> None:
    """Nothing in a run folder's records tells where on the machine it was made."""
    text = (finished[0] / RECORDS).read_text()
    assert str(finished[0].parent) not in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[2]) not in text


def test_the_scored_outputs_are_the_models(finished: tuple[Path, list[Record]]) -> None:
    """The reference's predictions, in data set order, are those of the model on each text by itself."""
    folder, found = finished
    checkpoint = load_checkpoint("embedded", device="cpu")
    stored = load_predictions(folder, found[0])
    from calibench.data.embedded import load

    texts = [load(None, split="test").texts[row] for row in stored.index[:8]]
    with torch.inference_mode():
        for text, probs in zip(texts, stored.probs, strict=False):
            logits = checkpoint.module(**checkpoint.tokenizer([text], return_tensors="pt")).logits
            np.testing.assert_allclose(logits.double().softmax(-1)[0].numpy(), probs, atol=1e-5)


class InterruptedAfter:
    """A progress that presses Ctrl-C when so many blocks have been run, and counts them."""

    def __init__(self, steps: int | None) -> None:
        self.left = steps
        self.stages: list[tuple[str, int]] = []

    def stage(self, name: str, steps: int) -> None:
        self.stages.append((name, steps))

    def step(self, detail: str) -> None:  # noqa: ARG002 - only counted
        if self.left is not None and self.stages[-1][0].startswith("Repetition"):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        pass


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Blocks finished before Ctrl-C are not run again, and the outcome is that of a run never stopped."""
    suite = small("frequentist", "mc-dropout")
    with pytest.raises(KeyboardInterrupt):
        run(suite, tmp_path / "killed", progress=InterruptedAfter(5))
    second = InterruptedAfter(None)
    resumed = run(suite, tmp_path / "killed", progress=second)
    whole = run(suite, tmp_path / "whole")
    assert ("Repetition 1", 2 * (4 - 2)) in second.stages
    for one, other in zip(resumed, whole, strict=True):
        assert one["metrics"] == other["metrics"]
        np.testing.assert_array_equal(
            load_predictions(tmp_path / "killed", one).probs,
            load_predictions(tmp_path / "whole", other).probs,
        )
    assert not (tmp_path / "killed" / "journal").exists()


def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    """A second run adds the new method beside a reference timed again, and keeps what was there."""
    first = run(small("frequentist", "mc-dropout"), tmp_path)
    watched = InterruptedAfter(None)
    second = run(small("frequentist", "mc-dropout", "mc-dropout-baal"), tmp_path, progress=watched)
    assert ("Setting up", 2) in watched.stages
    assert second[:2] == first
    assert second[2]["cost_ratio"]["value"] > 0
    idle = InterruptedAfter(None)
    assert run(small("frequentist", "mc-dropout"), tmp_path, progress=idle) == first
    assert [name for name, _ in idle.stages] == ["Loading"]


def test_a_self_check_races_the_reference_against_itself(tmp_path: Path) -> None:
    """Its ratios are in the reference's record only, with no row of its own; a run that lacks it makes it."""
    suite = small("mc-dropout")
    before = run(suite, tmp_path)
    assert [record["self_check"] for record in before] == [None, None]
    reference, other = run(suite, tmp_path, self_check=True)
    assert reference["self_check"].keys() == {"cost_ratio", "latency_ratio"}
    ratio = reference["self_check"]["cost_ratio"]
    assert 0.0 < ratio["value"] < 10.0
    assert ratio["value"] != 1.0
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert other == before[1]
    assert [r["cell"] for r in load_records(tmp_path)] == [r["cell"] for r in before]
    assert run(suite, tmp_path, self_check=True) == [reference, other]


def test_overwrite_strategies(tmp_path: Path) -> None:
    """never refuses a folder with records; always measures anew."""
    first = run(small("frequentist"), tmp_path)
    with pytest.raises(UsageError, match="holds records already; choose another folder"):
        run(small("frequentist"), tmp_path, overwrite="never")
    again = run(small("frequentist"), tmp_path, overwrite="always")
    assert again[0]["cell"] == first[0]["cell"]
    assert again[0]["timing"] != first[0]["timing"]


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("how", "message"), [("raise", "the fan fell off"), ("nan", "not finite"), ("sum", "sum to 6.0")]
)
def test_a_failed_cell_is_a_record_with_its_error(tmp_path: Path, how: str, message: str) -> None:
    """One method's failure is written down and costs the others nothing; the next run tries it again."""
    suite = replace(
        small("frequentist"), method=(MethodSpec("frequentist"), MethodSpec("broken", {"how": how}))
    )
    sound, failed = run(suite, tmp_path)
    assert (sound["status"], sound["error"]) == ("ok", None)
    assert failed["status"] == "error"
    assert message in failed["error"]["message"]
    assert "metrics" not in failed
    watched = InterruptedAfter(None)
    run(suite, tmp_path, progress=watched)
    assert ("Setting up", 2) in watched.stages


def test_a_method_that_declines_is_a_record_too(tmp_path: Path, tiny_modernbert: Path) -> None:
    """A model whose dropout probabilities are all 0 is refused in its row, with the reason."""
    suite = small("frequentist", "mc-dropout")
    suite = replace(suite, model=replace(suite.model, name=str(tiny_modernbert)))
    sound, refused = run(suite, tmp_path)
    assert sound["status"] == "ok"
    assert refused["error"]["type"] == "RefusedError"


def test_seeds_are_cells_of_their_own(tmp_path: Path) -> None:
    """Two seeds give two rows per method, with other masks and the same data."""
    found = run(small("frequentist", "mc-dropout", seeds=(0, 1)), tmp_path)
    assert [(record["method"]["name"], record["seed"]) for record in found] == [
        ("frequentist", 0),
        ("mc-dropout", 0),
        ("frequentist", 1),
        ("mc-dropout", 1),
    ]
    probs = [load_predictions(tmp_path, record).probs for record in found]
    np.testing.assert_array_equal(probs[0], probs[2])
    assert not np.array_equal(probs[1], probs[3])


def test_a_config_that_changed_makes_other_cells(tmp_path: Path) -> None:
    """The weights say neither which output is which class nor how much is dropped; nothing old is kept."""
    model = load_checkpoint("embedded")
    folder = tmp_path / "model"

    def measured(**changes: Any) -> Record:
        for key, value in changes.items():
            setattr(model.module.config, key, value)
        model.module.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        found = run(small("mc-dropout", model=ModelSpec(str(folder))), tmp_path / "run")
        return next(record for record in found if record["method"]["name"] == "mc-dropout")

    names = dict(model.module.config.id2label)
    first = measured()
    turned = measured(id2label={0: names[1], 1: names[0]})
    assert turned["model"]["sha256"] == first["model"]["sha256"]
    assert turned["data"]["sha256"] == first["data"]["sha256"]
    accuracy = [record["metrics"]["accuracy"]["value"] for record in (first, turned)]
    assert sum(accuracy) == pytest.approx(1.0)
    wilder = measured(id2label=names, dropout=0.5)
    assert wilder["metrics"]["nll"]["value"] != first["metrics"]["nll"]["value"]
    assert measured(dropout=0.1)["cell"] == first["cell"]


@pytest.fixture(scope="module")
def tiny_modernbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModernBERT with its default dropout of 0, saved with labels of the embedded data."""
    folder = tmp_path_factory.mktemp("modernbert")
    model = tiny_model(
        "modernbert", **dict.fromkeys(("attention_dropout", "mlp_dropout", "classifier_dropout"), 0.0)
    )
    model.config.id2label = {0: "NEGATIVE", 1: "POSITIVE"}
    model.save_pretrained(folder)
    tiny_tokenizer("modernbert").save_pretrained(folder)
    return folder


def test_a_suite_without_a_model_asks_for_one(tmp_path: Path) -> None:
    """Nothing is loaded, and nothing written, before the user is told to pass --model."""
    with pytest.raises(UsageError, match="'clinc-oos' comes without a model; pass --model with a hub id or"):
        run(load_suite("clinc-oos"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.shared
def test_the_local_copy_of_clinc_runs(tmp_path: Path, shared: Path) -> None:
    """Labels are matched by name, and rows of the label declared out of scope are kept apart."""
    given = Overrides(
        dataset=str(shared / "data" / "clinc_oos"),
        model=str(shared / "models" / "clinc-minilm"),
        methods=["frequentist"],
        effort="fast",
        limit=60,
    )
    suite = override(load_suite("clinc-oos"), given)
    (record,) = run(replace(suite, timing=replace(suite.timing, memory=False)), tmp_path)
    assert (record["status"], record["data"]["n"], len(record["data"]["labels"])) == ("ok", 60, 150)
    labels = load_predictions(tmp_path, record).label
    assert record["data"]["out_of_scope"] == (labels < 0).sum() > 0
