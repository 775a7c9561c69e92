"""Whether calibench's intervals hold what they promise, and how often its verdicts are false alarms.

    python scripts/validity.py                      the whole study, about a quarter of an hour on two cores
    python scripts/validity.py --replications 20    a look at everything, for nothing

A population is 100,000 examples with their true posterior and a model's probabilities: simulated classifiers,
and the embedded corpus with the DistilBERT that ships with the package. A replication draws n of them, and
labels from their posterior; what a metric converges to is known from the posterior, without label noise. The
script writes `validity.json`, `validity.md` and the plots; the numbers in the text come from the former.
"""

from __future__ import annotations

import os
import sys

# One thread per process: replications run side by side, and small matrices gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import validity_report
from scipy import optimize, special

from calibench.compare.verdicts import FAMILY, compare
from calibench.metrics.binning import equal_width, sums_by_bin
from calibench.metrics.calibration import (
    BINS,
    ECE,
    ECE_15,
    ECE_CLASSWISE,
    ECE_DEBIASED,
    ECE_EQUAL_MASS,
    MCE,
)
from calibench.metrics.scoring import ACCURACY, BRIER, NLL
from calibench.metrics.selective import (
    ACCURACY_AT_80,
    AUGRC,
    AURC,
    COVERAGE_AT_5_RISK,
    ERROR_AUROC,
    KINDS,
)
from calibench.metrics.smooth import SMOOTH_ECE
from calibench.metrics.truth import ECE_TRUE, POSTERIOR_ERROR
from calibench.posthoc import cross_fit, log_of
from calibench.posthoc.temperature import Temperature
from calibench.stats.bootstrap import bootstrap_intervals
from calibench.stats.intervals import percentile_interval
from calibench.stats.resampling import draw_labels
from calibench.types import Evaluation, FloatArray, IntArray, Interval, Metric

SIZES = (50, 200, 872, 5000)
POPULATION = 100_000
#: Of the intervals and differences; a user's default is 1,000 and 10,000. Fewer make an interval noisier, and
#: its coverage smaller by a few tenths of a percent.
RESAMPLES = 400
SLOW_RESAMPLES = 200
SUMS = (ACCURACY, NLL, BRIER, ECE, ECE_15, ECE_EQUAL_MASS, ECE_DEBIASED, MCE, ECE_CLASSWISE)
TRUTH = (POSTERIOR_ERROR, ECE_TRUE)
#: Of ranks, or smoothed on a grid for each resample: only at n = 872, on one population.
SLOW = (SMOOTH_ECE, AURC, AUGRC, ACCURACY_AT_80, COVERAGE_AT_5_RISK, ERROR_AUROC)
#: Calibration errors of cross-fitted temperature, and the sizes at which it is fitted.
CROSSED = (ECE, ECE_15, ECE_DEBIASED, SMOOTH_ECE)
CROSSED_SIZES = (100, 300, 872)
#: Percentiles of latencies, log-normal with one in twenty requests three times as long.
PERCENTILES = (50, 90, 95, 99)
LATENCIES = (50, 200, 500)
OTHER_SIZES = {"slow": (872,), "crossed": CROSSED_SIZES}
#: Seeds compared with each other: one reference, seven methods.
SEEDS = 8


@dataclass(frozen=True, eq=False)
class Population:
    """A large sample that stands for the distribution examples come from.

    Attributes:
        title: as in the tables.
        posterior: float64 [M, C], the true P(label | example).
        models: probabilities by model name, float64 [M, C]; the first is the reference of comparisons.
        seeds: float64 [K, M, C], K seeds of one method in the place of `models`. A replication picks other
            ones for each example, so that none of them is better than another.
        tasks: what is asked of it: "coverage", "slow" (coverage of `SLOW`), "differences" and "crossed".
        sizes: numbers of examples to draw.
        share: of the replications that are made of it, where each takes long.
    """

    title: str
    posterior: FloatArray
    models: Mapping[str, FloatArray] = field(default_factory=dict)
    seeds: FloatArray | None = None
    tasks: tuple[str, ...] = ("coverage",)
    sizes: tuple[int, ...] = SIZES
    share: float = 1.0

    def draw(self, n: int, rng: np.random.Generator) -> tuple[dict[str, FloatArray], IntArray, FloatArray]:
        """Probabilities by model [n, C], labels [n] and posterior [n, C] of n examples."""
        index = rng.integers(0, len(self.posterior), size=n)
        posterior = self.posterior[index]
        if self.seeds is None:
            drawn = {name: probs[index] for name, probs in self.models.items()}
        else:
            chosen = np.argsort(rng.random((len(self.seeds), n)), axis=0)[:SEEDS]
            drawn = {f"seed {k}": self.seeds[row, index] for k, row in enumerate(chosen)}
        return drawn, draw_labels(posterior, rng), posterior


