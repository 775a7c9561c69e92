"""Is the standard error of `mc-dropout-adaptive` of the size of its error? -> results/adaptive-error.md.

    python scripts/adaptive_error.py --sst2 MODEL PARQUET [--texts 200] [--replicates 8] [--reference 40]

On the embedded corpus and on SST-2. Each text is predicted `--replicates` times, and twice by independent
passes in strata, the references: the product of the distances to the two has the squared distance to the
limit as its expectation, however few passes made them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from calibench.data.embedded import load
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.types import FloatArray, IntArray
from calibench_methods.dropout.mc_dropout_adaptive import McDropoutAdaptive
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified

RESULT = Path(__file__).resolve().parents[1] / "results" / "adaptive-error.md"
RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Runs:
    """R runs over N texts; every array is [R, N].

    Attributes:
        passes: spent.
        square: with the squared distance of the predicted class's probability to the limit as expectation.
        bound: the square of what stops a text, which was the standard error before.
        stated: the square of the standard error.
    """

    passes: IntArray
    square: FloatArray
    bound: FloatArray
    stated: FloatArray


def measured(model: str, texts: list[str], replicates: int, reference: int) -> Runs:
    """Predict the texts, and measure how far off that was."""
    checkpoint = load_checkpoint(model, device="cpu")
    plan = Planner.of(checkpoint).plan(texts, np.arange(len(texts)))
    adaptive = McDropoutAdaptive(checkpoint)
    limit = McDropoutStratified(checkpoint, passes=reference, keep_samples=False)
    first, second = (limit.predict(plan, seed=10_000 + seed).probs for seed in (0, 1))
    passes, square, bound, stated = [], [], [], []
    for seed in range(replicates):
        found = adaptive.predict(plan, seed=seed)
        assert found.standard_error is not None
        at = np.arange(len(texts)), found.probs.argmax(axis=1)
        passes.append(found.passes)
        square.append((found.probs[at] - first[at]) * (found.probs[at] - second[at]))
        bound.append(found.scores["standard_deviation"] ** 2 / found.passes)
        stated.append(found.standard_error**2)
    return Runs(*(np.stack(values) for values in (passes, square, bound, stated)))


def ratio(stated: FloatArray, square: FloatArray, weights: FloatArray) -> float:
    """Root mean square of what is stated over that of the error; infinite where noise hides the error."""
    error = float((weights * square).sum())
    return float(np.sqrt((weights * stated).sum() / error)) if error > 0 else float("inf")


def line(name: str, runs: Runs, weights: FloatArray) -> str:
    """A row of a table: some of the R N predictions by weight, and an interval from resampled texts."""
    count = weights.sum()
    error = float(np.sqrt(max((weights * runs.square).sum() / count, 0.0)))
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, weights.shape[1], weights.shape[1]) for _ in range(RESAMPLES)]
    drawn = [ratio(runs.stated[:, t], runs.square[:, t], weights[:, t]) for t in texts if weights[:, t].any()]
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    before, after = (ratio(values, runs.square, weights) for values in (runs.bound, runs.stated))
    return (
        f"| {name} | {(weights * runs.passes).sum() / count:.1f} | {count:,.0f} | {error:.5f} | {before:.2f} "
        f"| {after:.2f} [{low:.2f}, {high:.2f}] |"
    )


HEAD = "| {} | passes | predictions | RMS error | before | after |\n|---|---:|---:|---:|---:|---:|"


def tenths(passes: IntArray) -> list[FloatArray]:
    """Weights of all predictions in each tenth by passes: those that took equally many share their tenths."""
    below = {n: float((passes < n).mean()) for n in np.unique(passes)}
    found = []
    for start in np.arange(10) / 10:
        weights = np.zeros(passes.shape)
        for n, first in below.items():
            share = float((passes == n).mean())
            inside = min(first + share, start + 0.1) - max(first, start)
            weights[passes == n] = max(inside, 0.0) / share
        found.append(weights)
    return found


def tables(name: str, runs: Runs) -> list[str]:
    """By passes spent, and by texts."""
    shape = runs.passes.shape
    order = np.argsort(runs.passes.mean(axis=0), kind="stable")
    texts = np.broadcast_to(np.arange(shape[1]), shape)
    named: list[tuple[str, list[tuple[str, FloatArray]]]] = [
        ("passes spent", [(str(n), 1.0 * (runs.passes == n)) for n in np.unique(runs.passes)]),
        ("tenth by passes spent", [(str(i + 1), part) for i, part in enumerate(tenths(runs.passes))]),
        (
            "tenth of the texts",
            [(str(i + 1), 1.0 * np.isin(texts, part)) for i, part in enumerate(np.array_split(order, 10))],
        ),
    ]
    lines = [f"## {name}", ""]
    for title, groups in named:
        lines += [HEAD.format(title), *(line(label, runs, weights) for label, weights in groups)]
        lines += [line("all", runs, np.ones(shape)), ""]
    return lines


TEXT = """# The standard error of `mc-dropout-adaptive`

`python scripts/adaptive_error.py --sst2 MODEL PARQUET --texts {texts} --replicates {replicates}
--reference {reference}`, default tolerance. Root mean squares of what is stated over those of the distance
of the predicted class's probability to the limit: 1 is right, above is too cautious. "Before" is the bound by
which texts stop, s / sqrt(n), which was also reported as the standard error; "after" is the standard error
now, with a 95% interval over texts; inf stands where the references' noise hides the error. The passes
spent are the same.

*By passes spent* is what a user sees: predictions that took so many passes. Those that took equally many
share the tenths that they fill. *Tenths of the texts* are in order of the mean passes over all runs, which no
single run knows. There the surest texts have errors far smaller than stated, and must have: two passes cannot
tell them from texts whose two passes happened to agree, and it is these that make up the root mean square.
What is stated for two passes can be right for both kinds together, or for one of them.
"""


def main() -> None:
    """Measure both corpora and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sst2", nargs=2, metavar=("MODEL", "PARQUET"), help="a checkpoint and its texts")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--reference", type=int, default=40, help="passes of each of the two references")
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpora: dict[str, tuple[str, Callable[[], list[str]]]] = {
        "The embedded corpus": ("embedded", lambda: [str(text) for text in load().texts])
    }
    if given.sst2:
        model, parquet = given.sst2
        corpora["SST-2"] = model, lambda: list(pd.read_parquet(parquet)["sentence"])
    lines = [TEXT.format(**vars(given))]
    for name, (model, texts_of) in corpora.items():
        texts = texts_of()
        chosen = np.random.default_rng(0).permutation(len(texts))[: given.texts]
        runs = measured(model, [texts[i] for i in chosen], given.replicates, given.reference)
        lines += tables(name, runs)
        print("\n".join(lines[-40:]), flush=True)
    RESULT.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
