"""Stratified MC-Dropout is MC-Dropout with less Monte-Carlo error, whatever model, plan or memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import example_inputs
from calibench.types import DropoutSite, FloatArray
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified
from calibench_methods.sampling.keyed_dropout import Intercept, KeyedDropout
from calibench_methods.sampling.sites import find_sites
from scenarios import UNITS, Known, P, disturbance, enumerable, same
from tiny_models import EXACT, plan_of, sentences, tiny_checkpoint

COVERED = pytest.mark.parametrize(("architecture", "attention"), EXACT)


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """One thread: models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def samples_of(method: McDropoutStratified | McDropout, plan: Any, seed: int) -> FloatArray:
    """The probability of the first class in each pass: float64 [T, N]."""
    samples = method.predict(plan, seed=seed).samples
    assert samples is not None
    return samples[:, :, 0].astype(np.float64)


@COVERED
def test_any_plan_and_budget_give_the_same_passes(architecture: str, attention: str) -> None:
    """One text at a time, all at once, or in chunks: every pass agrees within 1e-5 in float32."""
    checkpoint = tiny_checkpoint(architecture, attention)
    texts = [*sentences(9)]
    method = McDropoutStratified(checkpoint, passes=13)
    ones = samples_of(method, plan_of(checkpoint, texts, token_budget=1), seed=5)
    together = plan_of(checkpoint, texts, token_budget=10_000)
    assert together.padding_ratio > 0
    np.testing.assert_allclose(samples_of(method, together, seed=5), ones, rtol=0, atol=1e-5)
    rows: list[int] = []
    method.modules[0].register_forward_pre_hook(
        lambda _, __, options: rows.append(len(options["input_ids"])), with_kwargs=True
    )
    for most in (1, 4, 25):
        method._copies._most_positions = most * together.batches[0].inputs["input_ids"].shape[1]
        rows.clear()
        np.testing.assert_allclose(samples_of(method, together, seed=5), ones, rtol=0, atol=1e-5)
        assert sum(rows) == 13 * len(texts)
        assert max(rows) <= most


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "electra"])
def test_fused_and_eager_attention_draw_the_same_masks(architecture: str) -> None:
    """The masks of a pass do not depend on how attention is computed: within 1e-5 in float32."""
    passes = []
    for attention in ("eager", "sdpa"):
        checkpoint = tiny_checkpoint(architecture, attention)
        plan = plan_of(checkpoint, [*sentences(9)])
        passes.append(samples_of(McDropoutStratified(checkpoint, passes=5), plan, seed=5))
    assert passes[0].std(axis=0).min() > 1e-3
    np.testing.assert_allclose(passes[0], passes[1], rtol=0, atol=1e-5)


def test_passes_do_not_depend_on_how_many_follow() -> None:
    """Pass t is the same whatever T, so that passes can be added."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    few = samples_of(McDropoutStratified(checkpoint, passes=7), plan, seed=5)
    many = samples_of(McDropoutStratified(checkpoint, passes=24), plan, seed=5)
    np.testing.assert_allclose(many[:7], few, rtol=0, atol=1e-5)
    assert np.abs(many[10:20] - many[:10]).max() > 1e-3


def test_texts_have_masks_of_their_own() -> None:
    """One text in two rows of a data set differs in every pass, as two texts in training would."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, ["the film was good"] * 2)
    samples = samples_of(McDropoutStratified(checkpoint, passes=20), plan, seed=5)
    assert (samples[:, 0] != samples[:, 1]).all()


def test_a_shared_mask_is_one_per_copy() -> None:
    """DeBERTa-v2's copies run one per forward pass, and the notes name the site and say why."""
    checkpoint = tiny_checkpoint("deberta-v2", "eager")
    plan = plan_of(checkpoint, [*sentences(4)], token_budget=10_000)
    method = McDropoutStratified(checkpoint, passes=12)
    method.predict(plan, seed=1)
    rows: list[int] = []
    method.modules[0].register_forward_pre_hook(
        lambda _, __, options: rows.append(len(options["input_ids"])), with_kwargs=True
    )
    notes = method.predict(plan, seed=1).notes
    assert rows == [4] * 12
    assert any("pos_dropout" in note and "no batch axis" in note for note in notes)


