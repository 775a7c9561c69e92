"""Files of predictions like those that docs/score.md speaks of, small and seeded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

NAMES = ("negative", "neutral", "positive")
REGIONS = ("north", "south")


def predictions(
    n: int = 240, classes: int = 3, *, scale: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities, float64 [n, classes], and labels drawn from them at scale 1, int64 [n].

    Args:
        scale: of the logits of the probabilities; labels do not depend on it.
    """
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((n, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > np.cumsum(true, axis=1)[:, :-1]).sum(axis=1)
    weights = np.exp(scale * logits)
    return weights / weights.sum(axis=1, keepdims=True), labels


def table(n: int = 240, *, scale: float = 1.0) -> pa.Table:
    """A column per class with its name, labels in words, ids, groups and prices."""
    probs, labels = predictions(n, scale=scale)
    columns = {f"p_{name}": probs[:, i] for i, name in enumerate(NAMES)}
    return pa.table(
        {
            "id": [f"row {i}" for i in range(n)],
            "label": [NAMES[label] for label in labels],
            **columns,
            "region": [REGIONS[i % 2] for i in range(n)],
            "part": ["dev" if i % 3 == 0 else "test" for i in range(n)],
            "usd": np.full(n, 0.001 * scale),
        }
    )


def write(folder: Path) -> None:
    """Everything that a command of the document names, in a folder."""
    for name, scale in (("a", 1.0), ("b", 2.0)):
        pq.write_table(table(scale=scale), folder / f"{name}.parquet")
    pa.csv.write_csv(table(), folder / "preds.csv")
    probs, labels = predictions()
    two, truth = predictions(classes=2)
    pq.write_table(pa.table({"label": truth, "p_spam": two[:, 1]}), folder / "spam.parquet")
    pq.write_table(pa.table({"label": labels, "logits": np.log(probs).tolist()}), folder / "logits.parquet")
    answers = {"confidence": probs.max(axis=1), "correct": probs.argmax(axis=1) == labels}
    pa.csv.write_csv(pa.table(answers), folder / "judge.csv")
    np.savez(folder / "trainer.npz", predictions=np.log(probs), label_ids=labels)
    np.savez(folder / "model.npz", proba=probs, classes=np.array(NAMES), labels=np.array(NAMES)[labels])
    (folder / "samples_task.jsonl").write_text("".join(map(lm_eval_line, range(60))))
    (folder / "log.json").write_text(json.dumps(inspect_log()))
    small = "id,label,p_0,p_1,region\n1,0,.9,.1,north\n2,1,.2,.8,south\n3,1,.4,.6,south\n"
    (folder / "good.csv").write_text(small)
    (folder / "short.csv").write_text("".join(small.splitlines(keepends=True)[:3]))
    (folder / "moved.csv").write_text(small.replace("2,1,.2,.8,south", "2,1,.2,.8,north"))
    (folder / "strange.csv").write_text("id,label,p_0,p_1\n7,0,.9,.1\n8,1,.2,.8\n")
    (folder / "other.csv").write_text(small.replace("3,1", "3,0"))
    (folder / "named.csv").write_text("id,label,p_neg,p_pos\n1,neg,.9,.1\n")


def lm_eval_line(number: int) -> str:
    """A line of a log as lm-eval 0.4.13 writes it, with numbers as text."""
    rng = np.random.default_rng(number)
    choices = ("Paris", "Rome", "the City of London")
    values = rng.normal(size=3) - 2.0
    target = int(rng.integers(3))
    lengths = {"acc": [1] * 3, "acc_norm": [len(choice) for choice in choices]}
    line = {
        "doc_id": number,
        "doc": {"question": f"Question {number}", "subject": REGIONS[number % 2]},
        "target": str(target),
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"Question {number}", "arg_1": f" {choice}"}
            for i, choice in enumerate(choices)
        },
        "resps": [[[str(value), "False"]] for value in values],
        "filtered_resps": [[str(value), "False"] for value in values],
        "filter": "none",
        "metrics": list(lengths),
        "doc_hash": f"{number:064x}",
        **{name: float(np.argmax(values / np.array(by)) == target) for name, by in lengths.items()},
    }
    return json.dumps(line) + "\n"


def inspect_log(n: int = 60) -> dict[str, object]:
    """A log of Inspect in its JSON form, as far as it is read."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1.0, n)
    right = rng.random(n) < confidence
    samples = [
        {
            "id": f"sample {i}",
            "epoch": 1,
            "metadata": {"confidence": float(confidence[i])},
            "scores": {"match": {"value": "C" if right[i] else "I", "answer": "4"}},
        }
        for i in range(n)
    ]
    return {"version": 2, "status": "success", "eval": {"task": "sums"}, "samples": samples}
