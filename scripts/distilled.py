"""How near is `mc-dropout-distilled` to the mean of many passes, and what is it worth?

    python scripts/distilled.py --sst2 MODEL DATA --clinc MODEL DATA [--folder FOLDER]

On SST-2's validation split and on texts of CLINC150's test split, in scope and out of it, as they are and
with typing errors; results/distilled.md holds what it prints. Everything is seeded. FOLDER keeps what the
passes gave: with it, a second run only evaluates. An hour of one core without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from tabulate import tabulate

from calibench.compare.verdicts import UNDECIDED, compare
from calibench.data.huggingface import load
from calibench.data.labels import align
from calibench.data.shift import shifted
from calibench.data.subset import in_scope, limit
from calibench.metrics.calibration import ECE
from calibench.metrics.detection import OOS_AUROC
from calibench.metrics.scoring import ACCURACY, NLL
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.models.train_features import train_features
from calibench.score.yardstick import chosen_probabilities
from calibench.types import Dataset, Evaluation, FloatArray, LabelledPlan
from calibench_methods.dropout.mc_dropout_distilled import Distilled, distil
from calibench_methods.dropout.mc_dropout_last import McDropoutLast
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.one_pass.moment_propagation import MomentPropagation

#: Unlabelled texts that a head is fitted to, each set inside the next.
COUNTS = {"train": (500, 2000, 10_000), "validation": (500, 2000)}
#: Share of words with a typing error, and passes of the independent method and of each of two references.
CONDITIONS = {0.0: (50, 20), 0.1: (20, 10), 0.3: (20, 10)}
TEACHER_PASSES = 10
#: Of CLINC150's test split, in scope and out of it.
CLINC_TEXTS = 1200
#: Seeds of the passes, so that no two share a mask.
INDEPENDENT, REFERENCES = 1, (2, 3)
#: How a table says what a paired comparison shows.
MARKS = {"better": " +", "worse": " -", UNDECIDED: ""}


def evaluated(task: str, data: str, labels: tuple[str, ...]) -> Dataset:
    """What is predicted, in the order of the model's classes."""
    if task == "sst2":
        return align(load(data, split="validation"), labels)
    return limit(align(load(data, split="test"), labels, out_of_scope=["oos"]), CLINC_TEXTS, seed=0)


def unlabelled(data: str, labels: tuple[str, ...], task: str, split: str) -> Dataset:
    """Texts of a split in random order; what their labels are is looked at nowhere."""
    dataset = align(load(data, split=split), labels, out_of_scope=["oos"] if task == "clinc" else [])
    return limit(in_scope(dataset), max(COUNTS[split]), seed=0)


def passes_over(checkpoint: Checkpoint, dataset: Dataset, strength: float) -> dict[str, Any]:
    """Probabilities [N, C] by name, and features, of the texts with so many typing errors."""
    if strength:
        dataset = shifted(dataset, "typos", strength, seed=0)
    plan = Planner.of(checkpoint).plan(dataset.texts, dataset.rows)
    independent, reference = CONDITIONS[strength]
    found = {
        "softmax": Frequentist(checkpoint).predict(plan, seed=0).probs,
        "mc-dropout-last": McDropoutLast(checkpoint, keep_samples=False).predict(plan, seed=0).probs,
        "moment-propagation": MomentPropagation(checkpoint).predict(plan, seed=0).probs,
    }
    single = McDropoutStratified(checkpoint, passes=independent, stratum_size=1)
    samples = single.predict(plan, seed=INDEPENDENT).samples
    assert samples is not None
    for count in (5, 20, 50):
        if count <= independent:
            found[f"{count} passes"] = samples[:count].mean(axis=0, dtype=np.float64)
    many = McDropoutStratified(checkpoint, passes=reference, keep_samples=False)
    for name, seed in zip(("first", "second"), REFERENCES, strict=True):
        found[name] = many.predict(plan, seed=seed).probs
    encoded = train_features(checkpoint, Encoder(checkpoint), LabelledPlan(plan, dataset.labels))
    return {**found, "features": encoded.features, "logits": encoded.logits, "labels": dataset.labels}


def taught(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, Any]:
    """Features and logits of the texts, and the mean of a stratum of passes."""
    plan = Planner.of(checkpoint).plan(dataset.texts, dataset.rows)
    encoded = train_features(checkpoint, Encoder(checkpoint), LabelledPlan(plan, dataset.labels))
    teacher = McDropoutStratified(checkpoint, passes=TEACHER_PASSES, keep_samples=False)
    answers = teacher.predict(plan, seed=0).probs
    return {"features": encoded.features, "logits": encoded.logits, "teacher": answers}


