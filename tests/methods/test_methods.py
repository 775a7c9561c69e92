"""What every registered method promises, and what each of ours promises beyond that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from calibench.errors import CalibenchError, RefusedError, UsageError
from calibench.method import parameters
from calibench.registry import METHODS
from calibench.types import LabelledPlan, Plan, Predictive
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.dropout.mc_dropout_batch import McDropoutBatch
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.peers.hf_pipeline_baal import HfPipelineBaal
from calibench_methods.peers.mc_dropout_baal import McDropoutBaal
from calibench_methods.sampling.live import seeded
from scenarios import EVERY, PRESENT, disturbance, enumerable, make, same
from tiny_models import EXACT, plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")


STOCHASTIC: tuple[Any, ...] = (McDropout, McDropoutBaal, McDropoutBatch, HfPipelineBaal)
SAMPLING = pytest.mark.parametrize("method", STOCHASTIC)


def well_formed(predictive: Predictive, count: int, classes: int) -> None:
    """Shapes, dtypes and ranges of `calibench.types.Predictive`."""
    assert predictive.probs.shape == (count, classes)
    assert predictive.probs.dtype == np.float64
    np.testing.assert_allclose(predictive.probs.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert (predictive.probs >= 0).all()
    assert predictive.passes.shape == (count,)
    assert predictive.passes.dtype == np.int64
    assert (predictive.passes >= 1).all()
    if predictive.samples is not None:
        assert predictive.samples.shape == (predictive.passes.max(), count, classes)
        assert predictive.samples.dtype == np.float32
        mean = predictive.samples.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(mean, predictive.probs, rtol=0, atol=1e-6)
    for score in predictive.scores.values():
        assert score.shape == (count,)
        assert score.dtype == np.float64
        assert np.isfinite(score).all()
    if predictive.standard_error is not None:
        assert predictive.standard_error.shape == (count,)
        assert predictive.standard_error.dtype == np.float64
        assert (predictive.standard_error >= 0).all()


def agree(first: Predictive, second: Predictive) -> None:
    """Bit-identical results."""
    assert np.array_equal(first.probs, second.probs)
    assert np.array_equal(first.passes, second.passes)
    for name in ("samples", "standard_error"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None and b is None) or np.array_equal(a, b)


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """One thread: models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@EVERY
@pytest.mark.parametrize(("classes", "count"), [(2, 11), (150, 5), (3, 1)])
def test_predictive_is_well_formed(name: str, classes: int, count: int) -> None:
    """Shapes, dtypes and row sums hold for two classes, for 150, and for a single example."""
    checkpoint = tiny_checkpoint(classes=classes)
    predictive = make(name, checkpoint).predict(plan_of(checkpoint, [*sentences(count)]), seed=3)
    well_formed(predictive, count, classes)


@EVERY
def test_checkpoint_and_generator_are_left_alone(name: str) -> None:
    """Making and running a method leaves the model bit-identical and the caller's generator where it was."""
    checkpoint = tiny_checkpoint()
    before, state = disturbance(checkpoint.module), torch.get_rng_state()
    make(name, checkpoint).predict(plan_of(checkpoint, [*sentences(9)]), seed=3)
    assert same(before, disturbance(checkpoint.module))
    assert torch.equal(state, torch.get_rng_state())