@COVERED
def test_mean_is_that_of_mc_dropout(architecture: str, attention: str) -> None:
    """The mean of 600 passes agrees with that of 600 plain ones: 6 texts within 5 standard errors.

    The stated standard errors are conservative; false alarms below 4e-6 per architecture.
    """
    checkpoint = tiny_checkpoint(architecture, attention)
    plan = plan_of(checkpoint, [*sentences(6)], token_budget=10_000)
    plain = samples_of(McDropout(checkpoint, passes=600), plan, seed=1)
    ours = samples_of(McDropoutStratified(checkpoint, passes=600), plan, seed=2)
    error = np.sqrt((plain.var(axis=0) + ours.var(axis=0)) / 600)
    assert (np.abs(plain.mean(axis=0) - ours.mean(axis=0)) < 5 * error).all()
    # Each pass has the same spread too: 30% is more than 5 standard errors of the ratio at 600 passes.
    np.testing.assert_allclose(ours.std(axis=0), plain.std(axis=0), rtol=0.3)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [1, 7, 10])
def test_known_answer(size: int, shared: bool) -> None:
    """Mean and spread of 2000 passes agree with all 64 masks of an enumerable model, for any stratum.

    False alarms: 24 means within 5 standard errors and 8 spreads within 15% (over 6 of theirs), below 1e-4.
    """
    known = enumerable(shared=shared)
    predictive = McDropoutStratified(known.checkpoint, passes=2000, stratum_size=size).predict(
        known.plan, seed=9
    )
    assert (np.abs(predictive.probs - known.mean) < 5 * known.deviation / np.sqrt(2000)).all()
    assert predictive.samples is not None
    np.testing.assert_allclose(predictive.samples.std(axis=0), known.deviation, rtol=0.15)


def variance_by_order(known: Known) -> FloatArray:
    """The variance of one pass that interactions of k = 0 ... 6 units explain: float64 [7, N], order 0 empty.

    The Hoeffding decomposition of the first class's probability over all 64 masks.
    """
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=UNITS)))
    weights = np.prod(np.where(masks > 0, 1 - P, P), axis=1)
    model = known.checkpoint.module
    variances = np.zeros((UNITS + 1, len(known.plan)))
    for batch in known.plan.batches:
        with torch.no_grad():
            features = model.features(**batch.inputs)[None] * torch.tensor(masks)[:, None].float() / (1 - P)
            probs = model.classifier(features).softmax(dim=-1)[..., 0].double().numpy()
        standardised = (masks - (1 - P)) / np.sqrt(P * (1 - P))
        for chosen in itertools.product([False, True], repeat=UNITS):
            basis = np.prod(standardised[:, np.array(chosen)], axis=1)
            if any(chosen):
                variances[sum(chosen), batch.index] += ((weights * basis) @ probs) ** 2
    np.testing.assert_allclose(variances.sum(axis=0), known.deviation[:, 0] ** 2, rtol=1e-4)
    return variances


@pytest.mark.parametrize(("passes", "size"), [(10, 10), (7, 7), (4, 10), (3, 4), (2, 2)])
def test_variance_of_the_mean_is_the_stated_one(passes: int, size: int) -> None:
    """n passes of a stratum of T have the variance (1/n) sum_k V_k (1 + (n - 1) rho^k); here p = 0.3.

    400 strata and 8 texts: the mean ratio is good to 2.5% for normal means; the bound is six of that.
    """
    known = enumerable(count=8)
    strata = 400
    method = McDropoutStratified(known.checkpoint, passes=strata * size, stratum_size=size)
    samples = samples_of(method, known.plan, seed=9).reshape(strata, size, -1)
    seen = samples[:, :passes].mean(axis=1).var(axis=0, ddof=1)
    rest = P * size % 1
    rest = 0.0 if min(rest, 1 - rest) < 1e-9 else rest
    rho = (rest * (1 - rest) / (size * P * (1 - P)) - 1) / (size - 1)
    orders = np.arange(UNITS + 1)[:, None]
    stated = (variance_by_order(known) * (1 + (passes - 1) * rho**orders)).sum(axis=0) / passes
    assert abs((seen / stated).mean() - 1) < 0.15
    assert (stated < known.deviation[:, 0] ** 2 / passes).all()


def test_variance_of_the_mean_is_lower_in_a_transformer() -> None:
    """In a tiny DistilBERT too, the means of 200 strata of 10 vary less than s^2 / 10, over 6 texts.

    A ratio of variances has a standard error of 10%; if the six texts went together, 0.7 would still be three
    of it below independence. About 0.4 is seen.
    """
    checkpoint = tiny_checkpoint(dropout=0.1, attention_dropout=0.1, seq_classif_dropout=0.1)
    plan = plan_of(checkpoint, [*sentences(6)], token_budget=10_000)
    samples = samples_of(McDropoutStratified(checkpoint, passes=2000), plan, seed=3)
    means = samples.reshape(200, 10, -1).mean(axis=1)
    assert (10 * means.var(axis=0, ddof=1) / samples.var(axis=0)).mean() < 0.7


