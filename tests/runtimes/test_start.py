"""Runtimes: they give what PyTorch gives, or are refused; and a method's row on one is a row of its own."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from calibench.cli import main
from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.engine import Engine, Made
from calibench.models.plan import Planner
from calibench.registry import METHODS, RUNTIMES
from calibench.run import run
from calibench.runtimes import onnx_export
from calibench.runtimes.start import Facts, start, start_checked
from calibench.store.naming import label
from calibench.store.predictions import load_predictions
from calibench.store.records import load_records
from calibench.suites.cells import cells_of, left_out
from calibench.suites.loader import parse_suite
from calibench.suites.spec import MethodSpec
from calibench.types import Plan
from scenarios import needs
from tiny_models import MAX_LENGTH, sentences, tiny_checkpoint

ONNX = ("onnxruntime", "onnxruntime-int8")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of onnxscript and onnx, in many places
needs_onnx = pytest.mark.skipif(
    RUNTIMES.lacks("onnxruntime") is not None, reason="needs onnxruntime: pip install 'calibench[onnx]'"
)


def prepared(checkpoint: Checkpoint, count: int = 30) -> tuple[Plan, Planner]:
    planner = Planner(checkpoint.tokenizer, checkpoint.device, MAX_LENGTH, 64)
    return planner.plan(sentences(count), np.arange(count, dtype=np.int64)), planner


def started(checkpoint: Checkpoint, name: str) -> tuple[Checkpoint, Facts, Plan]:
    plan, planner = prepared(checkpoint)
    found, facts = start_checked(checkpoint, name, plan, planner)
    return found, facts, plan


def furthest(one: Checkpoint, other: Checkpoint, plan: Plan) -> tuple[float, float]:
    """The largest differences of logits and of features over all batches."""
    logits = features = 0.0
    ours, theirs = Encoder(one), Encoder(other)
    for batch in plan.batches:
        a, b = ours(batch), theirs(batch)
        logits = max(logits, float((a.logits.double() - b.logits.double()).abs().max()))
        features = max(features, float((a.features.double() - b.features.double()).abs().max()))
    return logits, features


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["distilbert", "deberta-v2"])
def test_onnxruntime_gives_the_same_logits_and_features(architecture: str) -> None:
    """For batches of any number of texts and any length, though the graph was traced on one batch."""
    checkpoint = tiny_checkpoint(architecture, "eager" if architecture == "deberta-v2" else "sdpa")
    found, facts, plan = started(checkpoint, "onnxruntime")
    assert len({batch.inputs["input_ids"].shape for batch in plan.batches}) > 2
    logits, features = furthest(checkpoint, found, plan)
    assert max(logits, features) < 1e-5
    assert facts.difference < 1e-5
    assert facts.threads == torch.get_num_threads()


@needs_onnx
def test_int8_rounds_every_layer_but_the_last() -> None:
    """Its features make its logits, it is a quarter of the size, and a text's answer depends on its batch."""
    import onnx

    checkpoint = tiny_checkpoint("bert", hidden_size=64, intermediate_size=512)
    _, plain, _ = started(checkpoint, "onnxruntime")
    found, facts, plan = started(checkpoint, "onnxruntime-int8")
    logits, _ = furthest(checkpoint, found, plan)
    assert 1e-4 < logits < 1.0
    assert facts.beside > 100 * plain.beside
    assert "by itself" in facts.note()
    assert "by itself" not in plain.note()
    file = onnx_export.exported(checkpoint).file
    rounded = next(file.parents[1].glob("int*/model.onnx"))
    graph = onnx.load(rounded).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulInteger") == 2 * 6 + 1  # of each block, and the pooler
    assert rounded.stat().st_size < file.stat().st_size / 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: g++ is not here")
def test_the_compiler_gives_the_same_without_compiling_again() -> None:
    """One graph for a text by itself and one for several, of whatever length."""
    from torch._dynamo.utils import counters

    checkpoint = tiny_checkpoint()
    found, facts, plan = started(checkpoint, "compile")
    before = dict(counters["stats"])
    assert max(furthest(checkpoint, found, plan)) < 1e-5
    assert dict(counters["stats"]) == before
    assert facts.difference < 1e-5


def test_bfloat16_is_the_model_with_rounded_weights() -> None:
    """The very logits of the twin in bfloat16, which are not those of float32."""
    checkpoint = tiny_checkpoint()
    found, facts, plan = started(checkpoint, "bfloat16")
    twin = checkpoint.twin("bfloat16")
    with torch.inference_mode():
        for batch in plan.batches:
            assert torch.equal(found.module(**batch.inputs).logits, twin(**batch.inputs).logits)
    assert 0 < facts.difference < 0.5
    assert facts.made_s is None