def softmax(logits: FloatArray) -> FloatArray:
    """exp(logits), normalised over classes."""
    return np.asarray(special.softmax(logits, axis=1))


def two_classes(second: FloatArray) -> FloatArray:
    """[M, 2] from the probability of the second class."""
    return np.stack([1.0 - second, second], axis=1)


def tempered(
    title: str, seed: int, classes: int, spread: float, temperature: float, size: int = POPULATION
) -> Population:
    """Normal logits, and a model whose temperature is off by a factor."""
    logits = spread * np.random.default_rng(seed).normal(size=(size, classes))
    return Population(title, softmax(logits), {"model": softmax(logits / temperature)})


def sure(title: str, seed: int, margin: float, spread: float, temperature: float) -> Population:
    """Two classes with normal log-odds about a wide margin, and a temperature off by a factor."""
    odds = margin + spread * np.random.default_rng(seed).normal(size=POPULATION)
    model = two_classes(special.expit(odds / temperature))
    return Population(title, two_classes(special.expit(odds)), {"model": model})


def confidently_wrong(title: str, seed: int) -> Population:
    """60% of the confidences above .999 and 99% of those right; the others too sure by a fifth."""
    rng = np.random.default_rng(seed)
    surest = rng.random(POPULATION) < 0.6
    high = 1.0 - 10.0 ** rng.uniform(-6.0, -3.0, POPULATION)
    confidence = np.where(surest, high, 0.5 + 0.49 * rng.beta(1.5, 1.0, POPULATION))
    right = np.where(surest, 0.99, 0.5 + 0.8 * (confidence - 0.5))
    return Population(title, two_classes(right), {"model": two_classes(confidence)})


def long_tailed(title: str, seed: int, classes: int, temperature: float) -> Population:
    """Classes of which each is a fifth rarer than the one before it, and a temperature off by a factor."""
    rng = np.random.default_rng(seed)
    prior = -np.arange(classes) * np.log(1.25)
    logits = prior + 2.5 * rng.normal(size=(POPULATION, classes))
    model = softmax(logits / temperature)
    return Population(title, softmax(logits), {"model": model}, sizes=SIZES[:3])


def noisy_seeds(title: str, seed: int, noise: float) -> Population:
    """An overconfident model of two classes with noise of its own on each seed's logits."""
    rng = np.random.default_rng(seed)
    logits = 3.0 * rng.normal(size=POPULATION)
    drawn = [special.expit(2.0 * (logits + noise * rng.normal(size=POPULATION))) for _ in range(2 * SEEDS)]
    return Population(
        title,
        two_classes(special.expit(logits)),
        seeds=np.stack([two_classes(one) for one in drawn]),
        tasks=("differences",),
    )


def sharp_and_blunt(title: str, seed: int, *, calibrated: bool) -> Population:
    """Two models of equal squared calibration error: one knows all that matters, the other half of it.

    Calibrated, both errors are zero. Otherwise the sharp one is overconfident by a temperature of .6, and the
    blunt one by the temperature at which its squared calibration error is the same.
    """
    rng = np.random.default_rng(seed)
    known, hidden = 1.5 * rng.normal(size=POPULATION), 3.0 * rng.normal(size=POPULATION)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    posterior = two_classes(special.expit(known + hidden))
    blunt = (special.expit(known[:, None] + 3.0 * nodes) * weights / weights.sum()).sum(axis=1)
    models = {"sharp": posterior, "blunt": two_classes(blunt)}
    if not calibrated:
        models["sharp"] = two_classes(special.expit((known + hidden) / 0.6))
        goal = squared_error(models["sharp"], posterior)

        def excess(temperature: float) -> float:
            tried = two_classes(special.expit(special.logit(blunt) / temperature))
            return squared_error(tried, posterior) - goal

        found = optimize.brentq(excess, 0.2, 0.99, xtol=1e-6)
        models["blunt"] = two_classes(special.expit(special.logit(blunt) / found))
    return Population(title, posterior, models, tasks=("differences",))