def test_standard_errors_keep_their_promise() -> None:
    """Squared and averaged over replicates, "strata" gives the variance of the mean, and "passes" more.

    The variance over 100 replicates of 40 passes, averaged over 8 texts, is good to 7%; the bound is 35%.
    """
    known = enumerable(count=8)
    predicted = known.mean.argmax(axis=1)
    ratios = {}
    for basis in ("passes", "strata"):
        method = McDropoutStratified(known.checkpoint, passes=40, standard_error=basis)
        runs = [method.predict(known.plan, seed=seed) for seed in range(100)]
        stated = np.stack([run.standard_error for run in runs if run.standard_error is not None])
        truth = np.stack([run.probs[np.arange(8), predicted] for run in runs]).var(axis=0, ddof=1)
        ratios[basis] = (stated**2).mean(axis=0).sum() / truth.sum()
    assert abs(ratios["strata"] - 1) < 0.35
    assert ratios["passes"] > 2


class Odd(nn.Module):
    """Draws beside `F.dropout`, folds the batch into another axis, or calls one site twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.dropout = nn.AlphaDropout(0.2) if kind == "alpha" else nn.Dropout(0.2)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "folded":
            return self.dropout(x.reshape(-1, 2)).reshape(x.shape)
        if self.kind == "turned":
            return self.dropout(x.T).T
        if self.kind == "twice":
            return torch.stack([self.dropout(x), self.dropout(x)], dim=1)
        return self.dropout(x)


def keyed(kind: str, copies: int = 4) -> KeyedDropout:
    """`Odd` with keyed masks, tried on two rows of eight ones."""
    module, inputs = Odd(kind).eval(), {"x": torch.ones(2, 8)}
    return KeyedDropout(module, find_sites(module, inputs), copies, inputs)


@pytest.mark.parametrize(("kind", "reason"), [("alpha", "draw otherwise .dropout"), ("folded", "first axis")])
def test_other_draws_are_refused(kind: str, reason: str) -> None:
    """What masks cannot answer is refused when the method is made, naming the site."""
    with pytest.raises(RefusedError, match=reason):
        keyed(kind)


def test_a_batch_on_another_axis_is_refused_even_where_lengths_agree() -> None:
    """Two rows of two units look the same turned over, and more rows do not."""
    module, inputs = Odd("turned").eval(), {"x": torch.ones(2, 2)}
    with pytest.raises(
        RefusedError, match=r"^KeyedDropout .*shape .2, 2., whose first axis is not the batch"
    ):
        KeyedDropout(module, find_sites(module, inputs), 4, inputs)


def test_a_site_called_twice_draws_twice() -> None:
    """Two calls of one module have masks of their own, and the next pass begins again with the first."""
    model = keyed("twice")
    rows, passes, device = np.arange(50), range(4), torch.device("cpu")
    model.select(seed=1, rows=rows, passes=passes, device=device)
    first = model(x=torch.ones(200, 8))
    assert set(first.unique().tolist()) == {0.0, 1.25}
    assert not torch.equal(first[:, 0], first[:, 1])
    assert torch.equal(first, model(x=torch.ones(200, 8)))
    model.select(seed=2, rows=rows, passes=passes, device=device)
    assert not torch.equal(first, model(x=torch.ones(200, 8)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_that_of_torch(dtype: torch.dtype) -> None:
    """With a drop probability of next to nothing, attention agrees with torch's own, masks included."""

    class Attention(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            q, k, v = x.unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
            p = 1e-9 if self.training else 0.0
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)

    module = Attention().eval()
    inputs = {"x": torch.randn(3, 5, 24, dtype=dtype), "mask": torch.rand(3, 1, 5, 5) < 0.7}
    inputs["mask"][..., 0] = True
    expected = module(**inputs)
    model = KeyedDropout(module, [DropoutSite("", "attention", 1e-9, active=True)], 4, inputs)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(model(**inputs), expected, rtol=tolerance, atol=tolerance)


@COVERED
def test_every_site_is_live_and_nothing_stays_patched(architecture: str, attention: str) -> None:
    """Coverage is full; model, flags, hooks, functions and the caller's generator are left as they were."""
    checkpoint = tiny_checkpoint(architecture, attention)
    before, state = disturbance(checkpoint.module), torch.get_rng_state()
    functions = (functional.dropout, functional.scaled_dot_product_attention)
    method = McDropoutStratified(checkpoint, passes=3)
    method.predict(plan_of(checkpoint, [*sentences(5)]), seed=3)
    assert method.coverage is not None
    assert method.coverage.active == method.coverage.expected
    assert method.coverage.expected == len(find_sites(checkpoint.module, example_inputs(checkpoint)))
    assert same(before, disturbance(checkpoint.module))
    assert torch.equal(state, torch.get_rng_state())
    assert functions == (functional.dropout, functional.scaled_dot_product_attention)


