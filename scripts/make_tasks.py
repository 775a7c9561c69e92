"""Train a small DistilBERT for each generated task, well or badly calibrated -> FOLDER/TASK-well, -badly, ...

The texts come from `calibench.data.generated`. A well calibrated model sees 12,000 texts for few epochs; a
badly calibrated one a few thousand of them for many, and learns by heart labels that are not the likeliest.
The checkpoints are what `results/sweep/sweep.toml` names; they are not committed.

    python scripts/make_tasks.py tasks                       three minutes on one core
    python scripts/make_tasks.py tasks --recipe between      every task by one recipe
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from make_embedded import make_tokenizer, shuffled_batches
from torch.nn.functional import cross_entropy
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from calibench.data.generated import TASKS, load


@dataclass(frozen=True)
class Recipe:
    """How long on how much."""

    texts: int
    epochs: int


RECIPES = {"well": Recipe(12_000, 4), "badly": Recipe(3_000, 24), "between": Recipe(6_000, 10)}
#: What each task's checkpoint is like.
TRAINED = {
    "2-classes-300": "badly",
    "2-classes-5000": "well",
    "5-classes-1000": "badly",
    "5-classes-tail-2000": "well",
    "20-classes-300": "badly",
    "20-classes-tail-2000": "badly",
    "77-classes-1000": "well",
    "77-classes-tail-3000": "badly",
}


def train(task: str, recipe: Recipe, folder: Path) -> str:
    """Train, save, and say how it does on the validation split."""
    torch.manual_seed(0)
    data = load(task, split="train")
    texts, labels = list(data.texts[: recipe.texts]), torch.as_tensor(data.labels[: recipe.texts])
    tokenizer = make_tokenizer([str(text) for text in data.texts])
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(data.label_names)),
        label2id={name: number for number, name in enumerate(data.label_names)},
        n_layers=2,
        dim=64,
        hidden_dim=128,
        n_heads=2,
        max_position_embeddings=64,
        seq_classif_dropout=0.2,
        initializer_range=0.05,
    )
    model = DistilBertForSequenceClassification(config).train()
    steps = recipe.epochs * -(-len(texts) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 100) * max(0.0, 1 - step / steps)
    )
    ids = tokenizer(texts)["input_ids"]
    for _ in range(recipe.epochs):
        for rows in shuffled_batches([len(item) for item in ids], 32):
            inputs = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            loss = cross_entropy(model(**inputs).logits, labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    held = load(task, split="validation")
    with torch.inference_mode():
        inputs = tokenizer(list(held.texts), padding=True, return_tensors="pt")
        probs = model(**inputs).logits.double().softmax(-1).numpy()
    right = probs.argmax(1) == held.labels
    assert held.posterior is not None
    best = (held.posterior.argmax(1) == held.labels).mean()
    return f"accuracy {right.mean():.3f} of {best:.3f}, mean confidence {probs.max(1).mean():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recipe", choices=RECIPES, help="for every task, instead of the one it has above")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    assert TRAINED.keys() == TASKS.keys()
    for task, usual in TRAINED.items():
        how = given.recipe or usual
        folder = given.folder / f"{task}-{how}"
        if not (folder / "config.json").is_file():
            print(f"{folder.name}: {train(task, RECIPES[how], folder)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
