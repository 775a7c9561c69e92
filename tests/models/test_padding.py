"""A text's answer is its own: what tokenizer, config or architecture do to padding is found and mended."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import zoo
from calibench.errors import UsageError
from calibench.models.checkpoint import Checkpoint, Padding
from calibench.models.loading import load_checkpoint
from calibench.models.padding import padded, settle_padding
from calibench.models.plan import Planner
from calibench_methods import MCDropout
from calibench_methods.dropout.mc_dropout_adaptive import McDropoutAdaptive
from calibench_methods.one_pass.frequentist import Frequentist
from tiny_models import SPECIAL, WORDS, sentences, tiny_checkpoint, tiny_model, tiny_tokenizer

#: Architectures of the zoo whose answer depends on padding on either side.
SEES_PADDING = {"canine", "convbert", "fnet", "nystromformer", "yoso"}
#: Those that draw random numbers in eval mode, and those that fail on the short texts there.
DRAWS, FAILS_ALONE = {"reformer"}, {"canine"}
VOCABULARY = len(SPECIAL) + len(WORDS)
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.4}
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "init_std": 0.4,
    "decoder_start_token_id": 3,
}
#: Configuration, and whether texts are framed by special tokens.
ARCHITECTURES: dict[str, tuple[type[Any], dict[str, Any], bool]] = {
    "gpt2": (transformers.GPT2Config, GPT2, False),
    "gpt-neo": (
        transformers.GPTNeoConfig,
        {"hidden_size": 16, "num_layers": 2, "attention_types": [[["global"], 2]], "num_heads": 2}
        | {"max_position_embeddings": 64, "initializer_range": 0.4},
        False,
    ),
    "llama": (transformers.LlamaConfig, SMALL | {"num_key_value_heads": 2}, False),
    "bart": (transformers.BartConfig, BART, True),
    "xlm-roberta": (transformers.XLMRobertaConfig, SMALL, True),
    "fnet": (
        transformers.FNetConfig,
        {key: value for key, value in SMALL.items() if key != "num_attention_heads"},
        True,
    ),
    "convbert": (transformers.ConvBertConfig, SMALL | {"embedding_size": 16}, True),
    "bert": (transformers.BertConfig, SMALL, True),
}


def saved(
    folder: Path, name: str, *, side: str = "right", pad: str | None = "[PAD]", pad_id: int | None = 0
) -> str:
    """A folder with a random classifier; its tokenizer pads with `pad`, and its config says `pad_id`."""
    make, given, framed = ARCHITECTURES[name]
    common = {"vocab_size": VOCABULARY, "num_labels": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = make(**common | {"pad_token_id": pad_id} | given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = transformers.AutoModelForSequenceClassification.from_config(config)
        for parameter_name, parameter in module.named_parameters():
            if parameter.dim() == 2 and ("score" in parameter_name or "classif" in parameter_name):
                torch.nn.init.normal_(parameter)
    backend = tiny_tokenizer("bert").backend_tokenizer
    if not framed:
        backend.post_processor = None
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    # A side that is set later is not saved (transformers 5.23).
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side=side,
        model_max_length=60,
        **special,
        **({} if pad is None else {"pad_token": pad}),
    )
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def alone(checkpoint: Checkpoint, texts: list[str]) -> np.ndarray:
    """The model's own answer to each text by itself, as a user gets it: the truth."""
    taken = inspect.signature(checkpoint.module.forward).parameters
    found = []
    for text in texts:
        encoded = checkpoint.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            logits = checkpoint.module(**{k: v for k, v in encoded.items() if k in taken}).logits
        found.append(logits[0].double().softmax(-1).numpy())
    return np.array(found)


def predicted(checkpoint: Checkpoint, texts: list[str]) -> np.ndarray:
    """What the harness makes of them in batches."""
    plan = Planner.of(checkpoint, token_budget=64).plan(texts, np.arange(len(texts)))
    return Frequentist(checkpoint).predict(plan, seed=0).probs