def made_of(checkpoint: Checkpoint, change: Any, tolerance: float | None = 1e-4) -> Made:
    """A runtime that changes what PyTorch gives."""
    ours = Encoder(checkpoint)

    def run(inputs: Any) -> tuple[Tensor, Tensor]:
        from calibench.types import Batch

        found = ours(Batch(dict(inputs), np.arange(len(inputs["input_ids"]))))
        logits, features = change(found.logits, found.features)
        return logits, features

    return Made(run, ("input_ids", "attention_mask"), ours.head, tolerance, None, 0.0, None, {}, 1)


@pytest.mark.parametrize(
    ("change", "tolerance", "says"),
    [
        (lambda logits, features: (logits + 0.01, features), 1e-4, "gives other logits than PyTorch"),
        (lambda logits, features: (logits * torch.nan, features), 1e-4, "gives other logits than PyTorch"),
        (lambda logits, features: (logits, features.flip(-1)), 1e-4, "the last layer does not make"),
        (lambda logits, features: (logits + 0.3, features), None, "the last layer does not make"),
    ],
)
def test_a_runtime_that_is_wrong_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Any, tolerance: float | None, says: str
) -> None:
    """By a hundredth of a logit, by NaN, or in features that do not belong to the logits."""
    checkpoint = tiny_checkpoint()
    monkeypatch.setattr(RUNTIMES, "load", lambda _: lambda given: made_of(given, change, tolerance))
    with pytest.raises(RefusedError, match=says):
        started(checkpoint, "wrong")


def test_a_graph_that_cannot_be_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made, and fails on its first text: a sentence with the runtime's reason."""

    def fails(*_: Tensor) -> Any:
        raise IndexError("out of bounds\nand much more")

    monkeypatch.setattr(RUNTIMES, "load", lambda _: lambda given: made_of(given, fails))
    with pytest.raises(RefusedError, match=r"'odd' cannot run tiny-.* \(IndexError: out of bounds\)"):
        start(tiny_checkpoint(), "odd")


def test_a_runtime_that_is_right_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard is no wall."""
    monkeypatch.setattr(RUNTIMES, "load", lambda _: lambda given: made_of(given, lambda *both: both))
    found, facts, _ = started(tiny_checkpoint(), "right")
    assert isinstance(found.module, Engine)
    assert facts.difference == 0


def test_what_changes_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model on another runtime has none, so that no method runs PyTorch's in their place."""
    monkeypatch.setattr(RUNTIMES, "load", lambda _: lambda given: made_of(given, lambda *both: both))
    found, _ = start(tiny_checkpoint(), "other")
    assert not list(found.module.children())
    assert not list(found.module.parameters())
    with pytest.raises(RefusedError, match=r"runs tiny-.* whole"):
        found.twin()
    with pytest.raises(UsageError, match="over is 'mc-dropout', which asks for more"):
        METHODS.load("conformal")(found, over="mc-dropout")


