"""Verdicts on samples with few errors, with and without room for unseen ones -> results/few-errors.md.

Populations of two classes whose posterior is known: the reference is perfectly calibrated. One method doubles
its logits and is truly worse; `temperature`, cross-fitted on the sample, has nothing to repair. "Better" is
then a false alarm. For power the reference is overconfident (its logits 1.7 times too large) and the method
is the posterior itself, which is truly better.

    python scripts/few_errors.py [--samples 100] [--check]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibench.compare import unseen
from calibench.compare.verdicts import Pair, compare_pairs
from calibench.metrics.calibration import ECE_DEBIASED
from calibench.posthoc import cross_fit, log_of
from calibench.posthoc.temperature import Temperature
from calibench.types import Evaluation, FloatArray

RESULT = Path(__file__).resolve().parents[1] / "results" / "few-errors.md"
ACCURACIES = (0.90, 0.95, 0.98, 0.99, 0.998)
SIZES = (50, 100, 300, 872, 2000)
METRICS = ("nll", "brier", "ece_debiased")
OVERCONFIDENT = 1.7


def two(logits: FloatArray) -> FloatArray:
    """Probabilities of two classes, float64 [N, 2], from the second's log-odds."""
    second = 1.0 / (1.0 + np.exp(-logits))
    return np.stack([1.0 - second, second], axis=1)


def population(accuracy: float) -> FloatArray:
    """Log-odds of being right, of a model whose accuracy is about this."""
    rng = np.random.default_rng(1)
    return np.log(accuracy / (1.0 - accuracy)) + 0.5 * rng.normal(size=200_000)


def better(reference: FloatArray, methods: dict[str, Evaluation], labels: np.ndarray) -> set[str]:
    """The methods that are called better in any of `METRICS`."""
    base = Evaluation(reference, labels)
    found = compare_pairs([Pair(name, base, own) for name, own in methods.items()], resamples=20, seed=0)
    return {item.method for item in found if item.metric in METRICS and item.verdict == "better"}


def scaled(probs: FloatArray, labels: np.ndarray, seed: int) -> Evaluation:
    """A cross-fitted temperature, with what cross-fitting hides from its calibration error."""
    fitted = cross_fit(Temperature, probs, labels, seed=seed)
    refits = [calibrator.transform(log_of(probs)) for calibrator in fitted.calibrators]
    read = Evaluation(fitted.probs, labels)
    assert ECE_DEBIASED.optimism is not None
    return replace(read, optimism={"ece_debiased": ECE_DEBIASED.optimism(read, refits)})


def shares(accuracy: float, n: int, samples: int) -> tuple[float, list[dict[str, float]]]:
    """Mean number of errors, and the share of samples in which each method is called better: without room
    for unseen errors, and with it."""
    odds = population(accuracy)
    errors, counts = 0, [dict.fromkeys(("sharp", "temperature", "true"), 0) for _ in range(2)]
    enough = unseen.ENOUGH
    for sample in range(samples):
        rng = np.random.default_rng([n, sample])
        chosen = odds[rng.integers(0, len(odds), n)]
        labels = (rng.random(n) < 1.0 / (1.0 + np.exp(-chosen))).astype(np.int64)
        errors += int((labels == 0).sum())
        calibrated = two(chosen)
        sharp = Evaluation(two(2.0 * chosen), labels)
        methods = {"sharp": sharp, "temperature": scaled(calibrated, labels, sample)}
        for room, counted in zip((0, enough), counts, strict=True):
            unseen.ENOUGH = room
            called = better(calibrated, methods, labels)
            called |= better(two(OVERCONFIDENT * chosen), {"true": Evaluation(calibrated, labels)}, labels)
            for name in called:
                counted[name] += 1
    return errors / samples, [{name: count / samples for name, count in one.items()} for one in counts]


def table(samples: int) -> str:
    """The document."""
    error = 100 * np.sqrt(0.05 * 0.95 / samples)
    lines = [
        "# Verdicts on samples with few errors",
        "",
        f"`python scripts/few_errors.py --samples {samples}`: of {samples} samples each, the share in",
        "which a method is called better than the reference in NLL, Brier score or debiased ECE²,",
        "without and with the room that `calibench.compare.unseen` makes for errors that a sample does",
        "not hold. Logits doubled: truly worse than the reference. Temperature: cross-fitted on a",
        "reference that is calibrated already. Both should read 2.5% at the most. Posterior: truly",
        "better than an overconfident reference; the more the better. A share of 5% has a standard",
        f"error of {error:.1f} points.",
        "",
        "| accuracy | examples | errors | logits doubled | temperature | posterior |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for accuracy in ACCURACIES:
        for n in SIZES:
            errors, (before, after) = shares(accuracy, n, samples)
            cells = [f"{before[name]:.0%} -> {after[name]:.0%}" for name in ("sharp", "temperature", "true")]
            lines.append(f"| {accuracy:g} | {n:,} | {errors:.1f} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the document, or say whether it is current."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--check", action="store_true", help="say whether the document is what this makes")
    given = parser.parse_args()
    text = table(given.samples)
    if given.check:
        raise SystemExit(
            0 if RESULT.read_text(encoding="utf-8") == text else f"{RESULT.name} is not current."
        )
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