@EVERY
def test_same_seed_same_result(name: str) -> None:
    """A seed gives the same bits from the same method twice and from a new one, whatever ran between."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(9)])
    method = make(name, checkpoint)
    first = method.predict(plan, seed=3)
    other = method.predict(plan, seed=4)
    agree(first, method.predict(plan, seed=3))
    agree(first, make(name, checkpoint).predict(plan, seed=3))
    if method.coverage is not None:
        assert not np.array_equal(first.probs, other.probs)


@EVERY
def test_methods_do_not_disturb_each_other(name: str) -> None:
    """The result is the same when every other method has been made and has run on the same checkpoint."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(6)])
    alone = make(name, checkpoint).predict(plan, seed=3)
    methods = {other: make(other, checkpoint) for other in PRESENT}
    for method in methods.values():
        method.predict(plan, seed=1)
    agree(alone, methods[name].predict(plan, seed=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EVERY
def test_on_a_gpu(name: str) -> None:
    """On a CUDA device the same is promised, and what is deterministic says what it says on the CPU."""
    checkpoint = tiny_checkpoint()
    alone = make(name, checkpoint).predict(plan_of(checkpoint, [*sentences(9)]), seed=3)
    device = torch.device("cuda", 0)
    there = replace(checkpoint, module=checkpoint.module.to(device), device=device)
    state = torch.cuda.get_rng_state(device)
    method = make(name, there)
    predictive = method.predict(plan_of(there, [*sentences(9)]), seed=3)
    well_formed(predictive, 9, 2)
    assert torch.equal(state, torch.cuda.get_rng_state(device))
    if method.coverage is None and not method.draws_once and method.passes == 1:
        np.testing.assert_allclose(predictive.probs, alone.probs, rtol=0, atol=1e-4)


#: What gives the host a value that a device has to compute first; on a CPU it costs nothing, and is seen.
WAITS = {
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
}


class Waits(TorchDispatchMode):
    """Counts them."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in WAITS
        return func(*args, **(kwargs or {}))


def waits(method: Any, plan: Plan) -> int:
    """How often the host waits in a prediction that is not the first."""
    method.predict(plan, seed=3)
    with Waits() as mode:
        method.predict(plan, seed=3)
    return mode.count


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta"])
def test_a_loop_over_passes_never_waits_for_the_device_itself(architecture: str) -> None:
    """The model asks once in each forward pass whether its mask is all ones; nothing is asked beside that.

    Duplicated passes share a forward pass, and with it what it asks.
    """
    checkpoint = tiny_checkpoint(architecture)
    plan = plan_of(checkpoint, [*sentences(9)])
    batches = len(plan.batches)
    assert waits(Frequentist(checkpoint), plan) == batches
    for passes in (1, 2, 20):
        assert waits(McDropout(checkpoint, passes=passes), plan) == passes * batches
    few, many = (waits(McDropoutBatch(checkpoint, passes=passes), plan) for passes in (2, 20))
    assert few == many <= 3 * batches


@EVERY
def test_pairs_of_texts(name: str) -> None:
    """A model of text pairs gets both sides: swapping them changes the prediction."""
    checkpoint = tiny_checkpoint("bert")
    pairs = list(zip(sentences(5, seed=1), sentences(5, seed=2), strict=True))
    method = make(name, checkpoint)
    straight = method.predict(plan_of(checkpoint, [*pairs]), seed=3)
    swapped = method.predict(plan_of(checkpoint, [(b, a) for a, b in pairs]), seed=3)
    well_formed(straight, 5, 2)
    assert (straight.probs != swapped.probs).all()


@EVERY
def test_long_texts_are_truncated_alike(name: str) -> None:
    """A text beyond the model's maximum length does not fail in any method."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, ["the film was good " * 30, "bad"])
    assert plan.truncated == 1
    well_formed(make(name, checkpoint).predict(plan, seed=3), 2, 2)


@EVERY
def test_not_finite_logits_name_the_row(name: str) -> None:
    """NaN from the model is an error that names the first row of the data set it happens for."""
    checkpoint = tiny_checkpoint()
    with torch.no_grad():
        checkpoint.module.get_input_embeddings().weight[4 + 1] = torch.nan
    plan = plan_of(checkpoint, ["the film", "good plot", "a film", "the a a a a a a"], token_budget=1000)
    method = make(name, checkpoint)
    with np.errstate(invalid="ignore"), pytest.raises(CalibenchError, match=r"not finite for row 102 "):
        method.predict(plan, seed=3)


@EVERY
def test_summary_is_one_sentence(name: str) -> None:
    """The first line of the module's docstring, which `ls methods` prints, is a full sentence."""
    summary = METHODS.summary(name)
    assert summary.endswith(".")
    assert 20 < len(summary) < 110


@pytest.mark.parametrize("method", STOCHASTIC)
def test_no_passes_is_refused(method: type[Any]) -> None:
    """Fewer than one pass is a usage error that names parameter and value."""
    with pytest.raises(UsageError, match=r"passes is 0, but must be at least 1"):
        method(tiny_checkpoint(), passes=0)


@SAMPLING
def test_one_pass_has_no_standard_error(method: type[Any]) -> None:
    """One pass says nothing about the spread over passes."""
    checkpoint = tiny_checkpoint()
    predictive = method(checkpoint, passes=1).predict(plan_of(checkpoint, [*sentences(3)]), seed=3)
    assert predictive.standard_error is None
    well_formed(predictive, 3, 2)


@SAMPLING
def test_model_without_dropout_is_refused(method: type[Any]) -> None:
    """ModernBERT's dropout probabilities of 0 are refused, naming the model."""
    with pytest.raises(RefusedError, match="deterministic on tiny-ModernBert"):
        method(tiny_checkpoint("modernbert"))


@pytest.mark.parametrize("shared", [False, True])
@SAMPLING
def test_known_answer(method: type[Any], shared: bool) -> None:
    """Mean and standard error agree with the distribution over all 64 masks of an enumerable model.

    False alarms: 24 means within 5 standard errors and 8 spreads within 15% (over 6 of theirs), below 1e-4.
    """
    known = enumerable(shared=shared)
    passes = 2000
    predictive = method(known.checkpoint, passes=passes).predict(known.plan, seed=9)
    error = known.deviation / np.sqrt(passes)
    assert (np.abs(predictive.probs - known.mean) < 5 * error).all()
    predicted = predictive.probs.argmax(axis=1)
    np.testing.assert_allclose(
        predictive.standard_error, error[np.arange(len(predicted)), predicted], rtol=0.15
    )


@pytest.mark.parametrize("shared", [False, True])
@SAMPLING
def test_passes_are_independent(method: type[Any], shared: bool) -> None:
    """Passes are uncorrelated at lags up to 3, and so are texts that do not share their mask in training.

    False alarms: 24 + 28 correlations within 5 / sqrt(2000), below 1e-4.
    """
    known = enumerable(shared=shared)
    passes = 2000
    samples = method(known.checkpoint, passes=passes).predict(known.plan, seed=9).samples
    assert samples is not None
    series = samples[:, :, 0].astype(np.float64)
    series = (series - series.mean(axis=0)) / series.std(axis=0)
    bound = 5 / np.sqrt(passes)
    for lag in (1, 2, 3):
        assert np.abs((series[lag:] * series[:-lag]).mean(axis=0)).max() < bound
    if not shared:
        between = (series.T @ series) / passes
        assert np.abs(between[~np.eye(len(between), dtype=bool)]).max() < bound


@pytest.mark.parametrize(("architecture", "attention"), EXACT)
def test_mc_dropout_is_bit_identical_to_train(architecture: str, attention: str) -> None:
    """Predictions equal those of a loop under `train()`: for each batch, for each pass, after one seed."""
    checkpoint = tiny_checkpoint(architecture, attention)
    plan = plan_of(checkpoint, [*sentences(9)])
    twin = checkpoint.twin().train()
    reference = np.empty((4, len(plan), 2))
    with torch.no_grad(), seeded(5, CPU):
        for batch in plan.batches:
            for sample in reference:
                sample[batch.index] = twin(**batch.inputs).logits.double().softmax(dim=-1).numpy()
    method = McDropout(checkpoint, passes=4)
    predictive = method.predict(plan, seed=5)
    assert method.coverage is not None
    assert method.coverage.active == method.coverage.expected
    assert np.array_equal(predictive.probs, reference.mean(axis=0))


@pytest.mark.parametrize(("architecture", "attention"), EXACT)
def test_batch_has_the_law_of_mc_dropout(architecture: str, attention: str) -> None:
    """Per text, duplicated copies and single passes pass a two-sample Kolmogorov-Smirnov test.

    False alarms: 6 texts tested at 1e-5 each, below 1e-4 per architecture.
    """
    checkpoint = tiny_checkpoint(architecture, attention)
    plan = plan_of(checkpoint, [*sentences(6)])
    single = McDropout(checkpoint, passes=400).predict(plan, seed=1).samples
    copies = McDropoutBatch(checkpoint, passes=400).predict(plan, seed=2).samples
    assert single is not None
    assert copies is not None
    for example in range(len(plan)):
        assert stats.ks_2samp(single[:, example, 0], copies[:, example, 0]).pvalue > 1e-5


@pytest.mark.parametrize("method", [McDropout, McDropoutBaal, McDropoutBatch])
def test_samples_can_be_left_out(method: type[Any]) -> None:
    """Without samples, probabilities and standard errors are the same bits."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(9)])
    kept = method(checkpoint).predict(plan, seed=3)
    lean = method(checkpoint, keep_samples=False).predict(plan, seed=3)
    assert lean.samples is None
    assert np.array_equal(kept.probs, lean.probs)
    assert np.array_equal(kept.standard_error, lean.standard_error)


def test_standard_error_is_the_sample_standard_deviation_over_root_t() -> None:
    """The standard error is that of the predicted class over the stored samples."""
    checkpoint = tiny_checkpoint(classes=3)
    predictive = McDropout(checkpoint, passes=7).predict(plan_of(checkpoint, [*sentences(9)]), seed=3)
    assert predictive.samples is not None
    deviations = predictive.samples.std(axis=0, ddof=1, dtype=np.float64)
    expected = deviations[np.arange(9), predictive.probs.argmax(axis=1)] / np.sqrt(7)
    np.testing.assert_allclose(predictive.standard_error, expected, rtol=1e-5)


def test_frequentist_agrees_across_plans() -> None:
    """Another batch plan changes a deterministic method by less than 1e-5 in float32."""
    checkpoint = tiny_checkpoint()
    texts = [*sentences(20)]
    method = Frequentist(checkpoint)
    ones = method.predict(plan_of(checkpoint, texts, token_budget=1), seed=0)
    all_at_once = method.predict(plan_of(checkpoint, texts, token_budget=10_000), seed=0)
    np.testing.assert_allclose(ones.probs, all_at_once.probs, rtol=0, atol=1e-5)


def test_pipeline_maps_scores_by_label() -> None:
    """With dropout all but off, the pipeline's classes are in the order of the checkpoint's labels."""
    checkpoint = tiny_checkpoint(classes=5, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=1e-6)
    plan = plan_of(checkpoint, [*sentences(9)])
    expected = Frequentist(checkpoint).predict(plan, seed=0).probs
    assert len(set(expected.argmax(axis=1))) > 1
    actual = HfPipelineBaal(checkpoint, passes=2).predict(plan, seed=0).probs
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_pipeline_refuses_equal_labels() -> None:
    """Two classes of one name cannot be told apart in a pipeline's output."""
    checkpoint = tiny_checkpoint()
    object.__setattr__(checkpoint, "labels", ("same", "same"))
    with pytest.raises(RefusedError, match="share a name"):
        HfPipelineBaal(checkpoint)


@pytest.mark.parametrize("method", [McDropoutBaal, HfPipelineBaal])
def test_missing_baal_says_what_to_install(method: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without BaaL the error holds the exact pip line."""
    monkeypatch.setitem(sys.modules, "baal.bayesian.dropout", None)
    with pytest.raises(CalibenchError, match=r'run: pip install "baal>=2\.0"'):
        method(tiny_checkpoint())


@pytest.mark.parametrize("method", [McDropoutBaal, HfPipelineBaal])
def test_baal_that_reaches_nothing_is_refused(method: type[Any]) -> None:
    """A model whose only live dropout is inside attention stays deterministic under BaaL's patch."""
    checkpoint = tiny_checkpoint(dropout=0.0, seq_classif_dropout=0.0)
    with pytest.raises(RefusedError, match="none of the 2 dropout sites"):
        method(checkpoint)


class Rows:
    """Counts the rows of each forward pass, and runs out of memory above a limit."""

    def __init__(self, module: nn.Module, limit: int = 10**9) -> None:
        self.seen: list[int] = []
        self.limit = limit
        module.register_forward_pre_hook(self._check, with_kwargs=True)

    def _check(self, _module: nn.Module, _args: Any, kwargs: dict[str, torch.Tensor]) -> None:
        rows = len(kwargs["input_ids"])
        if rows > self.limit:
            raise torch.OutOfMemoryError(f"{rows} rows")
        self.seen.append(rows)


def batch_problem(count: int = 6, **params: Any) -> tuple[McDropoutBatch, Plan]:
    """A method with 10 passes, and a plan that is one batch."""
    checkpoint = tiny_checkpoint()
    return McDropoutBatch(checkpoint, passes=10, **params), plan_of(
        checkpoint, [*sentences(count)], token_budget=10_000
    )


def test_copies_share_one_forward_pass() -> None:
    """With memory to spare, ten passes over six texts are one forward pass of sixty rows."""
    method, plan = batch_problem()
    method.predict(plan, seed=1)
    rows = Rows(method.modules[0])
    method.predict(plan, seed=1)
    assert rows.seen == [60]


def test_budget_bounds_the_rows() -> None:
    """A smaller budget gives more, equally large forward passes, each within it, and the same law."""
    texts = 200
    method, plan = batch_problem(texts, memory_budget_mb=1)
    method.predict(plan, seed=1)
    rows = Rows(method.modules[0])
    predictive = method.predict(plan, seed=1)
    assert sum(rows.seen) == 10 * texts
    assert 1 < len(rows.seen) < 10 * texts
    assert max(rows.seen) - min(rows.seen) < len(rows.seen)
    length = plan.batches[0].inputs["input_ids"].shape[1]
    assert max(rows.seen) * length * method._copies._bytes_per_position <= 2**20
    well_formed(predictive, texts, 2)


def test_out_of_memory_halves_the_chunk() -> None:
    """When memory runs out the rows are halved until they fit, the run goes on, and the notes say so."""
    method, plan = batch_problem()
    rows = Rows(method.modules[0], limit=20)
    predictive = method.predict(plan, seed=1)
    well_formed(predictive, 6, 2)
    assert sum(rows.seen[1:]) == 60
    assert max(rows.seen) <= 15
    shortages = [note for note in predictive.notes if note.startswith("Out of memory")]
    assert [note.split()[4] for note in shortages] == ["60", "30"]


def test_out_of_memory_at_one_row_is_an_error() -> None:
    """Where not even one text fits, the error names the device instead of going on for ever."""
    method, plan = batch_problem()
    method.predict(plan, seed=1)
    Rows(method.modules[0], limit=0)
    with pytest.raises(CalibenchError, match="Out of memory on cpu with a single text"):
        method.predict(plan, seed=1)


def test_budget_below_one_text_is_refused() -> None:
    """A stated budget that not one text fits in is a usage error that says what is needed."""
    checkpoint = tiny_checkpoint(hidden_dim=100_000)
    plan = plan_of(checkpoint, ["the film was good", "bad"])
    with pytest.raises(UsageError, match=r"memory_budget_mb is 1, but one text of 6 tokens takes \d MiB"):
        McDropoutBatch(checkpoint, memory_budget_mb=1).predict(plan, seed=1)


def test_shared_masks_run_one_copy_at_a_time() -> None:
    """DeBERTa-v2's copies are looped, as they would share `pos_dropout`'s mask, and the notes say why."""
    checkpoint = tiny_checkpoint("deberta-v2", "eager")
    plan = plan_of(checkpoint, [*sentences(6)], token_budget=10_000)
    method = McDropoutBatch(checkpoint, passes=10)
    rows = Rows(method.modules[0])
    predictive = method.predict(plan, seed=1)
    assert rows.seen[1:] == [6] * 10
    assert any("pos_dropout" in note and "no batch axis" in note for note in predictive.notes)


@pytest.mark.shared
@EVERY
def test_real_checkpoint(name: str, shared: Path) -> None:
    """On 100 sentences of SST-2 and a real checkpoint: well formed, and right more often than 80%."""
    import datasets

    from calibench.models.loading import load_checkpoint
    from calibench.models.plan import Planner

    data = datasets.load_dataset(str(shared / "data" / "sst2"), split="validation[:100]")
    checkpoint = load_checkpoint(str(shared / "models" / "sst2-minilm"), device="cpu")
    planner = Planner.of(checkpoint)
    plan = planner.plan(data["sentence"], np.arange(100, dtype=np.int64))
    few = datasets.load_dataset(str(shared / "data" / "sst2"), split="train[:100]")
    train = LabelledPlan(
        planner.plan(few["sentence"], np.arange(100, dtype=np.int64)), np.array(few["label"])
    )
    passes = {"passes": 3} if "passes" in parameters(METHODS.load(name)) else {}
    method = make(name, checkpoint, train=train, **passes)
    predictive = method.predict(plan, seed=0)
    well_formed(predictive, 100, 2)
    assert (predictive.probs.argmax(axis=1) == data["label"]).mean() > 0.8
    if method.coverage is not None:
        live = {"mc-dropout-last": 1}.get(name, 8 if "baal" in name or name == "torch-uncertainty" else 14)
        assert (method.coverage.active, method.coverage.expected) == (live, 14)
