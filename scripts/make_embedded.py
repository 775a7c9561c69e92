"""Make what `calibench run` needs offline: the embedded corpus, and a small DistilBERT trained on the like.

    python scripts/make_embedded.py            write bench/calibench/data/assets
    python scripts/make_embedded.py --check    prove that the files there are what this script makes

The corpus is reproduced exactly, on any machine. The checkpoint is not promised to be: the last bits of a
matrix product differ between CPUs and torch versions, and training amplifies them. It is checked by the hash
of its recipe, the hashes of its files, and its metrics, measured again.

The model is overconfident in the way real classifiers are: it sees a modest number of sentences, whose labels
are drawn from the true posterior and so are sometimes the less likely one, for more epochs than is good. The
recipe was chosen by accuracy and ECE of the plain softmax alone, on other sentences and on these splits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from calibench.data import grammar
from calibench.types import FloatArray, IntArray

ASSETS = Path(__file__).resolve().parents[1] / "bench" / "calibench" / "data" / "assets"
WEIGHTS = "checkpoint/model.safetensors"

RECIPE: dict[str, Any] = {
    "grammar_sha256": hashlib.sha256((ASSETS / "sentiment.grammar").read_bytes()).hexdigest(),
    "splits": {
        "train": {"n": 16000, "seed": 20170},
        "validation": {"n": 1000, "seed": 20171},
        "test": {"n": 1000, "seed": 20172},
    },
    "model": {
        "n_layers": 4,
        "dim": 128,
        "hidden_dim": 256,
        "n_heads": 4,
        "max_position_embeddings": 128,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "initializer_range": 0.05,
    },
    "training": {
        "seed": 0,
        "epochs": 8,
        "batch_size": 32,
        "optimizer": "AdamW",
        "learning_rate": 5e-4,
        "warm_up_steps": 100,
        "schedule": "linear to zero",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "threads": 1,
    },
    "storage_dtype": "float16",
}

LIBRARIES = ("numpy", "torch", "transformers", "tokenizers", "safetensors")

#: How far a metric may move when it is measured on another machine: two of the 1,000 sentences.
TOLERANCE = 0.002


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def recipe_sha256() -> str:
    """Hash of everything that determines the checkpoint, but for the code and the libraries."""
    return digest(json.dumps(RECIPE, sort_keys=True).encode())


def draw(split: str) -> tuple[list[str], IntArray, FloatArray]:
    """Texts, labels int64 [N] and posterior float64 [N, 2] of a split of the recipe."""
    return grammar.sample(**RECIPE["splits"][split])


def corpus_files() -> dict[str, bytes]:
    """The corpus files by name: a JSON object per line, whose floats read back exactly."""
    files = {}
    for split in ("test", "validation"):
        rows = zip(*draw(split), strict=True)
        lines = [
            json.dumps({"text": text, "label": int(label), "p_positive": float(posterior[1])})
            for text, label, posterior in rows
        ]
        files[f"{split}.jsonl"] = ("\n".join(lines) + "\n").encode()
    return files


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that knows the words of `texts` and spells every other word out in letters."""
    basic = tokenizers.normalizers.BertNormalizer(lowercase=True)
    split = tokenizers.pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in split.pre_tokenize_str(basic.normalize_str(text))}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = sorted(words | set(characters)) + [f"##{character}" for character in characters]
    vocab = {piece: index for index, piece in enumerate(special + pieces)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = basic, split
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it bare
        tokenizer_object=tokenizer,
        model_max_length=RECIPE["model"]["max_position_embeddings"],
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    )


def train(tokenizer: PreTrainedTokenizerFast) -> DistilBertForSequenceClassification:
    """Fine-tune from random weights on the train split, as the recipe says."""
    how = RECIPE["training"]
    torch.set_num_threads(how["threads"])
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(how["seed"])
    texts, labels, _ = draw("train")
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
        **RECIPE["model"],
    )
    model = DistilBertForSequenceClassification(config)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=how["learning_rate"], weight_decay=how["weight_decay"]
    )
    steps = how["epochs"] * -(-len(texts) // how["batch_size"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / how["warm_up_steps"]) * (1 - step / steps)
    )
    token_ids = tokenizer(texts)["input_ids"]
    for epoch in range(how["epochs"]):
        total = 0.0
        for rows in shuffled_batches([len(ids) for ids in token_ids], how["batch_size"]):
            inputs = tokenizer.pad({"input_ids": [token_ids[row] for row in rows]}, return_tensors="pt")
            loss = cross_entropy(model(**inputs).logits, torch.as_tensor(labels[rows]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), how["max_grad_norm"])
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows) / len(texts)
        print(f"epoch {epoch + 1}/{how['epochs']}  training loss {total:.4f}", file=sys.stderr)
    return model