TEXTS = sentences(24, seed=3, longest=14)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_text_gets_the_answer_that_it_gets_alone(tmp_path: Path, name: str, side: str) -> None:
    """Whichever side the tokenizer pads on, and whether or not the model sees its padding."""
    checkpoint = load_checkpoint(saved(tmp_path, name, side=side))
    truth = alone(checkpoint, TEXTS)
    settled = settle_padding(checkpoint, TEXTS)
    mended = padded(checkpoint, settled.padding)
    np.testing.assert_allclose(predicted(mended, TEXTS), truth, atol=1e-5)
    np.testing.assert_allclose(alone(mended, TEXTS), truth, atol=1e-6)
    assert settled.difference <= 1e-5
    assert (settled.padding.side == "none") == (name in {"fnet", "convbert"})
    assert (settled.note is None) == (settled.padding == checkpoint.padding)


@pytest.mark.parametrize("name", ["gpt2", "fnet"])
def test_without_mending_the_answer_is_another(tmp_path: Path, name: str) -> None:
    """So that the test above can fail."""
    checkpoint = load_checkpoint(saved(tmp_path, name, side="left"))
    assert np.abs(predicted(checkpoint, TEXTS) - alone(checkpoint, TEXTS)).max() > 0.1


@pytest.mark.parametrize(
    ("pad", "pad_id"), [("[PAD]", None), ("[SEP]", 0), ("[PAD]", 3), (None, None), (None, 0)]
)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_pad_ids_that_do_not_agree_are_no_matter(
    tmp_path: Path, name: str, pad: str | None, pad_id: int | None
) -> None:
    """None in the config, two that differ, or no padding token: heads read the last token all the same."""
    checkpoint = load_checkpoint(saved(tmp_path, name, pad=pad, pad_id=pad_id))
    truth = alone(checkpoint, TEXTS)
    settled = settle_padding(checkpoint, TEXTS)
    mended = padded(checkpoint, settled.padding)
    np.testing.assert_allclose(predicted(mended, TEXTS), truth, atol=1e-5)
    if pad is None:
        assert settled.padding.side == "none"
        assert settled.note is not None
        assert "no padding token" in settled.note


@pytest.mark.parametrize("pad_id", [None, 1])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_that_ends_in_a_padding_token_is_tried(tmp_path: Path, name: str, pad_id: int | None) -> None:
    """One in a hundred, whose last words are unknown where [UNK] pads; its own answer reads them or not."""
    checkpoint = load_checkpoint(saved(tmp_path, name, pad="[UNK]", pad_id=pad_id))
    texts = [*sentences(99, seed=5, longest=14), "the film was zzz"]
    truth = alone(checkpoint, texts)
    mended = padded(checkpoint, settle_padding(checkpoint, texts).padding)
    np.testing.assert_allclose(predicted(mended, texts), truth, atol=1e-5)
    assert (mended.padding.side == "none") == (pad_id is None)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_batched_is_alone_for_every_architecture(name: str) -> None:
    """In the batches of a plan, in float32, whatever had to be done about padding."""
    checkpoint = zoo.checkpoint(name)
    settled = settle_padding(checkpoint, zoo.TEXTS)
    found = zoo.beside_alone(padded(checkpoint, settled.padding))
    if name in DRAWS:
        assert settled.note is not None
        assert settled.note.startswith("This model draws random numbers whenever it runs")
    elif name in FAILS_ALONE:
        assert np.isnan(found)
    else:
        assert found < 2e-6
    assert (settled.padding.side == "none") == (name in SEES_PADDING)


def test_batched_is_not_alone_unless_it_is_settled() -> None:
    """So that the test above can fail."""
    for name in SEES_PADDING - FAILS_ALONE:
        assert zoo.beside_alone(zoo.checkpoint(name)) > 1e-3


def test_the_batches_of_others_allow_one_side(tmp_path: Path) -> None:
    """With either pad id; where the side does not do, none is taken, and where there is none, any id does."""
    checkpoint = load_checkpoint(saved(tmp_path, "gpt2", pad_id=3))
    assert settle_padding(checkpoint, TEXTS, side="right").padding == Padding("right", 0)
    assert settle_padding(checkpoint, TEXTS, side="left").padding.side == "none"
    assert settle_padding(checkpoint, TEXTS, side="none").padding == Padding("none", 3)