def embedded() -> tuple[Population, Population]:
    """The embedded corpus and its DistilBERT: softmax, plain and cooled; and single passes with dropout."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from calibench.data import grammar
    from calibench.data.embedded import checkpoint_folder

    texts, _, posterior = grammar.sample(POPULATION, seed=31)
    folder = checkpoint_folder()
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def logits(some: Sequence[str]) -> FloatArray:
        found = np.empty((len(some), posterior.shape[1]))
        order = np.argsort([len(text) for text in some], kind="stable")
        with torch.inference_mode():
            for part in np.array_split(order, max(1, len(some) // 250)):
                batch = tokenizer([some[i] for i in part], padding=True, truncation=True, return_tensors="pt")
                found[part] = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return found

    model.eval()
    plain = logits(texts)

    def loss(temperature: float) -> float:
        return float(-(posterior * special.log_softmax(plain / temperature, axis=1)).sum(axis=1).mean())

    best = optimize.minimize_scalar(loss, bounds=(0.2, 5.0), method="bounded").x
    models = {"softmax": softmax(plain), "cooled": softmax(plain / best)}
    model.train()  # dropout at every site
    torch.manual_seed(31)
    few = texts[: POPULATION // 10]
    passes = np.stack([softmax(logits(few)) for _ in range(2 * SEEDS)])
    return (
        Population("embedded DistilBERT", posterior, models, tasks=("coverage", "slow", "differences")),
        Population(
            "embedded DistilBERT, one dropout pass",
            posterior[: len(few)],
            seeds=passes,
            tasks=("differences",),
        ),
    )


def squared_error(probs: FloatArray, posterior: FloatArray) -> float:
    """What `ece_debiased` estimates, with no label noise: the bins' squared mean residuals, weighted."""
    rows, predicted = np.arange(len(probs)), probs.argmax(axis=1)
    confidence = probs[rows, predicted]
    residual = posterior[rows, predicted] - confidence
    bins = equal_width(BINS).assign(confidence)
    total, held = sums_by_bin((residual, np.ones_like(residual)), bins, BINS)
    return float((total**2 / np.maximum(held, 1.0)).sum() / len(probs))


def target(metric: Metric, probs: FloatArray, posterior: FloatArray) -> float:
    """The metric on the whole population with each label counted by its probability."""
    if metric.needs_posterior:
        return metric.evaluate(Evaluation(probs, probs.argmax(axis=1), posterior))
    if metric is ECE_DEBIASED:
        return squared_error(probs, posterior)
    if metric.moments is None:
        rows, predicted = np.arange(len(probs)), probs.argmax(axis=1)
        kind = next(kind for kind in KINDS if kind.name == metric.name)
        return kind.compute(1.0 - probs[rows, predicted], 1.0 - posterior[rows, predicted])
    sums: Any = 0.0
    for label, weight in enumerate(posterior.T):
        form = metric.moments(Evaluation(probs, np.full(len(probs), label)))
        sums = sums + form.features[:].T @ weight
    return float(form.finish(np.asarray(sums).reshape(1, -1), len(probs))[0])


#: In each process: what `study` works on.
POPULATIONS: list[Population] = []


@cache
def known(which: int, model: str, metric: str) -> float:
    """`target` of a model of `POPULATIONS[which]`, computed once in a process."""
    population = POPULATIONS[which]
    chosen = next(one for one in (*SUMS, *TRUTH, *SLOW) if one.name == metric)
    return target(chosen, population.models[model], population.posterior)


def coverage(which: int, n: int, metrics: Sequence[Metric], seeds: range) -> dict[str, Any]:
    """How many intervals of the first model hold, lie above, or lie below what they are for."""
    population = POPULATIONS[which]
    name = next(iter(population.models))
    targets = [known(which, name, metric.name) for metric in metrics]
    resamples = SLOW_RESAMPLES if metrics is SLOW else RESAMPLES
    found = {
        metric.name: {"target": value, "inside": 0, "above": 0, "below": 0, "none": 0, "sum": 0.0}
        for metric, value in zip(metrics, targets, strict=True)
    }
    for seed in seeds:
        drawn, labels, posterior = population.draw(n, np.random.default_rng([n, seed]))
        evaluation = Evaluation(drawn[name], labels, posterior)
        intervals = bootstrap_intervals(metrics, evaluation, resamples=resamples, seed=seed)
        for metric, truth, interval in zip(metrics, targets, intervals, strict=True):
            counts = found[metric.name]
            counts["sum"] += interval.value or 0.0
            counts[_where(interval, truth)] += 1
    return found


