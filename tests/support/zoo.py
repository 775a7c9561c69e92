"""Tiny classifiers of many architectures, made from their configurations with random weights and dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from calibench.data.hub import quiet
from calibench.models.checkpoint import Checkpoint
from calibench.models.padding import stated
from calibench.models.plan import Planner, map_batches
from calibench.types import Batch, Plan

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
VOCABULARY = SPECIAL + WORDS
CLASSES = 3
MAX_LENGTH = 24
#: What a tokenizer puts around a text.
FRAMES = {
    "both": "[CLS] $A [SEP]",
    "end": "$A [SEP]",
    "last": "$A [SEP] [CLS]",
    "none": "$A",
}


@dataclass(frozen=True)
class Species:
    """How to make one architecture.

    Attributes:
        kind: `model_type` of its configuration.
        settings: of that configuration.
        frame: a key of `FRAMES`.
        segments: whether it takes `token_type_ids`.
        masked: whether it takes `attention_mask`.
        left: whether padding goes in front.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    frame: str = "both"
    segments: bool = False
    masked: bool = True
    left: bool = False


SIZES = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "initializer_range": 0.3}
#: BERT's names, which most encoders share.
ENCODER = SIZES | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": 0.3,
}
#: Llama's names, two heads to each key and value.
DECODER = SIZES | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "attention_dropout": 0.2,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
#: GPT-2's.
GPT = SIZES | {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 40,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.2,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
#: BART's.
PAIR = SIZES | {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "activation_dropout": 0.1,
    "classifier_dropout": 0.3,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": 3,
    "init_std": 0.3,
}
#: XLM's.
XLM = SIZES | {
    "emb_dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "summary_first_dropout": 0.3,
    "pad_index": 0,
    "unk_index": 1,
    "bos_index": 2,
    "eos_index": 3,
    "max_position_embeddings": 40,
    "n_langs": 1,
    "lang_id": 0,
}
OPT = SIZES | {
    "hidden_size": 16,
    "word_embed_proj_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 24,
    "max_position_embeddings": 40,
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "init_std": 0.3,
}
T5 = SIZES | {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.1,
    "classifier_dropout": 0.3,
    "eos_token_id": 3,
    "decoder_start_token_id": 0,
}
MODERN = {
    "attention_dropout": 0.2,
    "embedding_dropout": 0.1,
    "mlp_dropout": 0.1,
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
DEBERTA = {"pooler_dropout": 0.3, "pooler_hidden_size": 16, "type_vocab_size": 0, "relative_attention": True}
SPARSE = {"block_size": 2, "num_random_blocks": 1}
SKIPPING = {"encoder_layers": 3, "decoder_layers": 3, "encoder_layerdrop": 0.4, "decoder_layerdrop": 0.4}


def _encoder(kind: str, *, segments: bool = True, **settings: Any) -> Species:
    return Species(kind, ENCODER | settings, segments=segments)


def _decoder(kind: str, **settings: Any) -> Species:
    return Species(kind, DECODER | settings, frame="none")


ZOO: dict[str, Species] = {
    # Encoders.
    "albert": _encoder("albert", embedding_size=8, classifier_dropout_prob=0.3),
    "bert": _encoder("bert"),
    "big_bird": _encoder("big_bird", attention_type="block_sparse", **SPARSE),
    "camembert": _encoder("camembert", segments=False),
    "canine": _encoder(
        "canine", local_transformer_stride=32, attend_from_chunk_width=32, attend_to_chunk_width=32
    ),
    "convbert": _encoder("convbert", embedding_size=16, head_ratio=1, conv_kernel_size=3),
    "data2vec-text": _encoder("data2vec-text", segments=False),
    "deberta": _encoder("deberta", segments=False, pos_att_type=["p2c", "c2p"], **DEBERTA),
    "deberta-v2": _encoder(
        "deberta-v2",
        segments=False,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        **DEBERTA,
    ),
    "distilbert": Species(
        "distilbert",
        SIZES
        | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40}
        | {"dropout": 0.1, "attention_dropout": 0.2, "seq_classif_dropout": 0.3},
    ),
    "electra": _encoder("electra", embedding_size=8),
    "ernie": _encoder("ernie"),
    "esm": _encoder(
        "esm", segments=False, mask_token_id=1, token_dropout=False, position_embedding_type="rotary"
    ),
    "flaubert": Species("flaubert", XLM | {"layerdrop": 0.0}),
    "flaubert, LayerDrop": Species("flaubert", XLM | {"n_layers": 3, "layerdrop": 0.4}),
    "fnet": Species("fnet", ENCODER, segments=True, masked=False),
    "funnel": Species(
        "funnel",
        SIZES
        | {"block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24}
        | {"hidden_dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.1},
        segments=True,
    ),
    "ibert": _encoder("ibert", segments=False),
    "longformer": _encoder("longformer", segments=False, attention_window=[4, 4], sep_token_id=3),
    "megatron-bert": _encoder("megatron-bert"),
    "mobilebert": _encoder(
        "mobilebert",
        embedding_size=8,
        intra_bottleneck_size=8,
        true_hidden_size=8,
        num_feedforward_networks=2,
    ),
    "modernbert": _encoder("modernbert", segments=False, **MODERN),
    "mpnet": _encoder("mpnet", segments=False),
    "mra": _encoder("mra"),
    "nystromformer": _encoder("nystromformer", num_landmarks=8, segment_means_seq_len=8, conv_kernel_size=3),
    "reformer": Species(
        "reformer",
        SIZES
        | {"hidden_size": 16, "attn_layers": ["local", "lsh"], "num_attention_heads": 2}
        | {"attention_head_size": 8, "feed_forward_size": 24, "axial_pos_embds": False, "num_buckets": 2}
        | {"max_position_embeddings": 40, "is_decoder": False, "hidden_dropout_prob": 0.1}
        | {"lsh_attn_chunk_length": 1, "local_attn_chunk_length": 1},
    ),
    "rembert": _encoder("rembert", input_embedding_size=8, output_embedding_size=8),
    "roberta": _encoder("roberta", segments=False),
    "roberta-prelayernorm": _encoder("roberta-prelayernorm", segments=False),
    "roformer": _encoder("roformer", embedding_size=16),
    "squeezebert": _encoder(
        "squeezebert",
        embedding_size=16,
        q_groups=2,
        k_groups=2,
        v_groups=2,
        post_attention_groups=1,
        intermediate_groups=2,
        output_groups=2,
    ),
    "xlm": Species("xlm", XLM),
    "xlm-roberta": _encoder("xlm-roberta", segments=False),
    "xlm-roberta-xl": _encoder("xlm-roberta-xl", segments=False),
    "xlnet": Species(
        "xlnet",
        SIZES
        | {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}
        | {"dropout": 0.1, "summary_last_dropout": 0.3},
        frame="last",
        segments=True,
        left=True,
    ),
    "xmod": _encoder("xmod", segments=False, default_language="en_XX", languages=["en_XX"]),
    "yoso": _encoder("yoso"),
    # Decoders.
    "biogpt": Species("biogpt", ENCODER | {"layerdrop": 0.0, "eos_token_id": 3}, frame="none"),
    "bloom": Species(
        "bloom",
        SIZES
        | {"hidden_size": 16, "n_layer": 2, "n_head": 2}
        | {"hidden_dropout": 0.1, "attention_dropout": 0.2},
        frame="none",
    ),
    "ctrl": Species("ctrl", GPT | {"dff": 24}, frame="none"),
    "falcon": _decoder("falcon", hidden_dropout=0.1),
    "gemma": _decoder("gemma", head_dim=8),
    "gemma2": _decoder("gemma2", head_dim=8),
    "gpt2": Species("gpt2", GPT, frame="none"),
    "gpt_neo": Species(
        "gpt_neo",
        SIZES
        | {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 40}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 4, "classifier_dropout": 0.3}
        | {"resid_dropout": 0.1, "embed_dropout": 0.1, "attention_dropout": 0.2},
        frame="none",
    ),
    "gpt_neox": _decoder("gpt_neox", hidden_dropout=0.1, classifier_dropout=0.3),
    "gptj": Species("gptj", GPT | {"rotary_dim": 4}, frame="none"),
    "llama": _decoder("llama"),
    "mistral": _decoder("mistral", num_key_value_heads=1),
    "mixtral": _decoder("mixtral", num_local_experts=2, router_jitter_noise=0.1),
    "mpt": Species(
        "mpt",
        SIZES
        | {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 40}
        | {"resid_pdrop": 0.1, "emb_pdrop": 0.1},
        frame="none",
    ),
    "openai-gpt": Species("openai-gpt", GPT, frame="none"),
    "opt": Species("opt", OPT, frame="none"),
    "opt, LayerDrop": Species("opt", OPT | {"num_hidden_layers": 3, "layerdrop": 0.4}, frame="none"),
    "phi": _decoder("phi", resid_pdrop=0.1, embd_pdrop=0.1),
    "phi3": _decoder("phi3", resid_pdrop=0.1, embd_pdrop=0.1),
    "qwen2": _decoder("qwen2"),
    "qwen3": _decoder("qwen3", head_dim=8),
    "stablelm": _decoder("stablelm", hidden_dropout=0.1),
    "starcoder2": _decoder("starcoder2", residual_dropout=0.1, embedding_dropout=0.1),
    # Encoders with decoders.
    "bart": Species("bart", PAIR),
    "bart, LayerDrop": Species("bart", PAIR | SKIPPING),
    "bigbird_pegasus": Species("bigbird_pegasus", PAIR | SPARSE | {"attention_type": "block_sparse"}),
    "mbart": Species("mbart", PAIR, frame="end"),
    "mt5": Species("mt5", T5, frame="end"),
    "mvp": Species("mvp", PAIR),
    "plbart": Species("plbart", PAIR, frame="end"),
    "t5": Species("t5", T5, frame="end"),
    "umt5": Species("umt5", T5, frame="end"),
}


def attentions(name: str) -> tuple[str, ...]:
    """The attentions that an architecture runs on a CPU, of "sdpa" and "eager"."""
    return ("sdpa", "eager") if model_class(name)._supports_sdpa else ("eager",)


def model_class(name: str) -> Any:
    """The classifier of an architecture."""
    return AutoModelForSequenceClassification._model_mapping[type(_config(name))]


@cache
def _config(name: str) -> Any:
    species = ZOO[name]
    return AutoConfig.for_model(species.kind, **species.settings, num_labels=CLASSES)


def checkpoint(name: str, attention: str = "eager", **settings: Any) -> Checkpoint:
    """A classifier in eval mode, always the same for the same arguments, with its tokenizer."""
    module, own = raw(name, attention, **settings), tokenizer(ZOO[name])
    return Checkpoint(
        module=module,
        tokenizer=own,
        labels=tuple(f"class {k}" for k in range(CLASSES)),
        name=name,
        revision=None,
        sha256="",
        source="folder",
        device=torch.device("cpu"),
        dtype=torch.float32,
        attention=attention,
        load_s=0.0,
        padding=stated(module, own),
    )


def raw(name: str, attention: str = "eager", **settings: Any) -> Any:
    """The model of `checkpoint`, as the library makes it."""
    species = ZOO[name]
    with torch.random.fork_rng(devices=[]), quiet("transformers"):
        torch.manual_seed(7)
        module = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(species.kind, **species.settings | {"num_labels": CLASSES} | settings),
            attn_implementation=attention,
        )
        _spread(module)
    return module.eval()


def _spread(module: torch.nn.Module) -> None:
    """Make weights wide enough that logits differ between texts and passes."""
    with torch.no_grad():
        for value in module.parameters():
            if value.dim() > 1 and value.std() < 0.1:
                value.normal_(0, 0.3)


def tokenizer(species: Species) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of `WORDS`."""
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(
        single=FRAMES[species.frame], special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids"]
    names += ["token_type_ids"] if species.segments else []
    names += ["attention_mask"] if species.masked else []
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=MAX_LENGTH,
        model_input_names=names,
        padding_side="left" if species.left else "right",
    )


#: Texts of 1 to 20 words.
TEXTS = tuple(
    " ".join(np.random.default_rng(size).choice(WORDS, size=size)) for size in (*range(1, 21), 2, 3, 5, 8)
)


def beside_alone(made: Checkpoint) -> float:
    """The largest change of a probability between a text in a plan's batch and alone; NaN where it fails."""
    planner = [Planner.of(made, token_budget=128, batch_size=size) for size in (None, 1)]
    plans = [one.plan(TEXTS, np.arange(len(TEXTS), dtype=np.int64)) for one in planner]
    try:
        together, alone = (map_batches(one, lambda batch: _softmax(made, batch)) for one in plans)
    except RuntimeError:
        return float("nan")
    return float(np.abs(together - alone).max())


def _softmax(made: Checkpoint, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = made.module(**batch.inputs).logits.double().softmax(-1)
    return found


def plan(made: Checkpoint, count: int = 5, *, words: int = 8, budget: int = 16) -> Plan:
    """A plan of `count` texts of 1 to `words` words, in more batches than one; rows are 100, 101, ..."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, size=size)) for size in rng.integers(1, words + 1, size=count)]
    planner = Planner(made.tokenizer, made.device, MAX_LENGTH, budget)
    return planner.plan(texts, np.arange(100, 100 + count, dtype=np.int64))