def test_an_interrupted_pass_leaves_no_trace() -> None:
    """After an exception inside a site, the next run gives what it would have given."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    method = McDropoutStratified(checkpoint, passes=3)
    expected = samples_of(method, plan, seed=3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    site = method.modules[0].get_submodule("model.distilbert.embeddings.dropout")
    handle = site.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        method.predict(plan, seed=3)
    handle.remove()
    assert np.array_equal(samples_of(method, plan, seed=3), expected)


def test_parameters_are_checked() -> None:
    """Sizes out of range, unknown choices and too few strata are usage errors that say what would do."""
    checkpoint = tiny_checkpoint()
    for wrong, reason in (
        ({"stratum_size": 0}, "stratum_size is 0"),
        ({"stratum_size": 32}, "32 copies: choose 1 to 31"),
        ({"standard_error": "rows"}, "choose passes or strata"),
        ({"standard_error": "strata", "passes": 10}, "no multiple of 10 from 20 on"),
        ({"standard_error": "strata", "passes": 25}, "no multiple of 10 from 20 on"),
    ):
        with pytest.raises(UsageError, match=reason):
            McDropoutStratified(checkpoint, **wrong)  # type: ignore[arg-type]


def test_a_model_without_dropout_is_refused() -> None:
    """ModernBERT's drop probabilities of 0 leave nothing to stratify."""
    with pytest.raises(RefusedError, match="deterministic"):
        McDropoutStratified(tiny_checkpoint("modernbert"))


def test_samples_can_be_left_out() -> None:
    """Without samples, probabilities and standard errors are the same, on either basis."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    for basis in ("passes", "strata"):
        kept = McDropoutStratified(checkpoint, standard_error=basis).predict(plan, seed=3)
        lean = McDropoutStratified(checkpoint, standard_error=basis, keep_samples=False).predict(plan, seed=3)
        assert lean.samples is None
        assert np.array_equal(kept.probs, lean.probs)
        assert np.array_equal(kept.standard_error, lean.standard_error)  # type: ignore[arg-type]


DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_has_the_bits_of_torch(dtype: torch.dtype, p: float) -> None:
    """A kept unit is what torch's own dropout makes of it in that dtype, whose 1 / (1 - p) may be rounded."""
    module, inputs = nn.Sequential(nn.Dropout(p)).eval(), {"input": torch.rand(2, 4000).to(dtype) + 1}
    model = KeyedDropout(module, find_sites(module, inputs), 4, inputs)
    model.select(seed=1, rows=np.arange(2), passes=range(4), device=torch.device("cpu"))
    wide = inputs["input"].repeat(4, 1)
    keyed, own = model(input=wide), functional.dropout(wide, p)
    both = (keyed != 0) & (own != 0)
    assert both.sum() > 1000
    assert torch.equal(keyed[both], own[both])


@pytest.mark.parametrize("p", [0.1, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_keeps_its_scale(dtype: torch.dtype, p: float) -> None:
    """torch's attention scales in float32, in 16 bits too, and so does ours.

    A query that looks at one key returns 0 or that key's value, scaled: the bits can be compared.
    """
    query, key = torch.zeros(1, 1, 400, 64, dtype=dtype), torch.zeros(1, 1, 1, 64, dtype=dtype)
    value = torch.linspace(1, 2, 64).to(dtype).view(1, 1, 1, 64)

    def kept() -> Tensor:
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=p)[0, 0]
        return seen[(seen != 0).all(dim=-1)][0]

    own = kept()
    with Intercept(lambda values, _, scale: values * scale):
        assert torch.equal(kept(), own)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mask", ["none", "bool", "float", "blind"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_without_a_drop_is_that_of_torch(
    dtype: torch.dtype, mask: str, groups: int, causal: bool
) -> None:
    """Causal, grouped, masked, and with queries that may look nowhere, which get 0."""
    if causal and mask != "none":
        pytest.skip("torch takes one or the other")
    query = torch.randn(2, 4, 5, 8).to(dtype)
    key, value = torch.randn(2, 2, 4 // groups, 6, 8).to(dtype).unbind()
    masks = {"bool": torch.rand(2, 1, 5, 6) < 0.7, "float": torch.randn(2, 1, 5, 6).to(dtype)}
    masks["blind"] = masks["bool"] & (torch.arange(5) > 1)[:, None]
    masks["bool"][..., 0] = True
    options: dict[str, Any] = {"attn_mask": masks.get(mask), "is_causal": causal, "enable_gqa": groups > 1}
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with Intercept(lambda values, *_: values):
        found = functional.scaled_dot_product_attention(query, key, value, dropout_p=1e-9, **options)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
