"""The batch plan: what goes into a batch, that nothing is lost, and that padding never shows in a result."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.errors import UsageError
from calibench.hashing import plan_sha256
from calibench.models.checkpoint import Checkpoint
from calibench.models.plan import DEFAULT_TOKEN_BUDGET, Planner, blocks, map_batches, positions
from calibench.types import Batch, Plan, Text
from tiny_models import EXACT, MAX_LENGTH, WORDS, sentences, tiny_checkpoint, tiny_tokenizer

CPU = torch.device("cpu")
texts_strategy = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=MAX_LENGTH + 5).map(" ".join), min_size=1, max_size=25
)


def planner(token_budget: int = 64, batch_size: int | None = None, side: str = "right") -> Planner:
    """A planner of word-level tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    return Planner(tokenizer, CPU, MAX_LENGTH, token_budget, batch_size)


def rows_of(texts: list[str]) -> np.ndarray:
    """Rows that are never mistaken for positions."""
    return np.arange(100, 100 + len(texts), dtype=np.int64)


def probabilities(checkpoint: Checkpoint, plan: Plan) -> np.ndarray:
    """[N, C] of one deterministic pass."""

    @torch.inference_mode()
    def one_pass(batch: Batch) -> torch.Tensor:
        return torch.softmax(checkpoint.module(**batch.inputs).logits, dim=-1)

    return map_batches(plan, one_pass)


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 200), st.none() | st.integers(1, 6), st.sampled_from(["left", "right"]))
def test_batches_hold_every_example_once_within_both_limits(
    texts: list[str], budget: int, cap: int | None, side: str
) -> None:
    """Every text is in one batch with its own ids, masked in, and only a lone text exceeds the budget."""
    plan = planner(budget, cap, side).plan(texts, rows_of(texts))
    order = np.concatenate([batch.index for batch in plan.batches])
    assert sorted(order) == list(range(len(texts)))
    for batch in plan.batches:
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        assert ids.dtype == mask.dtype == torch.int64
        assert batch.index.dtype == np.int64
        assert ids.numel() <= budget or len(batch) == 1
        assert cap is None or len(batch) <= cap
        assert ids.shape[1] == max(len(plan.token_ids[i]) for i in batch.index)
        for row, i in enumerate(batch.index):
            length = len(plan.token_ids[i])
            real = slice(ids.shape[1] - length, None) if side == "left" else slice(length)
            assert tuple(ids[row, real].tolist()) == plan.token_ids[i]
            assert mask[row, real].all()
            assert mask[row].sum() == length
            assert (ids[row][mask[row] == 0] == 0).all()


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 200), st.none() | st.integers(1, 6))
def test_batches_are_greedy_and_sorted_by_length(texts: list[str], budget: int, cap: int | None) -> None:
    """Lengths ascend, equal lengths keep their order, and no batch could have taken the next example."""
    plan = planner(budget, cap).plan(texts, rows_of(texts))
    order = [(len(plan.token_ids[i]), i) for batch in plan.batches for i in batch.index]
    assert order == sorted(order)
    for batch, following in zip(plan.batches, plan.batches[1:], strict=False):
        length = len(plan.token_ids[following.index[0]])
        assert (len(batch) + 1) * length > budget or len(batch) == cap


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 200))
def test_the_counts_of_a_plan_are_those_of_its_tensors(texts: list[str], budget: int) -> None:
    """Tokens, padding ratio and truncations, counted another way."""
    plan = planner(budget).plan(texts, rows_of(texts))
    masks = [batch.inputs["attention_mask"] for batch in plan.batches]
    assert plan.tokens == sum(int(mask.sum()) for mask in masks)
    padding = sum(int((1 - mask).sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert plan.padding_ratio == pytest.approx(padding, abs=1e-12)
    assert plan.truncated == sum(len(text.split()) + 2 > MAX_LENGTH for text in texts)
    assert max(map(len, plan.token_ids)) <= MAX_LENGTH


@settings(deadline=None)
@given(texts_strategy, st.integers(8, 100), st.integers(1, 8))
def test_blocks_deal_every_batch_once(texts: list[str], budget: int, count: int) -> None:
    """No batch is lost or cut, no block is empty, and block i starts with batch i."""
    plan = planner(budget).plan(texts, rows_of(texts))
    dealt = blocks(plan, count)
    assert len(dealt) == min(count, len(plan.batches))
    assert all(dealt)
    for i, batch in enumerate(plan.batches):
        np.testing.assert_array_equal(dealt[i % len(dealt)][i // len(dealt)], batch.index)


@settings(deadline=None)
@given(texts_strategy, st.integers(8, 100), st.integers(1, 8), st.data())
def test_an_assembled_block_has_the_very_batches_of_the_plan(
    texts: list[str], budget: int, count: int, data: st.DataObject
) -> None:
    """Tokenising a block again gives the same tensors, and positions that lead back to the plan."""
    maker = planner(budget)
    plan = maker.plan(texts, rows_of(texts))
    dealt = blocks(plan, count)
    chosen = data.draw(st.integers(0, len(dealt) - 1))
    part = maker.assemble(plan.texts, plan.rows, dealt[chosen])
    places = positions(dealt[chosen])
    assert part.texts == tuple(texts[i] for i in places)
    np.testing.assert_array_equal(part.rows, plan.rows[places])
    assert part.token_ids == tuple(plan.token_ids[i] for i in places)
    for batch, original in zip(part.batches, plan.batches[chosen :: len(dealt)], strict=True):
        np.testing.assert_array_equal(places[batch.index], original.index)
        for name, tensor in original.inputs.items():
            torch.testing.assert_close(batch.inputs[name], tensor, rtol=0, atol=0)


def test_assembling_every_batch_gives_the_plan_again() -> None:
    """The whole plan, timed from text to tensors, is the plan that the methods were given."""
    texts = sentences(30)
    plan = planner().plan(texts, rows_of(texts))
    again = planner().assemble(texts, plan.rows, [batch.index for batch in plan.batches])
    assert plan_sha256(again) == plan_sha256(plan)
    assert again.padding_ratio == plan.padding_ratio
    np.testing.assert_array_equal(again.rows, plan.rows)


@pytest.mark.parametrize(
    ("architecture", "attention"), [*EXACT, ("modernbert", "eager"), ("modernbert", "sdpa")]
)
def test_the_batch_plan_does_not_show_in_the_probabilities(architecture: str, attention: str) -> None:
    """A deterministic float32 model agrees within 1e-5 whatever a text shares its batch with."""
    checkpoint = tiny_checkpoint(architecture, attention, classes=3)
    texts = sentences(60, longest=30)
    alone = probabilities(checkpoint, planner(batch_size=1).plan(texts, rows_of(texts)))
    assert np.ptp(alone, axis=0).max() > 0.1, "a model that says the same of every text shows nothing"
    for budget in (32, 100, 4096):
        plan = planner(budget).plan(texts, rows_of(texts))
        np.testing.assert_allclose(probabilities(checkpoint, plan), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_pairs_are_joined_as_the_tokenizer_joins_them(architecture: str) -> None:
    """Ids and, where the model takes them, token types equal those of a padded call of the tokenizer."""
    tokenizer = tiny_tokenizer(architecture)
    pairs: list[Text] = list(zip(sentences(12), sentences(12, seed=1), strict=True))
    plan = Planner(tokenizer, CPU, MAX_LENGTH, 60).plan(pairs, np.arange(12))
    assert plan.texts == tuple(pairs)
    for batch in plan.batches:
        first, second = zip(*(pairs[i] for i in batch.index), strict=True)
        expected = tokenizer(list(first), list(second), padding=True, return_tensors="pt")
        assert set(batch.inputs) == set(expected)
        assert ("token_type_ids" in expected) == (architecture == "bert")
        for name, tensor in expected.items():
            torch.testing.assert_close(batch.inputs[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_mapped_results_come_back_in_plan_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """A function that names the example it was given shows where its result ended up, passes in front."""
    texts = sentences(20)
    plan = planner().plan(texts, rows_of(texts))

    def name_examples(batch: Batch) -> torch.Tensor:
        return torch.tensor(batch.index, dtype=dtype)[:, None].expand(*shape, len(batch), 3)

    result = map_batches(plan, name_examples)
    assert result.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_array_equal(result, np.broadcast_to(np.arange(20)[:, None], (*shape, 20, 3)))
    arrays = map_batches(plan, lambda batch: name_examples(batch).double().numpy())
    np.testing.assert_array_equal(arrays, result)


def test_no_texts_make_an_empty_plan() -> None:
    """Nothing in, nothing out, and mapping over nothing is refused because its width is unknown."""
    plan = planner().plan([], np.arange(0))
    assert len(plan) == len(plan.batches) == plan.tokens == plan.truncated == 0
    assert blocks(plan, 3) == []
    with pytest.raises(ValueError, match="no batches"):
        map_batches(plan, lambda batch: batch.inputs["input_ids"])


def test_a_text_too_long_for_the_tokenizer_is_cut_in_silence() -> None:
    """Truncation is counted and nothing is printed or warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = planner().plan(["film " * 500, "good"], np.arange(2))
    assert (plan.truncated, plan.tokens) == (1, MAX_LENGTH + 3)


def test_the_hash_of_a_plan_sees_ids_and_batches_only() -> None:
    """Another budget or text changes it; other rows and the padding side do not."""
    texts = sentences(30)
    reference = plan_sha256(planner().plan(texts, rows_of(texts)))
    assert plan_sha256(planner(side="left").plan(texts, np.arange(30))) == reference
    assert plan_sha256(planner(token_budget=48).plan(texts, rows_of(texts))) != reference
    assert plan_sha256(planner().plan([*texts[:-1], "good film"], rows_of(texts))) != reference


def test_the_planner_of_a_checkpoint_takes_its_limits() -> None:
    """Maximum length and device come from the checkpoint, the budget is the same everywhere."""
    maker = Planner.of(tiny_checkpoint("distilbert"))
    assert (maker.max_length, maker.token_budget, maker.batch_size) == (
        MAX_LENGTH,
        DEFAULT_TOKEN_BUDGET,
        None,
    )
    assert Planner.of(tiny_checkpoint("distilbert"), token_budget=7, batch_size=2).token_budget == 7


@pytest.mark.parametrize("sizes", [{"token_budget": 0}, {"token_budget": 9, "batch_size": -1}])
def test_sizes_below_one_are_refused(sizes: dict[str, int]) -> None:
    """A batch cannot hold less than one example."""
    with pytest.raises(UsageError, match=r"pass a whole number of at least 1"):
        planner(**sizes)


def test_a_tokenizer_without_padding_can_plan_where_nothing_is_padded() -> None:
    """Texts of one length share a batch without a padding token."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    plan = Planner(tokenizer, CPU, MAX_LENGTH, padding="none").plan(["good", "bad", "a film"], np.arange(3))
    assert [len(batch) for batch in plan.batches] == [2, 1]