class Crowd(torch.nn.Module):
    """A model whose answer depends on how many texts are in the batch, or on padding a little."""

    def __init__(self, inner: Any, amount: float, *, by_padding: bool) -> None:
        super().__init__()
        self.inner, self.amount, self.by_padding = inner, amount, by_padding
        self.config = inner.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        found = self.inner(input_ids, attention_mask)
        lacking = (1 - attention_mask).sum(1, keepdim=True) if self.by_padding else len(input_ids) - 1
        found.logits[:, :1] += self.amount * lacking
        return found


def test_an_answer_that_depends_on_the_batch_is_noted() -> None:
    """Copies of a text change it, which no padding mends."""
    checkpoint = tiny_checkpoint("distilbert")
    crowd = replace(checkpoint, module=Crowd(checkpoint.module, 0.5, by_padding=False))
    note = settle_padding(crowd, TEXTS).note
    assert note is not None
    assert note.startswith("Beside copies of itself a text's answer changes by up to 0.")
    assert note.endswith(": pass -b 1.")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_rounding_would_hide_is_seen_in_float32(dtype: str) -> None:
    """A change by padding that is as small as rounding in the checkpoint's own dtype."""
    checkpoint = tiny_checkpoint("distilbert")
    module = Crowd(checkpoint.twin(dtype), 0.0002, by_padding=True)
    narrow = replace(checkpoint, module=module, dtype=getattr(torch, dtype))
    assert settle_padding(narrow, TEXTS).padding.side == "none"
    plain = replace(checkpoint, module=checkpoint.twin(dtype), dtype=getattr(torch, dtype))
    assert settle_padding(plain, TEXTS).padding.side == "right"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize(
    ("name", "side"), [("bert", "right"), ("gpt2", "right"), ("gpt2", "left"), ("convbert", "right")]
)
def test_rounding_is_told_from_padding(tmp_path: Path, name: str, side: str, dtype: str) -> None:
    """In dtypes in which a batch changes the last bits by itself, and in one in which it does not."""
    checkpoint = load_checkpoint(saved(tmp_path, name, side=side), dtype=dtype)
    settled = settle_padding(checkpoint, TEXTS)
    assert settled.padding.side == ("none" if name == "convbert" else "right")


def test_trying_leaves_the_checkpoint_as_it_was(tmp_path: Path) -> None:
    """Config, tokenizer, weights and the caller's random numbers."""
    checkpoint = load_checkpoint(saved(tmp_path, "gpt2", side="left", pad_id=None))
    before = {name: value.clone() for name, value in checkpoint.module.state_dict().items()}
    state = torch.get_rng_state()
    settle_padding(checkpoint, TEXTS)
    assert checkpoint.padding == Padding("left", None)
    assert checkpoint.module.config.pad_token_id is None
    assert checkpoint.tokenizer.padding_side == "left"
    assert torch.equal(torch.get_rng_state(), state)
    assert not checkpoint.module.training
    for name, value in checkpoint.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_where_nothing_is_padded_batches_hold_one_length() -> None:
    """And every text is in one of them."""
    tokenizer = tiny_tokenizer()
    plan = Planner(tokenizer, "cpu", 40, 64, padding="none").plan(TEXTS, np.arange(len(TEXTS)))
    assert plan.padding_ratio == 0.0
    assert sorted(int(i) for batch in plan.batches for i in batch.index) == list(range(len(TEXTS)))
    assert all(batch.inputs["attention_mask"].all() for batch in plan.batches)
    assert max(len(batch) for batch in plan.batches) > 1