def kept(folder: Path | None, name: str, make: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
    """`make()`, or what an earlier run kept of it."""
    file = None if folder is None else folder / f"{name}.npz"
    if file is not None and file.exists():
        with np.load(file) as stored:
            return dict(stored)
    found = make()
    if file is not None:
        np.savez(file, **found)
    return found


def collected(task: str, model: str, data: str, folder: Path | None) -> tuple[Any, dict[float, Any]]:
    """What heads are fitted to, by split, and what is predicted, by strength."""
    checkpoint = load_checkpoint(model, device="cpu")
    dataset = evaluated(task, data, checkpoint.labels)
    conditions = {
        strength: kept(folder, f"{task}-{strength}", lambda s=strength: passes_over(checkpoint, dataset, s))
        for strength in CONDITIONS
    }
    # SST-2's validation split is what is predicted.
    splits = ["train"] if task == "sst2" else list(COUNTS)
    texts = {split: unlabelled(data, checkpoint.labels, task, split) for split in splits}
    taught_by = {
        split: kept(folder, f"{task}-{split}", lambda t=found: taught(checkpoint, t))
        for split, found in texts.items()
    }
    return taught_by, conditions


def tempered(train: Mapping[str, Any]) -> float:
    """The temperature of the softmax that is nearest to the teacher's answers: a head of one number."""
    logits, teacher = train["logits"].astype(np.float64), train["teacher"]

    def loss(log_temperature: float) -> float:
        scores = logits * np.exp(-log_temperature)
        return float((logsumexp(scores, axis=1) - (teacher * scores).sum(axis=1)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def name_of(split: str, count: int) -> str:
    return f"distilled, {count:,} texts of {split}"


def heads(texts: Mapping[str, Any], split: str) -> dict[str, Distilled]:
    """A head for each number of texts, by name."""
    found = {}
    for count in COUNTS[split]:
        some = {name: values[:count] for name, values in texts.items()}
        start = time.process_time()
        head = distil(**some, strength=0.0, rows=np.arange(count))
        seconds = time.process_time() - start
        found[name_of(split, count)] = head
        before, after = head.divergence_of_own_layer, head.divergence
        print(
            f"{split} {count}: temperature {1 / head.sharpness:.3f}, strength {head.strength}, "
            f"divergence {before:.4f} -> {after:.4f}, CPU {seconds:.0f} s"
        )
    return found


def predictions(
    found: Mapping[str, Any], fitted: Mapping[str, Distilled], temperatures: Mapping[str, float]
) -> dict[str, FloatArray]:
    """Probabilities [N, C] of everything in the tables, by name; the plain softmax first."""
    features, logits = (found[name].astype(np.float64) for name in ("features", "logits"))
    rows = ["softmax", "mc-dropout-last", "moment-propagation", *(f"{n} passes" for n in (5, 20, 50))]
    return {
        **{name: found[name] for name in rows if name in found},
        **{f"temperature of {split}": softmax(logits / t, axis=1) for split, t in temperatures.items()},
        **{name: head.probs(features, logits) for name, head in fitted.items()},
        "many passes": (found["first"] + found["second"]) / 2,
    }


def distance(probs: FloatArray, found: Mapping[str, Any]) -> float:
    """Root mean square distance from the limit, of the probability of the class that references predict."""
    references = np.stack([found["first"], found["second"]])
    mine, (first, second) = chosen_probabilities(probs[None], references)
    return float(np.sqrt(max(((mine[0] - first) * (mine[0] - second)).mean(), 0.0)))


def quality(predicted: Mapping[str, FloatArray], found: Mapping[str, Any]) -> str:
    """A table: nearness, metrics, and the verdict on each difference from the plain softmax."""
    labels = found["labels"]
    beyond = bool((labels < 0).any())
    others = {name: probs for name, probs in predicted.items() if name != "softmax"}
    differences = compare(predicted["softmax"], others, labels, seed=0)
    verdicts = {(d.method, d.metric): MARKS[d.verdict] for d in differences}
    variance = 20 * distance(predicted["20 passes"], found) ** 2
    rows = []
    for name, probs in predicted.items():
        inside = Evaluation(probs, labels).in_scope()
        values = [
            f"{metric.evaluate(inside):.4f}{verdicts.get((name, judged), '')}"
            for metric, judged in ((NLL, "nll"), (ECE, "ece_debiased"), (ACCURACY, "accuracy"))
        ]
        if beyond:
            values.append(
                f"{OOS_AUROC.evaluate(Evaluation(probs, labels)):.4f}{verdicts.get((name, 'oos_auroc'), '')}"
            )
        far = distance(probs, found)
        near = ["", ""] if name == "many passes" else [f"{far:.4f}", f"{variance / far**2:.1f}"]
        rows.append([name, *near, *values])
    head = ["", "distance", "worth passes", "NLL", "ECE", "accuracy", *(["AUROC"] if beyond else [])]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def against(predicted: Mapping[str, FloatArray], found: Mapping[str, Any], name: str, reference: str) -> str:
    """A sentence: one head against something else."""
    differences = compare(predicted[reference], {name: predicted[name]}, found["labels"], seed=0)
    parts = [
        f"{d.metric} {d.difference.value:+.4f} [{d.difference.low:+.4f}, {d.difference.high:+.4f}], "
        f"{d.verdict}"
        for d in differences
    ]
    return f"{name} less {reference}: {'; '.join(parts)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sst2", nargs=2, metavar=("MODEL", "DATA"))
    parser.add_argument("--clinc", nargs=2, metavar=("MODEL", "DATA"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in ("sst2", "clinc"):
        if not getattr(options, task):
            continue
        taught_by, conditions = collected(task, *getattr(options, task), options.folder)
        fitted = {
            name: head for split, texts in taught_by.items() for name, head in heads(texts, split).items()
        }
        temperatures = {split: tempered(texts) for split, texts in taught_by.items()}
        for strength, found in conditions.items():
            predicted = predictions(found, fitted, temperatures)
            print(f"\n{task}, {len(found['labels'])} texts, typos {strength:g}\n")
            print(quality(predicted, found), "\n")
            for split in taught_by:
                print(against(predicted, found, name_of(split, max(COUNTS[split])), "20 passes"))


if __name__ == "__main__":
    main()