@needs_onnx
def test_a_graph_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For other weights again, and where what is kept cannot be read or nothing can be kept."""
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path))
    made: list[Path] = []

    def counted(_: Checkpoint, file: Path) -> dict[str, Any]:
        made.append(file)
        file.write_bytes(b"graph")
        return {"inputs": ["input_ids"], "features": True}

    monkeypatch.setattr(onnx_export, "_export", counted)
    checkpoint = tiny_checkpoint()
    first = onnx_export.exported(checkpoint)
    assert onnx_export.exported(checkpoint) == first
    assert len(made) == 1
    other = dataclasses.replace(checkpoint, sha256="0" * 64)
    assert onnx_export.exported(other).file != first.file
    (first.file.parent / "facts.json").write_text("{")
    assert onnx_export.exported(checkpoint).file.exists()
    assert len(made) == 3
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path / "file"))
    assert onnx_export.exported(checkpoint).file.exists()
    assert len(made) == 4


@needs_onnx
def test_what_cannot_be_exported_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In one sentence with the exporter's reason."""
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path))

    def refuses(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("no such thing\nand much more")

    monkeypatch.setattr(torch.onnx, "export", refuses)
    with pytest.raises(
        RefusedError, match=r"cannot be exported to ONNX \(OnnxExporterError: no such thing\)"
    ):
        start(tiny_checkpoint(), "onnxruntime")


@pytest.mark.parametrize(
    "written", ["frequentist @ compile", "frequentist@compile", " frequentist  @ compile"]
)
def test_a_name_is_a_method_and_a_runtime(written: str) -> None:
    """However it is spaced; and PyTorch is not named."""
    spec = MethodSpec(written)
    assert (spec.name, spec.method, spec.runtime) == ("frequentist @ compile", "frequentist", "compile")
    assert MethodSpec("frequentist @ torch").name == "frequentist"


def suite_text(*methods: str, runtimes: tuple[str, ...] = ()) -> str:
    named = "".join(f'[[method]]\nname = "{name}"\n' for name in methods)
    return f"runtimes = {json.dumps(list(runtimes))}\npasses = 2\n{named}"


def rows(*methods: str, runtimes: tuple[str, ...] = ()) -> list[tuple[str, bool]]:
    suite = parse_suite(suite_text(*methods, runtimes=runtimes), "small")
    return [(cell.name, cell.reference) for cell in cells_of(suite)]


def test_methods_stand_on_every_runtime_that_they_can() -> None:
    """What asks for more than a forward pass stays on PyTorch; the reference is there in any case."""
    assert rows("frequentist", "mc-dropout", runtimes=("torch", "bfloat16")) == [
        ("frequentist", True),
        ("frequentist @ bfloat16", False),
        ("mc-dropout", False),
    ]
    assert rows("energy", "mc-dropout", runtimes=("bfloat16",)) == [
        ("frequentist", True),
        ("energy @ bfloat16", False),
    ]
    assert rows("energy @ bfloat16") == [("frequentist", True), ("energy @ bfloat16", False)]
    suite = parse_suite(suite_text("energy", "mc-dropout", runtimes=("torch", "bfloat16")), "small")
    (sentence,) = left_out(suite)
    assert sentence.startswith("mc-dropout stays on PyTorch: more is asked of the model")
    (sentence,) = left_out(dataclasses.replace(suite, runtimes=("bfloat16",)))
    assert sentence.startswith("mc-dropout left out: more is asked of the model")


def test_what_cannot_be_is_refused() -> None:
    """A runtime that nobody registered, and a method that needs PyTorch asked for on another."""
    with pytest.raises(UsageError, match=r"Unknown runtime 'onnxruntim'.*did you mean 'onnxruntime'"):
        rows("frequentist", runtimes=("onnxruntim",))
    with pytest.raises(UsageError, match="mc-dropout cannot be run on bfloat16"):
        rows("mc-dropout @ bfloat16")
    refused = CliRunner().invoke(main, ["run", "-m", "mc-dropout @ bfloat16"])
    assert refused.exit_code == 2


def test_rows_on_pytorch_keep_their_keys() -> None:
    """What was measured before there were runtimes is not measured again."""
    suite = parse_suite(suite_text("frequentist", runtimes=("torch", "bfloat16")), "small")
    plain, other = cells_of(suite)
    alone = cells_of(parse_suite(suite_text("frequentist"), "small"))[0]
    assert plain.key({}) == alone.key({}) != other.key({})


SMALL = """
passes = 2
runtimes = {runtimes}
posthoc = ["temperature"]
[model]
name = "embedded"
[data]
loader = "embedded"
limit = 40
[timing]
blocks = 2
latency = 2
token_budget = 256
memory = {memory}
[[method]]
name = "frequentist"
[[method]]
name = "energy"
"""


@pytest.mark.slow
def test_a_run_on_two_runtimes(tmp_path: Path) -> None:
    """Each row says what ran it, where it stands beside PyTorch's, and takes its post-hoc step."""
    names = ["torch", "bfloat16", *(["onnxruntime"] if RUNTIMES.lacks("onnxruntime") is None else [])]
    suite = parse_suite(SMALL.format(runtimes=json.dumps(names), memory="true"), "small")
    records = run(suite, tmp_path)
    assert {record["status"] for record in records} == {"ok"}
    found = {label(record, records): record for record in records}
    assert "frequentist @ bfloat16 + temperature" in found
    plain = load_predictions(tmp_path, found["frequentist"]).probs
    for name in names[1:]:
        record = found[f"frequentist @ {name}"]
        assert record["runtime"]["name"] == name
        assert any(note.startswith(f"Run by {name}:") for note in record["notes"])
        apart = np.abs(np.asarray(load_predictions(tmp_path, record).probs) - np.asarray(plain)).max()
        assert 0 < apart < {"bfloat16": 0.05}.get(name, 1e-5)
        assert record["cost_ratio"]["value"] > 0
        assert record["memory"]["peak_bytes"] > 0
    assert "runtime" not in found["frequentist"]
    again = run(suite, tmp_path)
    assert again == records == load_records(tmp_path)


def test_ensembles_run_their_members_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them, and none on PyTorch behind the back of the table."""
    monkeypatch.setattr(RUNTIMES, "load", lambda _: lambda given: made_of(given, lambda *both: both))
    checkpoint = tiny_checkpoint()
    found, _, plan = started(checkpoint, "other")
    params = needs("deep-ensemble", checkpoint)
    factory = METHODS.load("deep-ensemble")
    there, here = factory(found, **params), factory(checkpoint, **params)
    assert {type(module) for module in there.modules} == {Engine}
    ours, theirs = here.predict(plan, seed=0), there.predict(plan, seed=0)
    assert np.abs(ours.probs - theirs.probs).max() < 1e-5