def shuffled_batches(lengths: list[int], size: int) -> list[IntArray]:
    """Rows in random batches of similar length: 20 batches' worth are sorted at a time, to save padding."""
    order = torch.randperm(len(lengths)).numpy()
    length = np.array(lengths)
    chunks = [order[start : start + 20 * size] for start in range(0, len(order), 20 * size)]
    by_length = np.concatenate([chunk[np.argsort(length[chunk], kind="stable")] for chunk in chunks])
    batches = [by_length[start : start + size] for start in range(0, len(order), size)]
    return [batches[index] for index in torch.randperm(len(batches))]


@torch.inference_mode()
def predict(folder: Path, texts: list[str]) -> FloatArray:
    """P(label | text) of the stored checkpoint, float64 [N, 2]: one plain forward pass, in float32."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = [
        model(**tokenizer(texts[start : start + 100], padding=True, return_tensors="pt")).logits
        for start in range(0, len(texts), 100)
    ]
    return torch.cat(logits).double().softmax(-1).numpy()


def measure(probs: FloatArray, labels: IntArray, posterior: FloatArray) -> dict[str, float]:
    """Accuracy, calibration and the best accuracy that was possible; ECE has 10 equal-width bins."""
    confidence, right = probs.max(1), probs.argmax(1) == labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = np.bincount(bins, weights=confidence - right, minlength=10)
    return {
        "accuracy": float(right.mean()),
        "mean_confidence": float(confidence.mean()),
        "ece": float(np.abs(gaps).sum() / len(labels)),
        "nll": float(-np.log(probs[np.arange(len(labels)), labels]).mean()),
        "bayes_accuracy": float(posterior.max(1).mean()),
    }


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    """What `measure` says of the checkpoint in `folder`, on each split it was not trained on."""
    measured = {}
    for split in ("test", "validation"):
        texts, labels, posterior = draw(split)
        measured[split] = measure(predict(folder, texts), labels, posterior)
    return measured


def write(assets: Path) -> None:
    """Write corpus, checkpoint and recipe.json."""
    assets.mkdir(parents=True, exist_ok=True)
    for name, content in corpus_files().items():
        (assets / name).write_bytes(content)
    folder = assets / "checkpoint"
    tokenizer = make_tokenizer(draw("train")[0])
    model = train(tokenizer)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    halves = {name: tensor.half() for name, tensor in load_file(assets / WEIGHTS).items()}
    save_file(halves, assets / WEIGHTS, metadata={"format": "pt"})
    (assets / WEIGHTS).chmod(0o644)
    files = sorted(path for path in assets.rglob("*") if path.is_file() and path.name != "recipe.json")
    record = {
        "recipe": RECIPE,
        "recipe_sha256": recipe_sha256(),
        "files": {path.relative_to(assets).as_posix(): digest(path.read_bytes()) for path in files},
        "metrics": metrics(folder),
        "made_with": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }
    (assets / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")


def differences(assets: Path) -> list[str]:
    """What in `assets` is not what this script makes, a sentence each; empty where all is well."""
    record = json.loads((assets / "recipe.json").read_text())
    wrong = [
        f"{name} is not what the grammar and the recipe give"
        for name, content in corpus_files().items()
        if (assets / name).read_bytes() != content
    ]
    if record["recipe"] != RECIPE or record["recipe_sha256"] != recipe_sha256():
        wrong.append("the checkpoint was trained by another recipe than the one in this script")
    wrong += [
        f"{name} is not the file that recipe.json records"
        for name, sha256 in record["files"].items()
        if digest((assets / name).read_bytes()) != sha256
    ]
    return wrong + moved(record["metrics"], metrics(assets / "checkpoint"))


def moved(
    recorded: Mapping[str, Mapping[str, float]], measured: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Which metrics differ by more than `TOLERANCE`."""
    return [
        f"{name} on {split} is {measured[split][name]:.6f}, but {value:.6f} is recorded"
        for split, values in recorded.items()
        for name, value in values.items()
        if not abs(measured[split][name] - value) <= TOLERANCE
    ]


def main() -> int:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--check", action="store_true", help="compare with what is there; write nothing")
    if parser.parse_args().check:
        wrong = differences(ASSETS)
        print("\n".join(wrong) or "the embedded corpus and checkpoint are what this script makes")
        return 1 if wrong else 0
    write(ASSETS)
    print(json.dumps(json.loads((ASSETS / "recipe.json").read_text())["metrics"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
