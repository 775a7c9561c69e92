"""Fine-tune a checkpoint further and keep checkpoints along the way, for `snapshot` and `swag-diag`.

    python scripts/train_trajectory.py --model FOLDER --dataset FOLDER -o trajectory
    calibench run sst2 -m swag-diag -a folder=trajectory

A constant learning rate lets SGD wander around the optimum that it has found, which is what SWAG describes by
a Gaussian. A cyclic one falls to zero along a cosine and starts anew, and a checkpoint is kept at the end of
each cycle: a snapshot ensemble. The same seed, threads and versions give the same checkpoints.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibench.data.hub import quiet
from calibench.data.huggingface import load
from calibench.data.labels import align
from calibench.data.subset import in_scope
from calibench.models.checkpoint import Checkpoint
from calibench.models.devices import DTYPES
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.types import Batch, Dataset, IntArray

#: Batches that are drawn together and cut by length, so that short texts are not padded to long ones.
POOL = 16


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.manual_seed(options.seed)
    checkpoint = load_checkpoint(options.model, device=options.device)
    dataset = _data(options, checkpoint)
    _train(checkpoint, dataset, options)


def _data(options: argparse.Namespace, checkpoint: Checkpoint) -> Dataset:
    """The labelled texts that the model can answer."""
    dataset = load(
        options.dataset,
        config=options.config,
        split=options.split,
        text_columns=options.text_column,
        label_column=options.label_column,
    )
    dataset = align(dataset, checkpoint.labels, out_of_scope=options.drop)
    kept = in_scope(dataset)
    print(f"{kept.name} {kept.split}: {len(kept)} texts, {len(dataset) - len(kept)} dropped", flush=True)
    return kept


def _train(checkpoint: Checkpoint, dataset: Dataset, options: argparse.Namespace) -> None:
    module = checkpoint.module.train()
    planner = Planner.of(checkpoint)
    optimiser = _optimiser(module.parameters(), options)
    start = torch.cat([value.detach().flatten().clone() for value in module.parameters()])
    # By characters, which is known without tokenising.
    lengths = [len(text) if isinstance(text, str) else sum(map(len, text)) for text in dataset.texts]
    batches = _batches(lengths, options.batch_size, options.seed)
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(1, options.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, options)
        chosen = next(batches)
        texts = [dataset.texts[i] for i in chosen]
        (batch,) = planner.assemble(texts, dataset.rows[chosen], [np.arange(len(chosen))]).batches
        losses.append(_step(module, batch, dataset.labels[chosen], optimiser, options.clip))
        if step % options.save_every == 0:
            moved = torch.cat([value.detach().flatten() for value in module.parameters()]) - start
            print(
                f"step {step}: loss {np.mean(losses):.4f}, moved {moved.norm() / start.norm():.5f} of the "
                f"norm, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            losses.clear()
            _save(checkpoint, options.output / f"checkpoint-{step}", DTYPES[options.dtype])


def _optimiser(parameters: Iterator[Any], options: argparse.Namespace) -> torch.optim.Optimizer:
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters, lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )


def _rate(step: int, options: argparse.Namespace) -> float:
    """The learning rate of a step from 1; Huang et al. 2017, equation 2, where it is cyclic."""
    if options.schedule == "constant":
        return float(options.learning_rate)
    done = (step - 1) % options.save_every / options.save_every
    return float(options.learning_rate) * (math.cos(math.pi * done) + 1) / 2


def _step(
    module: torch.nn.Module, batch: Batch, labels: IntArray, optimiser: torch.optim.Optimizer, clip: float
) -> float:
    """One update; returns the loss before it."""
    target = torch.as_tensor(labels, device=batch.inputs["input_ids"].device)
    loss: Tensor = torch.nn.functional.cross_entropy(module(**batch.inputs).logits, target)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimiser.step()
    return loss.item()


def _batches(lengths: list[int], size: int, seed: int) -> Iterator[IntArray]:
    """Positions of `size` texts, without end; each epoch has every text but a last few once."""
    rng = np.random.default_rng(seed)
    known = np.array(lengths)
    size = min(size, len(known))
    while True:
        order = rng.permutation(len(known))
        for first in range(0, len(order), POOL * size):
            pool = order[first : first + POOL * size]
            pool = pool[np.argsort(known[pool], kind="stable")]
            cut = [pool[i : i + size] for i in range(0, len(pool) - size + 1, size)]
            for i in rng.permutation(len(cut)):
                yield cut[i]


def _save(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> None:
    tensors = checkpoint.module.state_dict()
    stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    with quiet("transformers"):
        checkpoint.module.save_pretrained(folder, state_dict=stored)
        checkpoint.tokenizer.save_pretrained(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="the checkpoint to start from: hub id or folder")
    parser.add_argument("--dataset", required=True, help="hub id, folder or file with labelled texts")
    parser.add_argument("--config", help="configuration of the data set")
    parser.add_argument("--split", default="train")
    parser.add_argument("--text-column", action="append", help="default: recognised by name")
    parser.add_argument("--label-column", help="default: recognised by name")
    parser.add_argument("--drop", action="append", default=[], help="a label that the model does not output")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.9, help="of SGD")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of a gradient")
    parser.add_argument("--schedule", choices=("constant", "cyclic"), default="constant")
    parser.add_argument("--steps", type=int, default=640)
    parser.add_argument("--save-every", type=int, default=80, help="steps; the length of a cycle")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of what is saved")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for checkpoint-STEP folders")
    return parser


if __name__ == "__main__":
    main()
