"""Classifiers small enough to run in milliseconds, of the architectures that mc-dropout covers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from calibench.hashing import weights_sha256
from calibench.models.checkpoint import Checkpoint, Padding
from calibench.models.padding import stated
from calibench.models.plan import Planner
from calibench.types import Plan, Text

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# fmt: off
WORDS = (
    "the", "a", "film", "plot", "cast", "is", "was", "not", "very",
    "truly", "good", "bad", "dull", "bright", "slow", "and", "but",
)
# fmt: on
MAX_LENGTH = 40
#: Where the contract tests run; `scripts/gpu_acceptance.py` says another.
DEVICE = torch.device(os.environ.get("CALIBENCH_TEST_DEVICE", "cpu"))

# BERT's names for things; the tables below say what differs.
COMMON = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": MAX_LENGTH + 2,
    "pad_token_id": 0,
    # Wide enough that logits differ between texts and passes.
    "initializer_range": 0.4,
}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.3}
CONFIGS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "distilbert": (
        DistilBertConfig,
        {"hidden_dim": 32, "dropout": 0.1, "attention_dropout": 0.2, "seq_classif_dropout": 0.3},
    ),
    "bert": (BertConfig, DROPOUT),
    "roberta": (RobertaConfig, DROPOUT),
    "electra": (ElectraConfig, {**DROPOUT, "embedding_size": 16}),
    "deberta-v2": (
        DebertaV2Config,
        {
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.2,
            "pooler_dropout": 0.3,
            "pooler_hidden_size": 16,
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "conv_kernel_size": 3,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": (
        ModernBertConfig,
        {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    ),
}
# What takes `token_type_ids`.
PAIRED = {"bert", "electra"}
#: (architecture, attention) for which mc-dropout promises the very bits of `train()`.
EXACT = [(name, kind) for name in ("distilbert", "bert", "roberta", "electra") for kind in ("eager", "sdpa")]
EXACT.append(("deberta-v2", "eager"))


def tiny_model(architecture: str, attention: str = "sdpa", *, classes: int = 2, **overrides: Any) -> Any:
    """A randomly initialised classifier in eval mode, always the same for the same arguments."""
    make_config, particular = CONFIGS[architecture]
    config = make_config(**COMMON | particular | {"num_labels": classes} | overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    return model.eval()


def tiny_tokenizer(architecture: str = "distilbert") -> PreTrainedTokenizerFast:
    """A word-level tokenizer of `WORDS` with BERT's special tokens."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MAX_LENGTH,
        model_input_names=names if architecture in PAIRED else [names[0], names[2]],
    )


def tiny_checkpoint(
    architecture: str = "distilbert", attention: str = "sdpa", *, classes: int = 2, **overrides: Any
) -> Checkpoint:
    """A `Checkpoint` around `tiny_model`; class k is called `class k`."""
    return wrap(
        tiny_model(architecture, attention, classes=classes, **overrides),
        tiny_tokenizer(architecture),
        classes,
    )


def wrap(module: torch.nn.Module, tokenizer: Any, classes: int) -> Checkpoint:
    """A `Checkpoint` on `DEVICE` around a module and a tokenizer."""
    labels = tuple(f"class {k}" for k in range(classes))
    config = getattr(module, "config", None)
    if config is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: k for k, label in enumerate(labels)}
    return Checkpoint(
        module=module.to(DEVICE),
        tokenizer=tokenizer,
        labels=labels,
        name=f"tiny-{type(module).__name__}",
        revision=None,
        sha256=weights_sha256(module.state_dict()),
        source="folder",
        device=DEVICE,
        dtype=torch.float32,
        attention=getattr(config, "_attn_implementation", "eager"),
        load_s=0.0,
        padding=Padding("right", None) if config is None else stated(module, tokenizer),
    )


def sentences(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    """`count` word sequences of 1 to `longest` words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, longest + 1))) for _ in range(count)]


def plan_of(checkpoint: Checkpoint, texts: list[Text], *, token_budget: int = 64) -> Plan:
    """The plan of some texts; rows are 100, 101, ..., so that a row is never mistaken for a position."""
    planner = Planner(checkpoint.tokenizer, checkpoint.device, MAX_LENGTH, token_budget)
    return planner.plan(texts, np.arange(100, 100 + len(texts), dtype=np.int64))