def differences(which: int, n: int, seeds: range) -> dict[str, Any]:
    """How many paired intervals hold the true difference, and how many verdicts there are."""
    population = POPULATIONS[which]
    truths = dict.fromkeys((metric.name for metric in FAMILY), 0.0)
    if population.models:
        first, second = population.models
        for name in truths:
            truths[name] = known(which, second, name) - known(which, first, name)
    found = {
        name: {"truth": truth, "inside": 0, "adjusted": 0, "verdicts": 0, "count": 0}
        for name, truth in truths.items()
    }
    any_verdict, plug_in = 0, np.zeros(2)
    for seed in seeds:
        drawn, labels, _ = population.draw(n, np.random.default_rng([n, seed, 1]))
        names = list(drawn)
        methods = {name: drawn[name] for name in names[1:]}
        shown = compare(drawn[names[0]], methods, labels, resamples=RESAMPLES, seed=seed)
        for one in shown:
            counts = found[one.metric]
            truth = truths[one.metric]
            counts["count"] += 1
            counts["inside"] += _holds(one.difference, truth)
            counts["adjusted"] += _holds(one.adjusted, truth)
            counts["verdicts"] += one.verdict != "no difference shown"
        any_verdict += any(one.verdict != "no difference shown" for one in shown)
        plug_in += [ECE.evaluate(Evaluation(drawn[name], labels)) for name in names[:2]]
    return {"metrics": found, "families": len(seeds), "any": any_verdict, "ece": plug_in.tolist()}


def crossed(which: int, n: int, seeds: range) -> dict[str, Any]:
    """What calibration errors of a cross-fitted temperature read, against new examples and the truth.

    The truth is that of the temperature that is fitted to all n; new examples are n others, given it.
    """
    population = POPULATIONS[which]
    (probs,) = population.models.values()
    found = {
        metric.name: {
            "inside": 0,
            "above": 0,
            "below": 0,
            "none": 0,
            "raw": 0.0,
            "value": 0.0,
            "new": 0.0,
            "squares": 0.0,
        }
        for metric in CROSSED
    }
    for seed in seeds:
        drawn, labels, _ = population.draw(n, np.random.default_rng([n, seed, 2]))
        more, theirs, _ = population.draw(n, np.random.default_rng([n, seed, 3]))
        own, other = drawn["model"], more["model"]
        fitted = cross_fit(Temperature, own, labels, seed=seed)
        whole = Temperature()
        whole.fit(log_of(own), labels)
        truth = whole.transform(log_of(probs))
        refits = [calibrator.transform(log_of(own)) for calibrator in fitted.calibrators]
        raw = Evaluation(fitted.probs, labels)
        hidden = {metric.name: metric.optimism(raw, refits) for metric in CROSSED if metric.optimism}
        read = replace(raw, optimism=hidden)
        new = Evaluation(whole.transform(log_of(other)), theirs)
        intervals = bootstrap_intervals(CROSSED, read, resamples=RESAMPLES, seed=seed)
        for metric, interval in zip(CROSSED, intervals, strict=True):
            assert interval.value is not None
            counts, fresh = found[metric.name], metric.evaluate(new)
            counts[_where(interval, target(metric, truth, population.posterior))] += 1
            counts["raw"] += metric.evaluate(raw)
            counts["value"] += interval.value
            counts["new"] += fresh
            counts["squares"] += (interval.value - fresh) ** 2
    return found


def percentiles(n: int, seeds: range) -> dict[str, Any]:
    """How many intervals of percentiles of n latencies hold the percentile they are for."""
    known = latencies(1_000_000, np.random.default_rng(0))
    found = {
        f"p{q}": {"target": float(np.percentile(known, q)), "inside": 0, "above": 0, "below": 0, "none": 0}
        for q in PERCENTILES
    }
    for seed in seeds:
        sample = latencies(n, np.random.default_rng([n, seed, 4]))
        for q in PERCENTILES:
            interval, counts = percentile_interval(sample, q), found[f"p{q}"]
            counts[_where(interval, counts["target"])] += 1
    return found


def latencies(n: int, rng: np.random.Generator) -> FloatArray:
    """Milliseconds of n requests: log-normal, and one in twenty three times as long."""
    return 10.0 * np.exp(0.2 * rng.normal(size=n)) * np.where(rng.random(n) < 0.05, 3.0, 1.0)


def _where(interval: Interval, truth: float) -> str:
    """Where the interval lies, seen from the truth; "none" where there is none."""
    if interval.low is None or interval.high is None:
        return "none"
    return "above" if truth < interval.low else "below" if truth > interval.high else "inside"