def test_the_adaptive_method_packs_nothing_that_needs_padding() -> None:
    """It packs texts anew after every rung; unlike lengths share a pass only where padding is unseen."""
    checkpoint = padded(tiny_checkpoint("distilbert"), Padding("none", 0))
    seen: list[torch.Tensor] = []
    method = McDropoutAdaptive(checkpoint)
    hook = method.modules[0].register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    plan = Planner.of(checkpoint, token_budget=64).plan(TEXTS, np.arange(len(TEXTS)))
    method.predict(plan, seed=0)
    hook.remove()
    unpadded = [mask for mask in seen if bool(mask.all())]
    assert len(unpadded) == len(seen) > 1


def test_mc_dropout_for_applications_is_mended_too() -> None:
    """One text and one seed give one answer, whoever is asked beside it."""
    module, tokenizer = tiny_model("roberta"), tiny_tokenizer("roberta")
    tokenizer.padding_side = "left"
    ask = MCDropout(module, tokenizer, passes=8)
    short, long = "good", " ".join(["the film was very good"] * 5)
    np.testing.assert_allclose(ask([short]).probs[0], ask([short, long]).probs[0], atol=1e-6)
    assert tokenizer.padding_side == "left"


def test_a_text_without_tokens_is_named_by_its_row(tmp_path: Path) -> None:
    """Before anything is measured; a tokenizer that frames texts makes two tokens of it."""
    planner = Planner.of(load_checkpoint(saved(tmp_path, "gpt2")))
    with pytest.raises(UsageError, match=r"Row 12 has no tokens \(its text is ''\), as have 1 more"):
        planner.plan(["good", "bad", "", "dull", ""], np.arange(10, 15))
    framed = Planner.of(tiny_checkpoint("bert")).plan(["good", ""], np.arange(2))
    assert [len(ids) for ids in framed.token_ids] == [3, 2]


def test_an_end_token_as_a_word_is_named_by_its_row(tmp_path: Path) -> None:
    """BART reads its answer at the last one, and wants as many in all texts of a batch."""
    checkpoint = load_checkpoint(saved(tmp_path, "bart"))
    texts = ["good film", "good [SEP] bad", "dull"]
    with pytest.raises(UsageError, match=r"Row 11 holds '\[SEP\]' as a word.*-b 1"):
        Planner.of(checkpoint).plan(texts, np.arange(10, 13))
    plan = Planner.of(checkpoint, batch_size=1).plan(texts, np.arange(10, 13))
    np.testing.assert_allclose(
        Frequentist(checkpoint).predict(plan, seed=0).probs, alone(checkpoint, texts), atol=1e-6
    )


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_below_one_is_no_limit(tmp_path: Path, limit: int) -> None:
    """XLNet states -1 positions."""
    checkpoint = load_checkpoint(saved(tmp_path, "llama"))
    checkpoint.module.config.max_position_embeddings = limit
    checkpoint.tokenizer.model_max_length = 60
    assert checkpoint.max_length == 60
    checkpoint.tokenizer.model_max_length = limit
    assert checkpoint.max_length == 512


def test_models_without_a_table_of_tokens_load(tmp_path: Path) -> None:
    """CANINE hashes characters and has a tokenizer in Python alone; what it cuts is counted."""
    config = transformers.CanineConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, num_hash_buckets=64, num_hash_functions=2, num_labels=2,
    )  # fmt: skip
    transformers.CanineForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.CanineTokenizer(model_max_length=256).save_pretrained(tmp_path)
    checkpoint = load_checkpoint(str(tmp_path))
    plan = Planner.of(checkpoint).plan(["a" * 400, "b" * 254, "c" * 255], np.arange(3))
    assert plan.truncated == 2
    assert [len(ids) for ids in plan.token_ids] == [256, 256, 256]


def test_an_embedding_of_another_class_is_no_hindrance(tmp_path: Path) -> None:
    """I-BERT's is a QuantEmbedding."""
    config = transformers.IBertConfig(
        **SMALL, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=2, eos_token_id=3
    )
    transformers.IBertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    checkpoint = load_checkpoint(str(tmp_path))
    settled = settle_padding(checkpoint, TEXTS)
    np.testing.assert_allclose(
        predicted(padded(checkpoint, settled.padding), TEXTS), alone(checkpoint, TEXTS), atol=1e-5
    )