def _holds(interval: Interval, truth: float) -> bool:
    # Differences of models that never differ are exactly zero, up to rounding.
    assert interval.low is not None
    assert interval.high is not None
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def _start(populations: list[Population]) -> None:
    POPULATIONS.extend(populations)


def _work(task: tuple[str, int, int, range]) -> tuple[str, int, int, dict[str, Any]]:
    kind, which, n, seeds = task
    if kind == "differences":
        return kind, which, n, differences(which, n, seeds)
    if kind == "crossed":
        return kind, which, n, crossed(which, n, seeds)
    if kind == "percentiles":
        return kind, which, n, percentiles(n, seeds)
    return kind, which, n, coverage(which, n, SLOW if kind == "slow" else SUMS + TRUTH, seeds)


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts added up, recursively; what is fixed by the population is kept."""
    total: dict[str, Any] = {}
    for key, value in parts[0].items():
        if isinstance(value, dict):
            total[key] = merged([part[key] for part in parts])
        elif isinstance(value, list):
            total[key] = np.sum([part[key] for part in parts], axis=0).tolist()
        else:
            total[key] = value if key in ("target", "truth") else sum(part[key] for part in parts)
    return total


def chunks_of(replications: int) -> list[range]:
    """The seeds of all replications, in parts that processes take in turn."""
    pieces = np.array_split(np.arange(replications), max(1, min(replications // 50, 20)))
    return [range(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def study(populations: list[Population], replications: int, jobs: int) -> list[dict[str, Any]]:
    """Every task over all replications, in chunks spread over processes."""
    tasks = [
        (kind, which, n)
        for which, population in enumerate(populations)
        for kind in population.tasks
        for n in (population.sizes if kind in ("coverage", "differences") else OTHER_SIZES[kind])
    ]
    tasks += [("percentiles", 0, n) for n in LATENCIES]
    # The longest first, so that no process is left with one at the end.
    tasks.sort(key=lambda task: -task[2])
    split = [
        (*task, chunk)
        for task in tasks
        for chunk in chunks_of(round(replications * populations[task[1]].share))
    ]
    parts: dict[tuple[str, int, int], list[dict[str, Any]]] = {task: [] for task in tasks}
    with ProcessPoolExecutor(jobs, initializer=_start, initargs=(populations,)) as pool:
        for done, (kind, which, n, found) in enumerate(pool.map(_work, split), start=1):
            parts[kind, which, n].append(found)
            if sys.stderr.isatty():
                print(f"\r{done} of {len(split)}", end="", file=sys.stderr, flush=True)
    return [
        {
            "kind": kind,
            "population": "latencies" if kind == "percentiles" else populations[which].title,
            "n": n,
            "replications": round(replications * populations[which].share),
            "found": merged(found),
        }
        for (kind, which, n), found in parts.items()
    ]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[1] / "results")
    arguments = parser.parse_args()
    start = sum(os.times()[:4])
    populations = [
        *embedded(),
        tempered("calibrated", 1, 2, 2.0, 1.0),
        tempered("overconfident", 2, 2, 3.0, 0.5),
        tempered("five classes", 3, 5, 2.0, 0.8),
        noisy_seeds("eight noisy seeds", 4, 0.3),
        sharp_and_blunt("sharp and blunt, calibrated", 5, calibrated=True),
        sharp_and_blunt("sharp and blunt, equally off", 6, calibrated=False),
        sure("accuracy .95", 7, 3.6, 1.6, 1.0),
        sure("accuracy .98, too sure", 8, 5.0, 1.6, 0.6),
        sure("accuracy .998", 9, 7.0, 1.2, 1.0),
        confidently_wrong("confidently wrong", 10),
        long_tailed("20 classes, long-tailed", 11, 20, 0.7),
        replace(tempered("150 classes", 12, 150, 3.0, 0.8, 10_000), sizes=(872, 5000), share=0.2),
        replace(tempered("overconfident, cross-fitted", 13, 2, 2.5, 0.5), tasks=("crossed",), share=0.5),
        replace(
            sure("accuracy .98, too sure, cross-fitted", 14, 5.0, 1.6, 0.6), tasks=("crossed",), share=0.5
        ),
    ]
    results = study(populations, arguments.replications, arguments.jobs)
    record = {
        "schema": 1,
        "replications": arguments.replications,
        "resamples": RESAMPLES,
        "population": POPULATION,
        "cpu_minutes": round((sum(os.times()[:4]) - start) / 60.0),
        "results": results,
    }
    folder = arguments.output / "validity"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "validity.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    validity_report.write(record, arguments.output)


if __name__ == "__main__":
    main()
